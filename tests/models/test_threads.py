"""What only shows with more than one thread."""

import subprocess
import sys

NARROW_BACKWARD = """
import torch
from vosdata.models.resnet import ResNet
torch.set_num_threads(2)
net = ResNet("resnet18", 8, "stem", "joint").to(memory_format=torch.channels_last).train()
for _ in range(12):
    sum(level.sum() for level in net(torch.randn(3, 3, 96, 160), 1)).backward()
"""


def test_a_narrow_backbone_learns_from_an_odd_number_of_frames_without_damaging_memory() -> None:
    """In a process of its own: with a strided 1x1 convolution in the shortcut this one crashes."""
    assert subprocess.run([sys.executable, "-c", NARROW_BACKWARD], check=False, timeout=600).returncode == 0
