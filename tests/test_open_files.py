"""Files that others replace, rewrite, pack or name as they like: what is read is what was opened, and nothing else."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fitsio
import numpy as np
import pytest

from specprod.cli.main import main
from specprod.errors import FormatError, InputError, MissingFileError
from specprod.files.fits import read_header
from specprod.files.opening import open_table
from support.digests import digests
from support.disks import mounted

ROWS = np.arange(40_000)


def write(path: Path, rows: np.ndarray = ROWS) -> Path:
    data = np.zeros(rows.size, dtype=[("TARGETID", "i8"), ("PAD", "S300")])
    data["TARGETID"] = rows
    # CFITSIO would interpret the name that the file has in the end.
    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory) / "plain.fits"
        fitsio.write(str(plain), data, extname="ROWS", header={"NIGHT": 20210324}, clobber=True)
        shutil.copy(plain, path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "a[1]/x.fits",
        "x.fits(out.fits)",
        "x.fits[ROWS][TARGETID > 5]",
        "a+1.fits",
        "mem:x.fits",
        "http:x.fits",
        "-.fits",
    ],
)
def test_names_are_taken_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write(path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    for place in (path, Path(name)):
        with open_table(place, "ROWS") as reader:
            assert reader.read(0, 10)["TARGETID"].tolist() == list(range(10))
        assert read_header(place, "ROWS")["NIGHT"] == 20210324
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["x.fits[1]", "x.fits(out.fits)", "x.fits[ROWS]", "x.fits[col A=1]", "x.fits+1"])
def test_expressions_are_no_files(name: str, tmp_path: Path) -> None:
    write(tmp_path / "x.fits")
    with pytest.raises(MissingFileError, match="no such file"):
        open_table(tmp_path / name)
    with pytest.raises(MissingFileError):
        read_header(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["x.fits"]


def test_a_tree_below_a_name_with_brackets(sample_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_root, tmp_path / "a[1]" / "tree(2)"))
    target = str(tmp_path / "specprod.db")
    assert main(["run", str(root), "--specprod", "sample", "--database", target, "--quiet"]) == 0
    assert digests(target)["zpix"][0] > 0


def test_files_that_are_written_below_names_with_brackets(tmp_path: Path) -> None:
    for name in ("a[1]", "b(2)+1"):
        root = tmp_path / name / "tree"
        shape = ["--specprod", "iron", "--tiles", "1", "--assigned", "20", "--potential", "40"]
        assert main(["sample", str(root), *shape]) == 0
        path = root / "spectro/redux/iron/exposures-iron.fits"
        with open_table(path, "FRAMES") as reader:
            assert reader.nrows > 0
        patches = tmp_path / f"{name}-patches"
        assert main(["coeff-fix", "extract", str(root), "--output", str(patches), "--specprod", "iron"]) == 0
        with open_table(next(patches.glob("zall-pix-*.fits")), "COEFF_PATCH") as reader:
            assert reader.nrows > 0
            reader.check_data(reader.datasum())
    assert {item.name for item in tmp_path.iterdir()} == {"a[1]", "b(2)+1", "a[1]-patches", "b(2)+1-patches"}


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is a pipe, expected a file"),
    "directory": (Path.mkdir, "is a directory, expected a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, expected a file"),
    "socket": (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "is a socket, expected a file"),
    "loop": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    "nowhere": (lambda path: path.symlink_to("nothing"), "no such file"),
    "empty": (Path.touch, r"(not a FITS file|has no line with the names of columns)$"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x.fits", "x.fits.gz", "x.csv", "x.ecsv"])
def test_what_is_no_file(kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Names of sockets are short.
    make, says = KINDS[kind]
    make(Path(name))
    signal.alarm(20)
    try:
        with pytest.raises(InputError, match=rf"x\.\S+: {says}"):
            open_table(name)
    finally:
        signal.alarm(0)


def test_a_pipe_among_the_files_of_a_production(
    sample_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    path = sorted((root / "vac").rglob("tractorphot*.fits"))[0]
    path.unlink()
    os.mkfifo(path)
    signal.alarm(60)
    try:
        words = ["run", str(root), "--specprod", "sample", "--database", str(tmp_path / "s.db"), "--quiet"]
        assert main(words) == 1
    finally:
        signal.alarm(0)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == [f"specprod-load: {path}: is a pipe, expected a file"]


# ---- files that others write


@pytest.mark.parametrize("how", ["whole", "some", "column"])
def test_a_file_that_is_cut_while_rows_of_it_are_wanted(how: str, tmp_path: Path) -> None:
    """In a process of its own: a memory map of it would end the process by SIGBUS."""
    path = write(tmp_path / "x.fits")
    code = f"""
import os, sys
import numpy as np
from specprod.errors import FormatError
from specprod.files.opening import open_table
with open_table({str(path)!r}) as reader:
    view = reader.view(0, 100) if {how!r} == "whole" else reader.view()
chunk = view.take(np.array([3, 39_000])) if {how!r} == "some" else view
os.truncate({str(path)!r}, 5760 + 308)
try:
    chunk["TARGETID"]
except FormatError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{path}, HDU 1: truncated at row " in done.stdout


def test_rewriting_in_place_ends_no_process(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fits")
    whole = path.read_bytes()
    code = f"""
import time
import numpy as np
from specprod.errors import InputError
from specprod.files.opening import open_table
end, outcomes = time.monotonic() + 4, set()
while time.monotonic() < end:
    try:
        with open_table({str(path)!r}) as reader:
            view = reader.view()
            outcomes.add(bool(view.take(np.flatnonzero(view["TARGETID"] % 7 == 0))["PAD"].size))
    except InputError as error:
        outcomes.add(type(error).__name__)
print(sorted(map(str, outcomes)))
"""
    reader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while reader.poll() is None:
        with path.open("r+b") as stream:
            stream.truncate(20_000)
            time.sleep(0.002)
            stream.seek(20_000)
            stream.write(whole[20_000:])
        time.sleep(0.01)
    out, err = reader.communicate()
    assert (reader.returncode, err) == (0, "")
    assert "True" in out
    assert "FormatError" in out


def replaced(path: Path) -> None:
    other = path.with_name("other.fits")
    write(other, ROWS + 1)
    other.replace(path)


def rewritten(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(-1000, os.SEEK_END)
        stream.write(b"x")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "replaced": (replaced, "was replaced while it was read"),
    "rewritten": (rewritten, "was written to while it was read"),
    "appended": (lambda path: path.write_bytes(path.read_bytes() + bytes(2880)), "was written to while it was read"),
    "removed": (lambda path: path.unlink(), "was removed while it was read"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_changes_while_it_is_read(change: str, packed: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "x.fits")
    if packed:
        packed_path = tmp_path / "x.fits.gz"
        packed_path.write_bytes(gzip.compress(path.read_bytes(), 1))
        path = packed_path
    os.utime(path, ns=(10**18, 10**18 + 7))
    status = path.stat()
    make, says = CHANGES[change]
    with open_table(path) as reader:
        assert reader.changed() is None
        assert (reader.fingerprint.size, reader.fingerprint.mtime_ns) == (status.st_size, 10**18 + 7)
        make(path)
        assert reader.changed() == says
        # Of the file that was opened, not of the one that has its name now.
        assert (reader.fingerprint.size, reader.fingerprint.mtime_ns) == (status.st_size, 10**18 + 7)
        if change in ("replaced", "removed"):
            assert reader.read(0, 3)["TARGETID"].tolist() == [0, 1, 2]


def test_text_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tiles.csv"
    path.write_text("A\n1\n")
    with open_table(path) as reader:
        total = reader.datasum()
        assert reader.changed() is None
        path.unlink()
        assert reader.changed() == "was removed while it was read"
        assert reader.read(0, 1)["A"].tolist() == [1]
        assert reader.datasum() == total == reader.checksum(0, 1)


# ---- packed files


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    with mounted(tmp_path / "small", "8m") as place:
        yield place


OPEN = """
import sys
from specprod.errors import InputError
from specprod.files.opening import open_table
try:
    with open_table(sys.argv[1]) as reader:
        print(reader.nrows, flush=True)
        sys.stdin.readline()
except InputError as error:
    print(type(error).__name__, error)
"""


def test_a_full_temporary_directory(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "x.fits").read_bytes(), 1))
    words = [sys.executable, "-c", OPEN, str(path)]
    environ = os.environ | {"TMPDIR": str(small)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ, input="\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"InputError {path}: cannot be unpacked into {small}: No space left on device")
    assert len(done.stdout.splitlines()) == 1
    assert list(small.iterdir()) == []


def test_what_is_unpacked_goes_with_the_process(tmp_path: Path) -> None:
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "x.fits").read_bytes(), 1))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = [sys.executable, "-c", OPEN, str(path)]
    environ = os.environ | {"TMPDIR": str(temporary)}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{ROWS.size}\n"
    assert list(temporary.iterdir()) == []
    process.kill()
    process.communicate()
    assert list(temporary.iterdir()) == []


def test_a_bomb(tmp_path: Path) -> None:
    """Half a megabyte that unpacks to half a gigabyte is refused long before."""
    path = tmp_path / "x.fits.gz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(b"SIMPLE  =                    T".ljust(80))
        for _ in range(512):
            stream.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    start = time.monotonic()
    with pytest.raises(FormatError, match=r"x\.fits\.gz: unpacks to more than 268435456 bytes.* gunzip"):
        open_table(path)
    assert time.monotonic() - start < 20


def test_many_readers_of_one_file_and_no_descriptor_left(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fits")
    packed = tmp_path / "y.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    count = len(os.listdir("/proc/self/fd"))
    views = []
    for _ in range(20):
        for name in (path, packed):
            with open_table(name) as reader:
                views.append(reader.view())
    assert len(os.listdir("/proc/self/fd")) > count
    assert all(view["TARGETID"][-1] == ROWS[-1] for view in views)
    del views, reader
    for name in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError):
            open_table(name)
    assert len(os.listdir("/proc/self/fd")) == count
