"""Malformed files of every kind: no crash without a message, no part of a chunk in any table, no hang."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.digests import TABLES, digests

VARIANTS = 112
REDUX = "spectro/redux/sample"


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


def wrong_number(keyword: bytes) -> Callable[[bytearray, random.Random], None]:
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


@pytest.fixture(scope="module")
def clean(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    target = str(tmp_path_factory.mktemp("clean") / "specprod.db")
    assert load(sample_root, target).returncode == 0
    return digests(target)


def load(root: Path, target: str) -> subprocess.CompletedProcess[str]:
    words = ["run", str(root), "--specprod", "sample", "--database", target, "--chunksize", "50", "--quiet"]
    command = [sys.executable, "-m", "specprod.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("part", range(4))
def test_malformed_files(
    part: int, sample_root: Path, tmp_path: Path, clean: dict[str, tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    packed = sorted((root / "target").rglob("*.gz"))[0]
    files = [
        root / REDUX / "tiles-sample.fits",
        root / REDUX / "exposures-sample.fits",
        root / REDUX / "zcatalog/zall-pix-sample.fits",
        sorted((root / "vac").rglob("tractorphot*.fits"))[0],
        sorted((root / "vac").rglob("targetphot*.fits"))[0],
        packed,
    ]
    outcomes: Counter[str] = Counter()
    for number in range(part, VARIANTS, 4):
        chance = random.Random(number)
        path = files[number % len(files)]
        changes = STREAM if path == packed else FITS
        change = changes[number // len(files) % len(changes)]
        whole = path.read_bytes()
        data = bytearray(whole)
        change(data, chance)
        path.write_bytes(data)
        target = str(tmp_path / f"{number}.db")
        done = load(root, target)
        path.write_bytes(whole)
        what = (number, path.name, getattr(change, "__name__", "change"), done.stderr[-600:])
        assert done.returncode in (0, 1), what
        assert "Traceback" not in done.stderr, what
        found = digests(target)
        if done.returncode == 1:
            lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("WARNING")]
            assert len(lines) == 1, what
            assert lines[0].startswith("specprod-load: "), what
        for table in TABLES:
            # Whole chunks of the file, or fewer rows than it has: never more than a clean load gives.
            assert found[table][0] <= clean[table][0], what
        outcomes["loaded" if done.returncode == 0 else "refused"] += 1
        # The next run, of the file as it was, either goes on or says that the file has changed.
        again = load(root, target)
        assert again.returncode in (0, 1), again.stderr
        if again.returncode == 1:
            assert "has changed since" in again.stderr or "is there" in again.stderr or "key" in again.stderr, what
        elif done.returncode == 1:
            assert digests(target) == clean, what
    with capsys.disabled():
        print(f"\nmalformed files, part {part + 1} of 4: {dict(outcomes)}")
    assert outcomes["refused"] > 5
