"""What the project promises of itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from specprod.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = ("numpy", "astropy", "sqlalchemy", "fitsio", "rich", "scipy", "psycopg")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


@pytest.mark.compat
@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str) -> None:
    words = [sys.executable, "-m", "specprod.cli.main", name, "--help"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "Example" in text
    assert f"specprod-load {name}" in " ".join(text.split())
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.rst"))
    assert f"specprod-load {name}" in pages, "no page of the documentation names the command"


def test_help_is_fast_and_light() -> None:
    code = "import sys; from specprod.cli.main import main; main(['--help']); print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "click" in modules
    assert not set(HEAVY).intersection(modules)
    best = 9.0
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "specprod.cli.main", "--help"], stdout=subprocess.DEVNULL, check=True)
        best = min(best, time.perf_counter() - start)
    assert best < 0.3


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_source(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    tree = ast.parse(text)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    if "cli" not in path.parts:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


def test_no_paths_of_a_machine() -> None:
    found = []
    for path in tracked():
        if path.suffix in (".fits", ".gz", ".fz"):
            continue
        found += [path.name for _ in re.findall(r"/(?:work|root)/\w", path.read_text(errors="replace"))]
    assert found == []
