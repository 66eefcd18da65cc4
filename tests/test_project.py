"""What the project promises of itself."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
import time
import tomllib
from pathlib import Path

import fitsio
import numpy as np
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
    assert f"specprod-load {name} " in " ".join(text.split("Example", 1)[1].split()) + " "
    assert max(map(len, text.splitlines())) <= 120
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.rst"))
    assert f"specprod-load {name}" in pages, "no page of the documentation names the command"
    assert f"specprod-load {name}``" in (ROOT / "CHANGES.rst").read_text()


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from specprod.cli.main import main; main(['--help']); print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "click" in modules
    assert not set(HEAVY).intersection(modules)


def test_help_is_fast() -> None:
    command = Path(sys.executable).with_name("specprod-load")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([command, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_connect_is_imported_when_it_is_asked_for() -> None:
    code = (
        "import sys, specprod; light = 'sqlalchemy' not in sys.modules; "
        "print(light, specprod.__version__, specprod.connect.__module__, 'sqlalchemy' in sys.modules)"
    )
    words = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert words == ["True", declared, "specprod.database.connection", "True"]


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


def test_files_that_pages_name_are_there() -> None:
    pages = [ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", ROOT / "CHANGES.rst", *(ROOT / "docs").glob("*.rst")]
    names = {
        name
        for page in pages
        for name in re.findall(r"(?<![\w/~.{}-])((?:bin|data|docs|etc|src|tests|bench)/[\w./-]*\w)", page.read_text())
    }
    assert {"bin/test", "bin/quickstart", "data/sample"} <= names
    made = {"docs/_build"}
    assert [name for name in sorted(names - made) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["bin/test", "bin/quickstart", "bin/submit-batch", ".ci/run"])
def test_scripts_can_be_run(name: str) -> None:
    listed = subprocess.run(["git", "ls-files", "-s", name], cwd=ROOT, capture_output=True, text=True, check=True)
    assert listed.stdout.startswith("100755")
    assert (ROOT / name).read_text().startswith("#!/")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("bin/test", ["--slow"]),
        ("bin/test", ["tests/test_project.py"]),
        ("bin/quickstart", ["--slow"]),
        ("bin/quickstart", ["one.db", "two.db"]),
    ],
)
def test_wrong_arguments_of_scripts(script: str, words: list[str]) -> None:
    done = subprocess.run([ROOT / script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{script}: ")
    assert len(done.stderr.splitlines()) == 1


def test_committed_sample_is_what_the_command_writes(tmp_path: Path) -> None:
    shape = ["--tiles", "2", "--assigned", "40", "--potential", "80", "--seed", "1", "--compact"]
    command = [sys.executable, "-m", "specprod.cli.main", "sample", str(tmp_path / "sample"), *shape]
    subprocess.run(command, capture_output=True, check=True)
    ours, made = ({p.relative_to(top) for p in top.rglob("*.*")} for top in (ROOT / "data/sample", tmp_path / "sample"))
    assert ours == made
    # The last bits of angles depend on the processor; keys and shapes do not.
    lists = [json.loads((top / "sample.json").read_text()) for top in (ROOT / "data/sample", tmp_path / "sample")]
    assert lists[0] == lists[1]
    for name in (name for name in lists[0]["files"] if "zall" in name or "tractorphot" in name):
        here, there = (
            fitsio.read(top / name, columns="TARGETID") for top in (ROOT / "data/sample", tmp_path / "sample")
        )
        assert here.tolist() == there.tolist()


@pytest.mark.compat
def test_examples_of_the_readme(tmp_path: Path) -> None:
    blocks = re.findall(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", (ROOT / "README.rst").read_text())
    assert len(blocks) == 2
    command = [sys.executable, "-m", "specprod.cli.main", "run", str(ROOT / "data/sample"), "--specprod", "sample"]
    subprocess.run([*command, "--database", "specprod.db"], cwd=tmp_path, capture_output=True, check=True)
    code = "\n".join(textwrap.dedent(block) for block in blocks)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    *galaxies, near = done.stdout.splitlines()

    photometry = ROOT / "data/sample/vac/sample/lsdr9-photometry/sample/v1.0/potential-targets"
    tractor = [fitsio.read(path, "TRACTORPHOT") for path in (photometry / "tractorphot").glob("*.fits")]
    targets = [fitsio.read(path, "TARGETPHOT") for path in photometry.glob("targetphot-*.fits")]
    flux, places = {}, {}
    for table in [*targets, *tractor]:  # What Tractor has goes before.
        flux.update(zip(table["TARGETID"].tolist(), table["FLUX_R"].tolist(), strict=True))
        places.update(zip(table["TARGETID"].tolist(), zip(table["RA"], table["DEC"], strict=True), strict=True))

    rows = fitsio.read(ROOT / "data/sample/spectro/redux/sample/zcatalog/zall-pix-sample.fits", "ZCATALOG")
    rows = rows[(rows["TARGETID"] > 0) & (rows["TARGETID"] >> 59 & 1 == 0)]
    best = rows[(rows["SPECTYPE"] == "GALAXY") & (rows["ZWARN"] == 0) & (rows["Z"] > 1.3) & rows["ZCAT_PRIMARY"]]
    best = np.sort(best, order="TARGETID")
    assert best.size
    assert galaxies == [f"{row['DESINAME'].strip()} {row['Z']:.4f} {flux[int(row['TARGETID'])]:.2f}" for row in best]

    ra, dec = np.radians(np.array(list(places.values()), dtype=float)).T
    ra_0, dec_0 = np.radians(143.7), np.radians(32.3)
    cosine = np.sin(dec) * np.sin(dec_0) + np.cos(dec) * np.cos(dec_0) * np.cos(ra - ra_0)
    count = int((np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 0.05).sum())
    assert count
    assert near == f"{count} sources within 3 arcminutes"
