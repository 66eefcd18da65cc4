"""Disks that are full or cannot be written: one line, nothing lost, and the same command goes on."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import fitsio
import pytest

from specprod.cli.main import main
from support.digests import digests
from support.disks import mounted, remount
from support.server import Server

ZPIX = "spectro/redux/sample/zcatalog/zall-pix-sample.fits"


@pytest.fixture
def tree(sample_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_root, tmp_path / "tree"))


def run(tree: Path, target: str, *more: str) -> int:
    return main(["run", str(tree), "--specprod", "sample", "--database", target, "--quiet", *more])


@pytest.fixture(scope="module")
def undisturbed(
    sample_root: Path, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, tuple[int, str]]]:
    url, path = server.create_database(f"disks_{os.getpid()}"), str(tmp_path_factory.mktemp("clean") / "specprod.db")
    for target in (url, path):
        assert run(sample_root, target) == 0
    return {"postgresql": digests(url), "sqlite": digests(path)}


def test_full_disk(
    tree: Path,
    tmp_path: Path,
    undisturbed: dict[str, dict[str, tuple[int, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with mounted(tmp_path / "small", "700k") as place:
        target = place / "specprod.db"
        assert run(tree, str(target)) == 1
        assert "full" in capsys.readouterr().err
        remount(place, "size=64m")
        assert run(tree, str(target)) == 0
        assert digests(str(target)) == undisturbed["sqlite"]


def test_read_only_file(
    tree: Path,
    tmp_path: Path,
    undisturbed: dict[str, dict[str, tuple[int, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A database on a disk that cannot be written, whoever the user is."""
    with mounted(tmp_path / "small", "64m") as place:
        target = str(place / "specprod.db")
        assert run(tree, target, "--stage", "exposures") == 0
        before = digests(target)
        remount(place, "ro")
        capsys.readouterr()
        assert run(tree, target) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert "specprod.db" in lines[0]
        assert "read-only" in lines[0].lower() or "readonly" in lines[0].lower()
        assert digests(target) == before
        remount(place, "rw")
        assert run(tree, target) == 0
        assert digests(target) == undisturbed["sqlite"]


def test_full_tablespace(
    tree: Path,
    tmp_path: Path,
    server: Server,
    undisturbed: dict[str, dict[str, tuple[int, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"small_{os.getpid()}"
    directory = server.directory if os.geteuid() == 0 else tmp_path
    with mounted(directory / "small", "1200k") as place:
        space = place / "space"
        space.mkdir()
        if os.geteuid() == 0:
            shutil.chown(space, "postgres")
        server.execute(f"CREATE TABLESPACE {name} LOCATION '{space}'")
        url = server.create_database(name)
        server.execute(f"ALTER DATABASE {name} SET default_tablespace = {name}")
        try:
            assert run(tree, url) == 1
            # The server says the second where a part of the page still found its place.
            message = capsys.readouterr().err
            assert "No space left" in message or "could not extend file" in message
            remount(place, "size=200m")
            assert run(tree, url) == 0, capsys.readouterr().err
            assert digests(url) == undisturbed["postgresql"]
        finally:
            # A tablespace that is unmounted while in use stops every checkpoint of the server.
            remount(place, "size=200m")
            server.drop_database(name)
            server.execute(f"DROP TABLESPACE {name}")


def test_a_full_disk_of_rejects(
    tree: Path, tmp_path: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a line is never left behind, and what was rejected is not loaded as if nothing had been."""
    with fitsio.FITS(str(tree / ZPIX), "rw") as file:
        rows = file["ZCATALOG"].read()
        rows["SURVEY"] = "nowhere"
        file["ZCATALOG"].write(rows)
    with mounted(tmp_path / "small", "8k") as place:
        rejects = place / "rejects.csv"
        assert run(tree, database_target, "--rejects", str(rejects), "--chunksize", "20") == 2
        message = capsys.readouterr().err.strip()
        assert len(message.splitlines()) == 1
        assert "rejects.csv" in message
        assert "No space left" in message
        with rejects.open() as stream:
            assert all(len(line) == 6 for line in csv.reader(stream))
        remount(place, "size=1m")
        assert run(tree, database_target, "--rejects", str(rejects), "--chunksize", "20") == 3
        with rejects.open() as stream:
            found = {int(line["row"]) for line in csv.DictReader(stream)}
    targetid = rows["TARGETID"]
    assert found == set(((targetid > 0) & ((targetid >> 59) & 1 == 0)).nonzero()[0].tolist())
