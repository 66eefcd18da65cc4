"""Files that are not what their checksums say, or that somebody changes while they are loaded, are not loaded."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import fitsio
import pytest
from astropy.io import fits

from specprod.cli.main import main
from specprod.database import connect
from specprod.errors import InputError, LedgerError
from specprod.load import setup_db
from specprod.loading.execution import Execution, opened
from specprod.loading.interfaces import NoProgress, Progress
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad
from specprod.model import Zpix
from support.digests import digests

pytestmark = pytest.mark.compat

ZPIX = "spectro/redux/sample/zcatalog/zall-pix-sample.fits"


@pytest.fixture
def tree(sample_root: Path, tmp_path: Path) -> Path:
    tree = Path(shutil.copytree(sample_root, tmp_path / "tree"))
    with fits.open(tree / ZPIX, mode="update") as hdus:
        for hdu in hdus:
            hdu.add_checksum()
    return tree


def load(tree: Path, target: str, *more: str) -> int:
    words = ["--specprod", "sample", "--database", target, "--stage", "redshift", "--quiet", "--chunksize", "40"]
    return main(["run", str(tree), *words, *more])


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 1 << random.Random(place).randrange(8)]))


def test_damaged_data(tree: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever byte of the rows is damaged: the end of the file is not committed, with --quiet too."""
    with fitsio.FITS(str(tree / ZPIX)) as file:
        offsets, rows = file["ZCATALOG"].get_offsets(), file["ZCATALOG"].get_nrows()
        width = file["ZCATALOG"].read_header()["NAXIS1"]
    start = offsets["data_start"]
    # In the flux of some rows: whatever it is, it is a value.
    names = fitsio.read(str(tree / ZPIX), ext="ZCATALOG").dtype
    place = start + (rows - 3) * width + names.fields["Z"][1] + 6
    flip(tree / ZPIX, place)
    assert load(tree, database_target) == 1
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert "zall-pix-sample.fits, HDU ZCATALOG: its data have the checksum" in message
    assert digests(database_target)["zpix"][0] < rows
    # The same again: it does not count as loaded.
    assert load(tree, database_target) == 1
    assert load(tree, database_target, "--ignore-checksums") in (0, 1)
    assert "checksum" not in capsys.readouterr().err.split("refer")[0].split("\n")[-1]


@pytest.mark.parametrize("place", [3000, 4000, 9000])
def test_a_damaged_header(tree: Path, database_target: str, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    with fitsio.FITS(str(tree / ZPIX)) as file:
        offsets = file["ZCATALOG"].get_offsets()
    # In the comment or the blanks of a card, which no reader looks at.
    header = (tree / ZPIX).read_bytes()[offsets["header_start"] : offsets["data_start"]]
    blank = offsets["header_start"] + header.index(b"   ", place % len(header)) + 1
    flip(tree / ZPIX, blank)
    assert load(tree, database_target) == 1
    assert "zall-pix-sample.fits, HDU ZCATALOG: " in capsys.readouterr().err


def test_files_without_checksums_load(sample_root: Path, tmp_path: Path, database_target: str) -> None:
    tree = Path(shutil.copytree(sample_root, tmp_path / "plain"))
    rows = fitsio.read(str(tree / ZPIX), ext="ZCATALOG")
    (tree / ZPIX).unlink()
    fits.BinTableHDU(rows, name="ZCATALOG").writeto(tree / ZPIX)
    assert main(["run", str(tree), "--specprod", "sample", "--database", database_target, "--quiet"]) == 0


class Meanwhile(NoProgress):
    """Does something to a file when its first rows are done."""

    def __init__(self, source: Path, path: Path, *, replace: bool) -> None:
        self.source, self.path, self.replace = source, path, replace

    def advance(self, load: FileLoad, rows: int) -> None:
        if self.source.exists():
            if self.replace:
                self.source.rename(self.path)
            else:
                self.path.write_bytes(self.source.read_bytes())
                self.source.unlink()


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_changes_during_its_load(
    tree: Path, database_target: str, replace: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was read is not taken for the new file: the load stops, and so does the next one."""
    other = tree.parent / "other.fits"
    rows = fitsio.read(str(tree / ZPIX), ext="ZCATALOG")
    changed = rows.copy()
    changed["Z"] += 0.125
    fitsio.write(str(other), changed, extname="ZCATALOG")
    with connect(database_target, schema="s", create=True) as database:
        job = Execution(name="run", root=tree)
        setup_db(database=database, keys=False)
        file = FileLoad(tree / ZPIX, "ZCATALOG", Zpix, stage="redshift")

        def attempt(progress: Progress) -> None:
            with opened(database, job) as ledger:
                Loader(database, ledger=ledger, chunksize=20, progress=progress, checksums=False).load(file)

        with pytest.raises(InputError, match=r"zall-pix-sample\.fits, .*: was .* while it was read"):
            attempt(Meanwhile(other, tree / ZPIX, replace=replace))
        assert not other.exists()
        with pytest.raises(LedgerError, match="has changed since its rows"):
            attempt(NoProgress())
