"""What a result was measured on, and the environment of the peers."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PEERS = ("torch", "numpy", "opencv-python-headless", "pillow", "webdataset", "mosaicml-streaming", "litdata", "spdl")


def machine(peers_python: Path | None) -> dict[str, Any]:
    """Processor, cores, memory, whether it is virtual, and versions."""
    cpu = Path("/proc/cpuinfo").read_text()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": date.today().isoformat(),
        "command": "python " + " ".join(sys.argv),
        "cpu": _processor(cpu),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "virtual_machine": "hypervisor" in cpu,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("vosdata", "torch", "numpy", "simplejpeg", "zlib-ng")},
        "peers": _peer_versions(peers_python),
    }


def _processor(cpuinfo: str) -> str:
    """Name, family and model of a processor: virtual machines on several generations of EPYCs are all "AMD EPYC"."""
    first = cpuinfo.partition("\n\n")[0].splitlines()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}
    name = found.get("model name", "")
    if "cpu family" not in found or "model" not in found:
        return name
    return f"{name}, family {found['cpu family']} model {found['model']}"


def _peer_versions(python: Path | None) -> dict[str, str]:
    if python is None:
        return {}
    code = (
        "import json, importlib.metadata as m\n"
        f"names = {_PEERS!r}\n"
        "here = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({name: here[name] for name in names if name in here}))"
    )
    text = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(json.loads(text))


def other_environment(folder: Path, requirements: Path, say: Callable[[str], None]) -> Path | None:
    """The Python of the peers' environment, which is made first when it is not there; None when that fails."""
    python = folder / "bin" / "python"
    if python.exists():
        return python
    lines = requirements.read_text().splitlines()
    needed = [line.partition("#")[0].strip() for line in lines if "# optional" not in line]
    optional = [line.partition("#")[0].strip() for line in lines if "# optional" in line]
    say(f"installing the peers into {folder}")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    needed = [line for line in needed if line]
    run = subprocess.run([*pip, *needed], capture_output=True, text=True, check=False)
    if run.returncode:
        say(f"  the peers do not install: {(run.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        return None
    for one in optional:
        if subprocess.run([*pip, *needed, one], capture_output=True, check=False).returncode:
            say(f"  {one} does not install and is left out")
    return python
