"""What a piece of work spends its time on, by kind of operation: what bounds it."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "convolutions": ("aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::_slow_conv2d_forward"),
    "their gradients": ("aten::convolution_backward",),
    "matrix products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::mkldnn_linear"),
}
"""Everything else is "the rest"."""


def time_shares(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Shares of the time of all operations, adding up to 1: the GPU's time on a GPU, else this process's."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiled:
        work()
    times: dict[str, float] = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in profiled.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key in names), "the rest")
        times[kind] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    return {kind: time / sum(times.values()) for kind, time in times.items()}
