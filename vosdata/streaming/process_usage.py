"""What a process has used of the machine so far."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters of a process since its start; a difference of two says what happened in between."""

    cpu_seconds: float
    """Of all threads, in user and kernel mode; counted in steps of about 10 ms."""

    page_faults: int
    """Pages that were touched without being there, not counting those read from a disk."""

    def __sub__(self, earlier: "Usage") -> "Usage":
        return Usage(self.cpu_seconds - earlier.cpu_seconds, self.page_faults - earlier.page_faults)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_seconds + other.cpu_seconds, self.page_faults + other.page_faults)


def read_usage(pid: int) -> Usage | None:
    """The counters of a running process; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[7]))
