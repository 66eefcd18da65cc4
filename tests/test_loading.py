"""The engine of loads, where the shape of its pieces matters."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.table import Table
from numpy.lib import recfunctions

from specprod.database import connect
from specprod.load import deduplicate_targetid, load_file, setup_db
from specprod.loading.ahead import prefetched
from specprod.loading.filters import NewTargets
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad
from specprod.loading.rejects import RejectFile
from specprod.model import Photometry, Tile

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("slice_bytes", [5_000, 50_000, 16 << 20])
@pytest.mark.parametrize("chunksize", [37, 1000])
def test_first_of_each_targetid_whatever_the_pieces(
    sample_root: Path, database_target: str, slice_bytes: int, chunksize: int
) -> None:
    """A TARGETID that occurs again in the same slice, chunk or file, or in another file, is loaded once."""
    files = sorted((sample_root / "vac").rglob("targetphot-*.fits"))
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database)
        from specprod.database.keys import build_key

        build_key(database, Photometry)
        loader = Loader(database, chunksize=chunksize, slice_bytes=slice_bytes)
        counts = loader.load_all(
            FileLoad(
                path,
                "TARGETPHOT",
                Photometry,
                row_filter=lambda chunk: deduplicate_targetid(chunk, database=database),
                only_new=True,
            )
            for path in files
        )
        targetid = np.concatenate([Table.read(path, hdu="TARGETPHOT")["TARGETID"] for path in files])
        assert np.unique(targetid).size < targetid.size
        assert sum(item.inserted for item in counts.values()) == np.unique(targetid).size
        with database.session() as session:
            assert session.query(Photometry).count() == np.unique(targetid).size


def test_load_file(sample_root: Path, database_target: str) -> None:
    path = sample_root / "spectro/redux/sample/tiles-sample.csv"
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database)
        data = Table.read(path, format="ascii.csv")
        kept = load_file(
            str(path), Tile, row_filter=lambda chunk: np.flatnonzero(chunk["TILEID"] > 700), database=database
        )
        assert kept == np.sum(data["TILEID"] > 700) > 0


def test_an_iterator_runs_one_item_ahead() -> None:
    made = []

    def items() -> object:
        for number in range(5):
            made.append(number)
            yield number

    for number in prefetched(items()):
        assert len(made) <= number + 2
    assert made == [0, 1, 2, 3, 4]


def test_an_error_of_the_iterator_reaches_the_consumer() -> None:
    def items() -> object:
        yield 1
        raise OSError("gone")

    seen = []
    with pytest.raises(OSError, match="gone"):  # noqa: PT012
        for number in prefetched(items()):
            seen.append(number)
    assert seen == [1]


@pytest.mark.parametrize("chunksize", [7, 1000])
@pytest.mark.parametrize("most", [0, 2_000_000])
def test_a_rejected_row_leaves_room_for_a_good_one(
    sample_root: Path, database_target: str, tmp_path: Path, chunksize: int, most: int
) -> None:
    """Of the rows of a TARGETID the first good one counts, whether the bad one is in its chunk or before it."""
    source = sorted((sample_root / "vac").rglob("targetphot-*.fits"))[0]
    rows = fitsio.read(str(source), ext="TARGETPHOT")
    _, first = np.unique(rows["TARGETID"], return_index=True)
    rows = rows[np.sort(first)]
    # A column that is wider in the file than in the table.
    wide = recfunctions.append_fields(rows, "wide", rows["BRICKID"].astype(">i8"), usemask=False)
    wide = recfunctions.rename_fields(recfunctions.drop_fields(wide, "BRICKID"), {"wide": "BRICKID"})
    bad = wide[[2, 9]].copy()
    bad["BRICKID"] = 1 << 40
    path = tmp_path / "targetphot.fits"
    fitsio.write(str(path), np.concatenate([wide[:2], bad, wide[2:]]), extname="TARGETPHOT")
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database)
        rejects = RejectFile(tmp_path / "rejects.csv")
        loader = Loader(database, chunksize=chunksize, rejects=rejects)
        new = NewTargets(database, most)
        loader.load(FileLoad(path, "TARGETPHOT", Photometry, row_filter=new, only_new=True))
        with database.session() as session:
            assert session.query(Photometry).count() == rows.size
        assert rejects.count == 2
