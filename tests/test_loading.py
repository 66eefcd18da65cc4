"""The engine of loads, where the shape of its pieces matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from specprod.database import connect
from specprod.load import deduplicate_targetid, load_file, setup_db
from specprod.loading.ahead import prefetched
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad
from specprod.model import Photometry, Tile

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("slice_bytes", [5_000, 50_000, 16 << 20])
@pytest.mark.parametrize("chunksize", [37, 1000])
def test_first_of_each_targetid_whatever_the_pieces(
    sample_root: Path, database_target: str, slice_bytes: int, chunksize: int
) -> None:
    """A TARGETID that occurs again in the same slice, chunk or file, or in another file, is loaded once."""
    files = sorted((sample_root / "vac").rglob("targetphot-*.fits"))
    with connect(database_target, schema="s") as database:
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
    with connect(database_target, schema="s") as database:
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
