"""Every command that changes or checks a database is one execution in its ledger, and knows what production it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from specprod.cli.main import main
from specprod.database import connect
from specprod.sample import write_sample
from support.digests import digests


def where(target: str) -> list[str]:
    return ["--database", target, *(["--schema", "sample"] if target.startswith("postgresql") else [])]


def runs(target: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["status", *where(target), "--json"]) == 0
    return list(json.loads(capsys.readouterr().out)["runs"])


def test_every_command_is_recorded(
    sample_root: Path, database_target: str, patch_files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--specprod", "sample", *where(database_target), "--quiet"]
    tree = str(sample_root)
    assert main(["run", tree, *own]) == 0
    assert main(["index", *where(database_target)]) == 0
    assert main(["primary", *where(database_target)]) == 0
    assert main(["verify", tree, *own]) == 0
    assert main(["coeff-fix", "load", *patch_files, *own]) == 0
    assert main(["coeff-fix", "apply", *own, "--backup"]) == 0
    assert main(["coeff-fix", "undo", *own]) in (0, 1)
    found = [(item["name"], item["state"]) for item in runs(database_target, capsys)]
    names = ["run", "index", "primary", "verify", "coeff-fix apply", "coeff-fix undo"]
    assert [name for name, _ in found] == names
    assert {state for name, state in found if name != "coeff-fix undo"} == {"done"}


def test_a_database_knows_its_production(
    sample_root: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tile of one production does not go into the tables of another."""
    other = tmp_path / "other"
    write_sample(other, tiles=2, targets_per_tile=30, potentials_per_tile=60, seed=8, specprod="daily")
    tileid = next(int(path.name) for path in sorted((other / "spectro/redux/daily/tiles/cumulative").iterdir()))
    assert main(["run", str(sample_root), "--specprod", "sample", *where(database_target), "--quiet"]) == 0
    before = digests(database_target)
    capsys.readouterr()
    assert main(["tile", str(other), str(tileid), "--specprod", "daily", *where(database_target), "--quiet"]) == 1
    assert "holds a production with specprod 'sample', but 'daily' is asked for" in capsys.readouterr().err
    assert digests(database_target) == before
    # Another tree of the same name, while the one that was loaded is still there.
    copy = Path(shutil.copytree(sample_root, tmp_path / "copy"))
    assert main(["run", str(copy), "--specprod", "sample", *where(database_target), "--quiet"]) == 1
    assert f"was loaded from {sample_root}, which is still there" in capsys.readouterr().err


def test_a_tree_may_move(
    sample_root: Path, database_target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Path(shutil.copytree(sample_root, tmp_path / "here"))
    assert main(["run", str(tree), "--specprod", "sample", *where(database_target), "--quiet"]) == 0
    moved = tree.rename(tmp_path / "there")
    assert main(["run", str(moved), "--specprod", "sample", *where(database_target), "--quiet"]) == 0


def test_a_run_that_was_killed_is_shown_as_such(
    sample_root: Path, database_target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once by status, and in the ledger as soon as another command holds the database."""
    words = ["run", str(sample_root), "--specprod", "sample", *where(database_target), "--quiet", "--chunksize", "5"]
    command = [sys.executable, "-m", "specprod.cli.main", *words]
    process = subprocess.Popen(command, start_new_session=True)
    with connect(database_target, schema="sample", create=True) as database:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not running(database):
            time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (run,) = runs(database_target, capsys)
    assert run["state"] == "failed"
    assert run["message"] == f"Killed: process {process.pid} ended without a word"
    assert main(words) == 0
    first, second = runs(database_target, capsys)
    assert (first["state"], second["name"], second["state"]) == ("failed", "run", "done")
    assert "running" not in first["stages"].values()
    with connect(database_target, schema="sample") as database, database.connect() as connection:
        query = f"SELECT state FROM {database.name('pipeline_execution')} ORDER BY id"
        assert connection.exec_driver_sql(query).scalars().all() == ["failed", "done"]


def running(database: Any) -> bool:
    from specprod.results.orm import OrmPipelineResultsStorage

    storage = OrmPipelineResultsStorage(database)
    return storage.exists() and any(storage.get_task_results())
