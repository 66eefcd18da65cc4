"""Malformed files of every kind: no crash without a message, no part of a chunk in any table, no hang."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from astropy.table import Table

from support import forked
from support.digests import TABLES, digests
from support.server import Server

REDUX = "spectro/redux/sample"
Clean = dict[str, tuple[int, str]]
Change = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, chance: random.Random, low: int, high: int) -> None:
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(low, min(high, len(data)))
        data[place] ^= 1 << chance.randrange(8)


def table_header(data: bytearray) -> int:
    """Where the header of the first table begins."""
    return data.index(b"XTENSION=")


def flipped_header(data: bytearray, chance: random.Random) -> None:
    start = table_header(data)
    flip(data, chance, start, start + 2880 * 3)


def flipped_primary(data: bytearray, chance: random.Random) -> None:
    flip(data, chance, 0, 2880)


def flipped_data(data: bytearray, chance: random.Random) -> None:
    flip(data, chance, len(data) // 2, len(data))


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def wrong_number(keyword: bytes) -> Change:
    def change(data: bytearray, chance: random.Random) -> None:
        place = data.index(keyword.ljust(8), table_header(data))
        value = chance.choice([-1, 0, 1, 7, 2**31, 10**15])
        data[place : place + 80] = f"{keyword.decode():8}= {value:>20}".ljust(80).encode()

    return change


def wrong_form(data: bytearray, chance: random.Random) -> None:
    place = data.index(f"TFORM{chance.randint(1, 8)}".encode(), table_header(data))
    form = chance.choice(["J", "8D", "QB", "0A", "1PE(3)", "999999K", "?", "16X", "3C"])
    data[place + 10 : place + 80] = f"'{form}'".ljust(70).encode()


def removed_card(data: bytearray, chance: random.Random) -> None:
    start = table_header(data)
    place = start + 80 * chance.randrange(1, 30)
    data[place : place + 80] = b" " * 80


def doubled_card(data: bytearray, chance: random.Random) -> None:
    start = table_header(data)
    first, second = (start + 80 * chance.randrange(1, 30) for _ in range(2))
    data[first : first + 80] = data[second : second + 80]


def garbage(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start : start + 300] = chance.randbytes(min(300, len(data) - start))


FITS = [
    flipped_header,
    flipped_primary,
    flipped_data,
    cut,
    wrong_number(b"NAXIS1"),
    wrong_number(b"NAXIS2"),
    wrong_number(b"TFIELDS"),
    wrong_number(b"PCOUNT"),
    wrong_form,
    removed_card,
    doubled_card,
    garbage,
]
STREAM = [flipped_data, cut, garbage]


def lost_delimiter(data: bytearray, chance: random.Random) -> None:
    del data[chance.choice([i for i, byte in enumerate(data) if byte in b", \n"])]


def more_delimiters(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place:place] = b",," * chance.randint(1, 4)


def other_word(data: bytearray, chance: random.Random) -> None:
    """One cell or name becomes something else."""
    words = data.replace(b"\n", b",").split(b",")
    old = chance.choice([word for word in words if word])
    new = chance.choice(
        [b"nan", b"", b"1e400", b"9" * 30, b"-1", b"x" * 5000, b"\xff\xfe", b"a\0b", b'"', b"\xc3\xa9" * 9, b"TILEID"]
    )
    place = data.index(old)
    data[place : place + len(old)] = new


def flipped_text(data: bytearray, chance: random.Random) -> None:
    flip(data, chance, 0, len(data))


TEXT = [flipped_text, cut, garbage, lost_delimiter, more_delimiters, other_word]


@dataclass(frozen=True)
class Kind:
    """Files of one kind, the stages that read them, those before, and what can be wrong."""

    pattern: str
    stages: tuple[str, ...]
    before: tuple[str, ...]
    changes: list[Change]
    variants: int


ALL = ("exposures", "photometry", "targetphot", "target", "redshift", "fiberassign")
KINDS = {
    "tiles": Kind(f"{REDUX}/tiles-sample.fits", ALL[:1], (), FITS, 12),
    "exposures": Kind(f"{REDUX}/exposures-sample.fits", ALL[:1], (), FITS, 24),
    "tractorphot": Kind("vac/**/tractorphot*.fits", ALL[1:2], ALL[:1], FITS, 12),
    "targetphot": Kind("vac/**/targetphot*.fits", ALL[2:4], ALL[:2], FITS, 12),
    "redshifts": Kind(f"{REDUX}/zcatalog/zall-pix-sample.fits", ALL[4:5], ALL[:4], FITS, 12),
    "fiberassign": Kind("target/**/*.fits", ALL[5:], ALL[:4], FITS, 12),
    "gzip": Kind("target/**/*.gz", ALL[5:], ALL[:4], STREAM, 12),
    "csv": Kind(f"{REDUX}/tiles-sample.csv", ALL[:1], (), TEXT, 24),
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Memory, where there is a file system in it: hundreds of databases need not reach a disk."""
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    yield directory
    shutil.rmtree(directory)


def load(root: Path, target: str, stages: tuple[str, ...], *more: str) -> forked.Done:
    words = ["run", str(root), "--specprod", "sample", "--database", target, "--chunksize", "50", "--quiet", *more]
    return forked.run(forked.command, [*words, *(word for stage in stages for word in ("--stage", stage))])


def check(done: forked.Done, what: object) -> None:
    """A run ends by itself, well or with one line that says why not."""
    assert done.code in (0, 1), (what, done.code, done.err[-3000:])
    assert "Traceback" not in done.err, (what, done.err)
    if done.code == 1:
        lines = [line for line in done.err.strip().splitlines() if not line.startswith("WARNING")]
        assert len(lines) == 1, (what, done.err)
        assert lines[0].startswith("specprod-load: "), what


def whole_chunks(target: str, schema: str, found: Clean, what: object) -> None:
    """Every table holds exactly the rows of the chunks that the ledger has."""
    query = "SELECT table_name, sum(rows) FROM {}task_result GROUP BY table_name"
    if target.startswith("postgresql"):
        with psycopg.connect(target) as connection:
            recorded = dict(connection.execute(query.format(f"{schema}.")).fetchall())
    else:
        connection = sqlite3.connect(target)
        recorded = dict(connection.execute(query.format("")).fetchall())
        connection.close()
    assert {table: count for table, (count, _) in found.items() if count} == {
        table: int(count) for table, count in recorded.items() if count
    }, what


def tree_of(name: str, sample_root: Path, place: Path) -> Path:
    root = Path(shutil.copytree(sample_root, place / f"{name}-tree"))
    if name == "csv":
        (root / REDUX / "tiles-sample.fits").unlink()
    return root


@pytest.mark.parametrize("name", KINDS)
def test_malformed_files(name: str, sample_root: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS[name]
    root = tree_of(name, sample_root, place)
    template, complete = (str(place / f"{name}-{which}.db") for which in ("template", "complete"))
    if kind.before:
        assert load(root, template, kind.before).code == 0
        shutil.copy(template, complete)
    assert load(root, complete, kind.stages).code == 0
    clean = digests(complete)
    path = sorted(root.glob(kind.pattern))[0]
    whole = path.read_bytes()
    outcomes: Counter[str] = Counter()
    for number in range(kind.variants):
        chance = random.Random(f"{name} {number}")
        change = kind.changes[number % len(kind.changes)]
        what = (name, number, getattr(change, "__name__", "change"))
        target = str(place / f"{name}-{number}.db")
        if kind.before:
            shutil.copy(template, target)
        data = bytearray(whole)
        change(data, chance)
        path.write_bytes(data)
        done = load(root, target, kind.stages)
        check(done, what)
        found = digests(target)
        whole_chunks(target, "", found, what)
        for table in TABLES:
            assert found[table][0] <= clean[table][0], what
        path.write_bytes(whole)
        again = load(root, target, kind.stages)
        check(again, what)
        changed = again.code == 1
        if changed:
            assert "has changed since" in again.err, (what, done.err, again.err)
            again = load(root, target, kind.stages, "--reload")
            assert again.code == 0, (what, again.err)
            outcomes["reloaded"] += 1
        if done.code == 1 or changed:
            assert digests(target) == clean, what
        outcomes["loaded" if done.code == 0 else "refused"] += 1
        Path(target).unlink()
    with capsys.disabled():
        print(f"\nmalformed files, {name}: {dict(outcomes)}")
    assert outcomes["refused"] > 5


def test_malformed_files_into_postgresql(
    sample_root: Path, place: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree_of("postgresql", sample_root, place)
    database = server.create_database(f"fuzz_{os.getpid()}")
    assert load(root, database, ALL[:1], "--schema", "clean").code == 0
    clean = digests(database, "clean")
    outcomes: Counter[str] = Counter()
    for number in range(len(FITS)):
        chance = random.Random(f"postgresql {number}")
        path = root / REDUX / ("exposures-sample.fits", "tiles-sample.fits")[number % 2]
        change, schema = FITS[number], f"v{number}"
        what = (number, path.name, getattr(change, "__name__", "change"))
        whole = path.read_bytes()
        data = bytearray(whole)
        change(data, chance)
        path.write_bytes(data)
        done = load(root, database, ALL[:1], "--schema", schema)
        check(done, what)
        whole_chunks(database, schema, digests(database, schema), what)
        path.write_bytes(whole)
        if done.code == 1:
            again = load(root, database, ALL[:1], "--schema", schema)
            assert again.code == 0 or "has changed since" in again.err, (what, done.err, again.err)
            if again.code == 0:
                assert digests(database, schema) == clean, what
        outcomes["loaded" if done.code == 0 else "refused"] += 1
    with capsys.disabled():
        print(f"\nmalformed files, PostgreSQL: {dict(outcomes)}")
    assert outcomes["refused"] > 5


def test_malformed_ecsv(sample_root: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "tiles.ecsv"
    Table.read(sample_root / REDUX / "tiles-sample.csv", format="ascii.csv").write(path, format="ascii.ecsv")
    whole = path.read_bytes()
    rows = sum(not line.startswith(b"#") for line in whole.splitlines()) - 1
    assert rows > 3
    outcomes: Counter[str] = Counter()
    for number in range(24):
        change = TEXT[number // 2 % len(TEXT)]
        # Most of the file is its header; half of the changes are to the rows.
        place_of_rows = number % 2 and whole.index(b"\n602 ") + 1
        data = bytearray(whole[place_of_rows:])
        change(data, random.Random(f"ecsv {number}"))
        path.write_bytes(whole[:place_of_rows] + data)
        target = str(place / f"ecsv-{number}.db")
        done = forked.run(forked.load_text, str(path), target)
        check(done, (number, getattr(change, "__name__", "change")))
        connection = sqlite3.connect(target)
        (count,) = connection.execute("SELECT count(*) FROM tile").fetchone()
        connection.close()
        # Chunks are of two rows.
        assert count <= rows if done.code == 0 else count % 2 == 0 and count < rows
        outcomes["loaded" if done.code == 0 else "refused"] += 1
    with capsys.disabled():
        print(f"\nmalformed files, ECSV: {dict(outcomes)}")
    assert outcomes["refused"] > 5
