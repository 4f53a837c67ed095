"""Workers and trainings keep the memory that they free."""

import platform
import resource
import subprocess
import sys

import pytest

from shards.memory import keeping_freed_memory

BLOCK = 64 * 2**20
"""Bytes."""

ALL_PAGES = BLOCK // resource.getpagesize()
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")

CODE = """
import resource, sys
import numpy as np
from shards.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for number in range(30):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    # each larger than the one before, so that glibc's own growing threshold does not keep it
    np.ones((20 + number) * 2**17, np.uint8), np.ones(2**20 - number, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@glibc
def test_arrays_take_memory_that_was_freed_before() -> None:
    assert faults("keep") < faults("leave") / 4


def pages_made() -> int:
    """Pages that are made anew for a block that is filled and freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"1" * BLOCK  # NumPy would ask for large pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_a_large_block_is_made_anew_no_more_and_given_back_at_the_end() -> None:
    pages_made()
    assert pages_made() > ALL_PAGES // 2
    with keeping_freed_memory():
        for _ in range(15):  # some blocks lie about before there is a place that fits
            pages_made()
        assert sum(pages_made() for _ in range(5)) < ALL_PAGES // 2
    assert pages_made() > ALL_PAGES // 2
