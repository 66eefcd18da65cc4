"""What follows the rows of a full load: clustering, keys, indexes, references, tables beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Self

from specprod.database.failures import Retries
from specprod.database.keys import add_foreign_keys, build_indexes, build_key
from specprod.model import SchemaMixin, table_of

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["Finisher"]


class Finisher:
    """Builds keys and indexes of the tables whose rows are complete, while the rows of others are still loaded.

    SQLite has one writer: there all is built when it is asked for, one after the other.

    Parameters
    ----------
    database : Database
    workers : int
        Number of connections that build.
    retries : Retries, optional
    """

    def __init__(self, database: Database, workers: int = 2, retries: Retries | None = None) -> None:
        self.database = database
        self.retries = retries or Retries()
        self._pool = ThreadPoolExecutor(max(workers, 1), "finish") if database.is_postgresql else None
        self._jobs: list[Future[None]] = []
        self._tables: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            # After an error nothing more is begun, but what is begun ends by itself.
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def _submit(self, work: Callable[[], None], after: Sequence[Future[None]] = ()) -> Future[None]:
        def job() -> None:
            # Jobs are begun in the order in which they were submitted, so that those that are waited for are under way.
            for other in after:
                other.result()
            work()

        if self._pool is None:
            done: Future[None] = Future()
            work()
            done.set_result(None)
            return done
        future = self._pool.submit(job)
        self._jobs.append(future)
        return future

    def key(self, cls: type[SchemaMixin]) -> None:
        """Build the primary key of a table now: the loads that follow need it."""
        build_key(self.database, cls, self.retries)

    def table(self, cls: type[SchemaMixin]) -> None:
        """Cluster a table and build its key and indexes, once all its rows are there."""
        self._tables[table_of(cls).name] = self._submit(lambda: build_indexes(self.database, cls, retries=self.retries))

    def references(self, classes: Sequence[type[SchemaMixin]]) -> None:
        """Add the references of tables, as soon as these and those to which they refer have their keys."""
        for cls in classes:
            table = table_of(cls)
            if not table.foreign_key_constraints:
                continue
            parents = {key.elements[0].column.table.name for key in table.foreign_key_constraints}
            after = [self._tables[name] for name in (table.name, *sorted(parents)) if name in self._tables]
            self._submit(lambda cls=cls: add_foreign_keys(self.database, cls, self.retries), after)  # type: ignore[misc]

    def wait(self) -> None:
        """Wait until all is built, and raise the first failure."""
        wait(self._jobs)
        for job in self._jobs:
            job.result()
