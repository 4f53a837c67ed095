"""Compiles an A-GAME's recurrent part: fewer and larger kernels, where launching small ones is what takes the time.

Only what runs once per frame is compiled: finding the targets in a frame, and taking it into what is remembered. The
backbone and the upsampling work on all frames of a snippet at once; there the kernels are large anyway.
"""

import torch

from vosdata.models.agame.network import AGAME

_PER_FRAME = ("locate", "remember")


def compile_heads(model: AGAME) -> None:
    """Makes a network use compiled code for its recurrent part; results stay the same but for rounding.

    The first calls compile, which takes a minute or so; each further number of targets compiles once more. Parameters
    and their names stay as they are. On a CPU this needs a C++ compiler, on a GPU Triton; PyTorch says so when it lacks
    them.

    Args:
        model: changed in place, for training and for video alike.
    """
    for name in _PER_FRAME:
        setattr(model, name, torch.compile(getattr(model, name)))
