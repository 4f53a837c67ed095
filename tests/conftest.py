"""Fixtures that every room's tests share: where real data and golden numbers lie, and tiny videos made at run time."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _existing(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.is_dir():
        pytest.skip(f"no such folder: set {variable} to run this test")
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of small real data: davis/, davis2016/, ytvos/, msra10k/, voc2012/, coco/, nasty/."""
    return _existing("VOSDATA_TEST_DATA", SHARED / "real")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of outputs of the published A-GAME and of the official DAVIS scorer."""
    return _existing("VOSDATA_GOLDEN", SHARED / "golden")
