"""Workers keep the memory that they free."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from shards.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print(-1)
    sys.exit()
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_arrays_take_memory_that_was_freed_before() -> None:
    kept = faults("keep")
    if kept < 0:
        pytest.skip("the C library has no mallopt")
    assert kept < faults("leave") / 4
