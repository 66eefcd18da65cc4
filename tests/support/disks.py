"""Small file systems, which get full, and can be made read-only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["mounted", "remount"]


@contextlib.contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system of some size in a directory of this name; where that cannot be, CI fails."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(place)]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        reason = f"NOT TESTED: a small file system cannot be mounted here: {done.stderr.decode().strip()}"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, option: str) -> None:
    """Mount it again, as ``ro``, or with ``size=64m``."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)
