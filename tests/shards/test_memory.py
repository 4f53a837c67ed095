"""Workers and trainings keep the memory that they free; each in a process of its own, whose heap is still small."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")

COUNT = """
import resource, sys
import numpy as np
from shards.memory import keep_freed_memory, keeping_freed_memory

def pages_made(work, times=1):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for number in range(times):
        work(number)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def growing(number):  # each larger than the one before, so that glibc's own growing threshold does not keep it
    np.ones((20 + number) * 2**17, np.uint8), np.ones(2**20 - number, np.uint8)

def large(number):  # NumPy would ask for large pages
    b"1" * (64 * 2**20)
"""
ALL_PAGES = 64 * 2**20 // 4096


def counts(code: str) -> list[int]:
    usual = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}  # large pages count as one
    run = subprocess.run([sys.executable, "-c", COUNT + code], capture_output=True, text=True, check=True, env=usual)
    return [int(count) for count in run.stdout.split()]


def test_arrays_take_memory_that_was_freed_before() -> None:
    code = "pages_made(growing, 10); print(pages_made(lambda number: growing(10 + number), 20))"
    (kept,), (left,) = counts("assert keep_freed_memory();" + code), counts(code)
    assert kept < left / 4


def test_a_large_block_is_made_anew_no_more_and_given_back_at_the_end() -> None:
    code = """
large(0)
print(pages_made(large))
with keeping_freed_memory():
    for _ in range(15):  # some blocks lie about before there is a place that fits
        large(0)
    print(pages_made(large, 5))
print(pages_made(large))
"""
    before, during, after = counts(code)
    assert during < ALL_PAGES // 2 < min(before, after)
