"""Several files in one transaction, and what is built beside each other."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from astropy.io import fits
from astropy.table import Table

from specprod.database import Database, connect
from specprod.database.failures import Retries
from specprod.database.keys import build_indexes
from specprod.database.writing import Counts
from specprod.errors import DatabaseError, InputError
from specprod.files.opening import open_table
from specprod.load import setup_db
from specprod.loading.execution import Execution, opened
from specprod.loading.filters import NewTargets
from specprod.loading.ledger import LoadLedger
from specprod.loading.loader import Loader
from specprod.loading.pieces import FileLoad, Piece
from specprod.model import Photometry
from specprod.production.scheduling import Job, run_jobs
from specprod.results.orm import OrmPipelineResultsStorage

pytestmark = pytest.mark.compat


@pytest.fixture
def files(sample_root: Path, tmp_path: Path) -> list[Path]:
    """Three files of photometry with 20 rows each, no TARGETID twice."""
    source = next(sample_root.rglob("tractorphot-*.fits"))
    with fits.open(source) as hdus:
        data = hdus["TRACTORPHOT"].data
        for number in range(3):
            rows = fits.BinTableHDU(data[20 * number : 20 * number + 20], name="TRACTORPHOT")
            fits.HDUList([fits.PrimaryHDU(), rows]).writeto(tmp_path / f"part-{number}.fits")
    return sorted(tmp_path.glob("part-*.fits"))


def opened_for(database: Database, root: Path) -> contextlib.AbstractContextManager[LoadLedger]:
    return opened(database, Execution(name="run", root=root), prepare=lambda: setup_db(database=database))


def loads(files: list[Path]) -> list[FileLoad]:
    return [FileLoad(path, "TRACTORPHOT", Photometry, stage="photometry") for path in files]


def targetids(database: Database) -> set[int]:
    with database.connect() as connection:
        return set(connection.scalars(sa.select(Photometry.targetid)))


def expected(files: list[Path]) -> set[int]:
    return {int(number) for path in files for number in Table.read(path, hdu="TRACTORPHOT")["TARGETID"]}


@pytest.mark.parametrize(("chunksize", "transactions"), [(1000, 1), (45, 2), (20, 3), (8, 9)])
def test_small_files_share_a_transaction(
    postgres_url: str, files: list[Path], chunksize: int, transactions: int
) -> None:
    with connect(postgres_url, schema="s") as database:
        with opened(
            database, Execution(name="run", root=files[0].parent), prepare=lambda: setup_db(database=database)
        ) as ledger:
            counts = Loader(database, chunksize=chunksize, ledger=ledger).load_all(loads(files))
        assert [item.inserted for item in counts.values()] == [20, 20, 20]
        assert targetids(database) == expected(files)
        with database.connect() as connection:
            writers = connection.exec_driver_sql("SELECT count(DISTINCT xmin::text) FROM s.photometry").scalar_one()
            recorded = connection.exec_driver_sql(
                "SELECT r.xmin::text = p.xmin::text FROM s.task_result r JOIN LATERAL "
                "(SELECT DISTINCT xmin FROM s.photometry) p ON p.xmin = r.xmin"
            ).all()
        assert writers == transactions
        # Each range of rows is recorded by the transaction that wrote it.
        assert len(recorded) == sum(-(-20 // min(chunksize, 20)) for _ in files)


def test_a_bad_file_takes_none_of_those_before_with_it(database_target: str, files: list[Path]) -> None:
    content = files[2].read_bytes()
    files[2].write_bytes(content[: len(content) // 2])
    with connect(database_target, schema="s", create=True) as database:

        def attempt() -> None:
            with opened(
                database, Execution(name="run", root=files[0].parent), prepare=lambda: setup_db(database=database)
            ) as ledger:
                Loader(database, ledger=ledger).load_all(loads(files))

        with pytest.raises(InputError, match=r"part-2\.fits"):
            attempt()
        assert targetids(database) == expected(files[:2])
        files[2].write_bytes(content)
        attempt()
        assert targetids(database) == expected(files)


def test_of_files_that_share_a_transaction_the_bad_one_is_named(database_target: str, files: list[Path]) -> None:
    """The second file has a TARGETID of the first, and the table its key already."""
    shutil.copy(files[0], files[1])
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database)
        build_indexes(database, Photometry)
        with pytest.raises(
            DatabaseError, match=r"part-1\.fits.*row 0: table photometry has a row with the key \d+ already"
        ):
            Loader(database).load_all(loads(files))
        assert targetids(database) == expected(files[:1])


def test_what_was_rolled_back_is_not_in_the_ledger(database_target: str, files: list[Path]) -> None:
    """A piece that is recorded, rolled back and recorded again counts once, also against the file's DATASUM."""
    with fits.open(files[0], mode="update") as hdus:
        hdus["TRACTORPHOT"].add_datasum()
    (load,) = loads(files[:1])
    with (
        connect(database_target, schema="s", create=True) as database,
        opened(
            database, Execution(name="run", root=files[0].parent), prepare=lambda: setup_db(database=database)
        ) as ledger,
        open_table(load.path, load.hdu) as reader,
    ):
        ledger.begin(load, reader)
        piece = Piece(0, 20, checksum=reader.datasum())
        with database.connect() as connection, connection.begin() as transaction:
            ledger.record(connection, load, piece, Counts(inserted=20))
            transaction.rollback()
        with database.begin() as connection:
            ledger.record(connection, load, piece, Counts(inserted=20))
        assert ledger.ranges(load) == [(0, 20)]
        assert ledger.checksum(load) == reader.datasum()


def test_who_has_the_turn_can_begin_a_file(database_target: str, files: list[Path]) -> None:
    """One thread makes its first record while another has the turn, and then makes its own: neither waits for ever."""
    first, second = loads(files[:2])
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database)
        storage = OrmPipelineResultsStorage(database)
        storage.create()
        ledger = LoadLedger(storage, storage.create_pipeline_execution("run"), files[0].parent, database.turn)
        taken = threading.Event()

        def begin() -> None:
            taken.wait()
            with open_table(first.path, first.hdu) as reader:
                ledger.announce(first, reader)

        def reload() -> None:
            with database.turn:
                taken.set()
                # Until the other thread stands where it waits for the turn.
                time.sleep(0.3)
                with open_table(second.path, second.hdu) as reader:
                    ledger.announce(second, reader)

        threads = [threading.Thread(target=work, daemon=True) for work in (begin, reload)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        assert len(list(storage.get_task_executions(name="photometry"))) == 1


@pytest.mark.parametrize("most", [0, 2_000_000])
def test_new_targets_asked_of_memory_or_of_the_database(database_target: str, sample_root: Path, most: int) -> None:
    tractor = sorted(sample_root.rglob("tractorphot-*.fits"))
    targets = sorted(sample_root.rglob("targetphot-*.fits"))
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database)
        loader = Loader(database, chunksize=70)
        loader.load_all(loads(tractor))
        new = NewTargets(database, most)
        loader.load_all(FileLoad(path, "TARGETPHOT", Photometry, row_filter=new, only_new=True) for path in targets)
        assert new.certain == (most > 0)
        wanted = {int(n) for path in targets for n in Table.read(path, hdu="TARGETPHOT")["TARGETID"]}
        assert wanted > expected(tractor)
        assert targetids(database) == wanted
        build_indexes(database, Photometry)


def test_jobs_that_run_alone() -> None:
    """Two of them never run together, but one that does not mind runs beside."""
    busy, met = threading.Lock(), threading.Event()

    def alone() -> None:
        assert busy.acquire(blocking=False)
        assert met.wait(timeout=10)
        busy.release()

    run_jobs([*(Job(f"alone {n}", alone, alone=True) for n in range(5)), Job("beside", met.set)], 3)


def test_builds_start_no_more_helpers_than_there_are_cores(postgres_url: str) -> None:
    """The server of the tests is on this machine."""
    with connect(postgres_url) as database, database.connect() as connection:
        before = int(connection.exec_driver_sql("SHOW max_parallel_maintenance_workers").scalar_one())
        database.prepare_for_builds(connection)
        after = int(connection.exec_driver_sql("SHOW max_parallel_maintenance_workers").scalar_one())
        assert after == min(before, max(0, (os.cpu_count() or 2) // 2 - 1))
        memory = connection.exec_driver_sql("SELECT pg_size_bytes(current_setting('maintenance_work_mem'))")
        assert memory.scalar_one() >= 256 << 20


@pytest.mark.parametrize("cache", ["8kB", "1GB"])
def test_clustered_in_the_order_of_the_sky(postgres_url: str, sample_root: Path, cache: str) -> None:
    """The order is the same whether the table fits the memory, and is fetched by the index, or is sorted."""
    url = f"{postgres_url}?options=-c%20effective_cache_size%3D{cache}"
    with connect(url, schema="s") as database:
        setup_db(database=database)
        Loader(database).load_all(loads(sorted(sample_root.rglob("tractorphot-*.fits"))))
        build_indexes(database, Photometry, retries=Retries(attempts=1))
        with database.connect() as connection:
            places = connection.exec_driver_sql("SELECT q3c_ang2ipix(ra, dec) FROM s.photometry ORDER BY ctid")
            found = list(places.scalars())
    assert len(found) > 100
    assert found == sorted(found)
