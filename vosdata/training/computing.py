"""How PyTorch computes during a run: with how many threads, and whether only in ways that repeat to the bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vosdata.recipe import RunRecipe

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def computing_as(recipe: RunRecipe) -> Iterator[None]:
    """Sets PyTorch up as a recipe says, until the end of the ``with`` block; then it is as it was before.

    ``run.deterministic``: every operation uses a deterministic algorithm or raises ``RuntimeError``; cuDNN neither
    chooses by speed nor uses algorithms that add up in changing order; cuBLAS gets workspaces of a fixed size, which
    takes effect if nothing has been computed on the GPU before.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn, workspaces = (
        (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        os.environ.get(CUBLAS_VARIABLE),
    )
    try:
        if recipe.compute_threads is not None:
            torch.set_num_threads(recipe.compute_threads)
        if recipe.deterministic:
            os.environ.setdefault(CUBLAS_VARIABLE, ":4096:8")
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        yield
    finally:
        torch.set_num_threads(threads)
        if recipe.deterministic:
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
            if workspaces is None:
                os.environ.pop(CUBLAS_VARIABLE, None)
