"""The primary spectrum of a target, in zpix and in ztile, against a computation in numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from specprod.cli.main import main
from specprod.database import connect
from specprod.sample import write_sample
from support.tiles import TILES, execute, load, opened, rows

GROUPS = {"zcat": ("main", "sv1", "sv2", "sv3", "special", "cmx"), "sv": ("sv1", "sv2", "sv3"), "main": ("main",)}
COLUMNS = ", ".join(f"{group}_{what}" for group in GROUPS for what in ("nspec", "primary"))


def expected(table: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """nspec and primary by group, of rows (id, targetid, survey, zwarn, tsnr2_lrg), by loops that hide nothing."""
    ids = [int(row[0]) for row in table]
    targetid = np.array([row[1] for row in table])
    survey = np.array([row[2] for row in table])
    columns: list[np.ndarray] = []
    for surveys in GROUPS.values():
        nspec = np.zeros(len(table), dtype=int)
        primary = np.zeros(len(table), dtype=bool)
        inside = np.isin(survey, surveys)
        for target in np.unique(targetid[inside]):
            mine = np.flatnonzero(inside & (targetid == target))
            nspec[mine] = mine.size
            primary[min(mine, key=lambda i: (table[i][3] != 0, -table[i][4], ids[i]))] = True
        columns += [nspec, primary]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def check(target: str, table: str) -> int:
    found = rows(target, table, f"id, targetid, survey, zwarn, tsnr2_lrg, {COLUMNS}")
    assert [tuple(int(v) for v in row[5:]) for row in found] == [
        tuple(int(v) for v in row) for row in expected([row[:5] for row in found])
    ]
    return len(found)


@pytest.fixture(scope="module")
def split_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("split") / "tree"
    write_sample(
        root, tiles=4, targets_per_tile=60, potentials_per_tile=150, seed=2, tile_inputs=True, compact=True, split=True
    )
    return root


def scramble(target: str, table: str) -> None:
    """Many spectra of few targets, ties, and warnings; all columns of the result wrong."""
    with opened(target) as connection:
        numbers = [row[0] for row in connection.execute(f"SELECT id FROM {table} ORDER BY id").fetchall()]
        targets = [row[0] for row in connection.execute("SELECT targetid FROM photometry ORDER BY targetid").fetchall()]
    random = np.random.default_rng(7)
    surveys = np.array(["main", "sv1", "sv2", "sv3", "special", "cmx"])
    mark = "%s" if target.startswith("postgresql") else "?"
    pool = random.choice(targets, 40, replace=False)
    with opened(target) as connection:
        for number in numbers:
            values = (
                int(random.choice(pool)),
                str(random.choice(surveys)),
                int(random.integers(0, 2) * 4),
                float(random.integers(0, 4) * 2.5),
            )
            connection.execute(
                f"UPDATE {table} SET targetid = {mark}, survey = {mark}, zwarn = {mark}, tsnr2_lrg = {mark}, "
                f"sv_nspec = 99, main_primary = (zwarn = 0) WHERE id = {mark}",
                (*values, number),
            )


def primary(target: str) -> None:
    assert main(["primary", "--database", target, "--schema", "sample", "-q", "--json"]) == 0


def test_against_numpy(split_tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(split_tree), "--specprod", "sample", "--database", database_target, "-q"]) == 0
    # Of split files, whose own primary columns do not count.
    assert check(database_target, "zpix") > 200
    assert check(database_target, "ztile") > 200
    for table in ("zpix", "ztile"):
        # Which targets there are does not matter here, but that each has many spectra does.
        execute(database_target, f"DROP INDEX {'sample.' if 'post' in database_target else ''}ix_{table}_unique")
        scramble(database_target, table)
    capsys.readouterr()
    primary(database_target)
    changes = json.loads(capsys.readouterr().out)
    for table in ("zpix", "ztile"):
        assert check(database_target, table) == changes[table]
    primary(database_target)
    assert json.loads(capsys.readouterr().out) == {"ztile": 0, "zpix": 0}


def test_only_what_changed_is_written(split_tree: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(split_tree, postgres_url, *TILES, "--primary") == 0
    assert check(postgres_url, "ztile") > 200
    before = dict(rows(postgres_url, "ztile", "id, xmin::text"))
    execute(postgres_url, "UPDATE ztile SET zcat_nspec = 7 WHERE id = (SELECT min(id) FROM ztile)")
    capsys.readouterr()
    primary(postgres_url)
    assert json.loads(capsys.readouterr().out) == {"ztile": 1, "zpix": 0}
    after = dict(rows(postgres_url, "ztile", "id, xmin::text"))
    assert [number for number in before if before[number] != after[number]] == [min(before)]


def test_sky_index_is_not_a_lock(split_tree: Path, postgres_url: str) -> None:
    """The index is refreshed while others read and hold locks; only --cluster rewrites tables."""
    assert load(split_tree, postgres_url, *TILES) == 0
    files = (
        "SELECT relname, relfilenode FROM pg_class WHERE relname IN ('photometry', 'fiberassign', 'tile', 'exposure')"
    )
    with psycopg.connect(postgres_url, options="-c search_path=sample") as reader:
        before = dict(reader.execute(files).fetchall())
        reader.execute("SELECT count(*) FROM photometry").fetchone()
        execute(postgres_url, f"ALTER DATABASE \"{reader.info.dbname}\" SET lock_timeout = '2s'")
        # The reader's transaction is open, and its lock on photometry held.
        primary(postgres_url)
    with opened(postgres_url) as connection:
        assert dict(connection.execute(files).fetchall()) == before
        indexes = {
            row[0] for row in connection.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE '%q3c%'")
        }
    assert indexes == {f"ix_{name}_q3c_ang2ipix" for name in (*before, "zpix", "ztile")}
    assert main(["primary", "--database", postgres_url, "--schema", "sample", "-q", "--cluster"]) == 0
    with opened(postgres_url) as connection:
        after = dict(connection.execute(files).fetchall())
    assert all(after[name] != before[name] for name in before)


def test_without_tables(database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    with connect(database_target, create=True):
        assert main(["primary", "--database", database_target, "-q"]) == 1
    assert "there are no tables ztile and zpix" in capsys.readouterr().err
