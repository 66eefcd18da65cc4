"""Every command that changes or checks a database: held as long as it takes, and recorded from its start to its end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specprod.database.failures import Retries, translated
from specprod.errors import LedgerError, printable
from specprod.loading.ledger import LoadLedger
from specprod.results import helpers
from specprod.results.base import PipelineExecution, PipelineStorage, State
from specprod.results.mirror import MirroredStorage
from specprod.results.orm import OrmPipelineResultsStorage
from specprod.results.storage import DEFAULT_STORAGE, load_storage, named_failures

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["Execution", "check_production", "opened", "recorded"]

logger = logging.getLogger(__name__)

_REMEDY = "load it into another schema, or anew with --overwrite"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What a command is to do, as the ledger has it.

    Attributes
    ----------
    name : str
        The command: run, tile, index.
    command : str
        Its words, without passwords.
    root : path or None
        Root of the production.
    production : mapping
        Versions of the data; they must be those of the loads before.
    setting : optional
        A results storage that follows the run besides the ledger; see `specprod.results.storage.load_storage`.
    shared : bool
        Whether others that say so may be at work at the same time.
    anew : bool
        Whether what was loaded before is dropped first, whatever it is.
    after : tuple of str
        Commands that must not have ended half-way.
    """

    name: str
    command: str = ""
    root: Path | None = None
    production: Mapping[str, Any] = field(default_factory=dict)
    setting: Any = None
    shared: bool = False
    anew: bool = False
    after: tuple[str, ...] = ()


@contextlib.contextmanager
def recorded(database: Database, job: Execution, retries: Retries | None = None) -> Iterator[PipelineExecution | None]:
    """Hold a database for a command, and record it, if the database has a ledger that can be written to.

    Parameters
    ----------
    database : Database
    job : Execution
    retries : Retries, optional

    Yields
    ------
    PipelineExecution or None

    Raises
    ------
    LockedError
        If another process is at work on the schema.
    LedgerError
        If it holds another production.
    """
    if not database.writable():
        yield None
        return
    with database.locked(shared=job.shared), translated():
        ledger = OrmPipelineResultsStorage(database, retries=retries)
        if not ledger.exists():
            yield None
            return
        check_production(database, job)
        with _execution(ledger, database, job) as (_, execution):
            yield execution


@contextlib.contextmanager
def opened(
    database: Database,
    job: Execution,
    *,
    prepare: Callable[[], object] = lambda: None,
    retries: Retries | None = None,
) -> Iterator[LoadLedger]:
    """Hold a database for a load, and record it, as `recorded` does; what is loaded is recorded in the ledger.

    Parameters
    ----------
    database : Database
    job : Execution
    prepare : callable
        Makes the tables, once the database is held.
    retries : Retries, optional

    Raises
    ------
    LockedError
        If another process is at work on the schema.
    LedgerError
        If it holds another production.
    """
    with database.locked(shared=job.shared), translated():
        if not job.anew:
            check_production(database, job)
        (retries or Retries()).run(prepare, "tables")
        with _execution(OrmPipelineResultsStorage(database, retries=retries), database, job) as (storage, execution):
            ledger = LoadLedger(storage, execution, job.root or Path(), database.turn)
            try:
                yield ledger
            except BaseException as error:
                # The failure itself must reach the caller, even if the database is what failed.
                with contextlib.suppress(Exception):
                    ledger.end(error)
                raise
            ledger.end()


@contextlib.contextmanager
def _execution(
    ledger: OrmPipelineResultsStorage, database: Database, job: Execution
) -> Iterator[tuple[PipelineStorage, PipelineExecution]]:
    """Record a command in the ledger, and in the storage that is configured, which follows it."""
    follower = load_storage(job.setting or DEFAULT_STORAGE, database)
    with named_failures(follower.classes):
        storage = _combined(ledger, follower)
        storage.create()
        # Who holds the database alone knows that nobody else is at work on it, on whatever machine.
        for killed in helpers.end_abandoned(storage, everywhere=not job.shared):
            logger.warning("%s of %s ended without a word: it is recorded as killed", killed.name, killed.started)
        data: dict[str, Any] = {"production": dict(job.production)} if job.production else {}
        data |= {"root": printable(str(job.root.absolute()))} if job.root else {}
        with helpers.pipeline_execution(storage, job.name, job.command, input_data=data) as execution:
            yield storage, execution


def _combined(ledger: OrmPipelineResultsStorage, follower: PipelineStorage) -> PipelineStorage:
    if isinstance(follower, OrmPipelineResultsStorage):
        # One that extends the ledger's class is the ledger, in the same tables.
        return ledger if type(follower) is OrmPipelineResultsStorage else follower
    return MirroredStorage(ledger, follower)


def check_production(database: Database, job: Execution) -> None:
    """Make sure that a database holds the production that a command is about, or none.

    Raises
    ------
    LedgerError
        If it holds another one, other versions of it, or one from another tree that is still there.
    """
    ledger = OrmPipelineResultsStorage(database)
    if not ledger.exists():
        return
    for name in job.after:
        last = helpers.latest_execution(ledger, name=name)
        if last is not None and last.state != State.DONE:
            raise LedgerError(
                f"the last {name} into {database.place} did not end well ({last.message or last.state}); "
                f"give that command again first, or load into another schema"
            )
    for earlier in ledger.get_pipeline_executions():
        loaded = earlier.input_data.get("production") or {}
        differing = [key for key, value in job.production.items() if key in loaded and loaded[key] != value]
        if differing:
            # The name says most.
            key = "specprod" if "specprod" in differing else differing[0]
            raise LedgerError(
                f"{database.place} holds a production with {key} {loaded[key]!r}, but {job.production[key]!r} is asked "
                f"for; {_REMEDY}"
            )
        root = earlier.input_data.get("root")
        if loaded and root and job.root is not None and _is_other(Path(root), job.root):
            raise LedgerError(
                f"{database.place} was loaded from {root}, which is still there, but {job.root} is asked for; {_REMEDY}"
            )


def _is_other(former: Path, root: Path) -> bool:
    """Whether a tree is not the one from which a database was loaded; one that was moved is."""
    try:
        return former.is_dir() and not former.samefile(root)
    except OSError:
        return False
