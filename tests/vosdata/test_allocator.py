"""Freed memory that is kept for the next step."""

import platform
import resource

import pytest
import torch

from vosdata.training.allocator import keeping_freed_memory

MEBIBYTES = 64
ALL_PAGES = MEBIBYTES * 2**20 // resource.getpagesize()


def faults() -> int:
    """Pages that are made anew by a block that is filled and freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(MEBIBYTES * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_a_large_block_is_made_anew_no_more_and_given_back_at_the_end() -> None:
    faults()
    assert faults() > ALL_PAGES // 2
    with keeping_freed_memory():
        for _ in range(15):  # some blocks lie about before there is a place that fits
            faults()
        assert sum(faults() for _ in range(5)) < ALL_PAGES // 2
    assert faults() > ALL_PAGES // 2
