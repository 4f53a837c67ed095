"""What a measurement needs from the operating system: time and faults of a process tree, and files out of the cache.

Runs in the peers' environment too, so it uses the standard library alone. Linux only.
"""

import ctypes
import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Counters at one moment."""

    wall: float
    """Seconds."""

    cpu: float
    """Seconds of user and system time of this process and all below it."""

    faults: int
    """Minor page faults of the same."""

    machine: float
    """Busy seconds of all cores, whoever used them."""

    @classmethod
    def now(cls, wall: float | None = None) -> "Usage":
        """Reads the counters, which takes milliseconds; ``wall`` is the moment that they are said to belong to."""
        machine, (cpu, faults) = _machine_busy(), _tree()
        return cls(time.perf_counter() if wall is None else wall, cpu, faults, machine)

    def since(self, start: "Usage") -> "Usage":
        return Usage(
            self.wall - start.wall,
            max(0.0, self.cpu - start.cpu),
            max(0, self.faults - start.faults),
            self.machine - start.machine,
        )

    def plus(self, other: "Usage") -> "Usage":
        return Usage(
            self.wall + other.wall, self.cpu + other.cpu, self.faults + other.faults, self.machine + other.machine
        )

    def others(self) -> float:
        """Share of the machine that other processes used."""
        return max(0.0, self.machine - self.cpu) / (self.wall * (os.cpu_count() or 1)) if self.wall else 0.0


NOTHING = Usage(0.0, 0.0, 0, 0.0)


def _tree() -> tuple[float, int]:
    """CPU seconds and minor faults of this process and its living descendants, ended children included."""
    stats: dict[int, tuple[int, float, int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - read often, while a loader runs
        if name.isdecimal():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
            except OSError:  # it has just ended
                continue
            fields = text.rpartition(")")[2].split()
            # after the name: state ppid ... minflt(7) cminflt(8) ... utime(11) stime(12) cutime(13) cstime(14)
            stats[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])) / _TICKS, int(fields[7]) + int(fields[8]))
    inside, added = {os.getpid()}, True
    while added:
        added = False
        for pid, (parent, _, _) in stats.items():
            if parent in inside and pid not in inside:
                inside.add(pid)
                added = True
    own = [stats[pid] for pid in inside if pid in stats]
    return sum(one[1] for one in own), sum(one[2] for one in own)


def _machine_busy() -> float:
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / _TICKS


def evict(folder: Path) -> float:
    """Drops the files of a folder from the page cache; returns the share of their pages that stayed."""
    os.sync()
    resident = pages = 0
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                here, all_pages = _resident(file.fileno(), path.stat().st_size)
                resident, pages = resident + here, pages + all_pages
    return resident / pages if pages else 0.0


def _resident(descriptor: int, size: int) -> tuple[int, int]:
    """Pages of a file that are in memory, and pages in all."""
    num_pages = -(-size // _PAGE)
    with mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        flags = (ctypes.c_ubyte * num_pages)()
        start = ctypes.c_char.from_buffer(mapped)
        status = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), flags)
        del start
    if status != 0:
        return num_pages, num_pages
    return sum(flag & 1 for flag in flags), num_pages
