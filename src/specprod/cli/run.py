"""``specprod-load run``: load a production."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specprod.cli.names import specprod_option, stage_option, table_option
from specprod.cli.options import (
    DatabaseOptions,
    confirm_overwrite,
    database_options,
    execution,
    gathered,
    json_option,
    retries,
)
from specprod.cli.output import print_json, print_table, progress_bars
from specprod.stages import STAGE_NAMES, STAGES, TABLE_NAMES, with_needed

if TYPE_CHECKING:
    from specprod.configuration import Configuration
    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree
    from specprod.loading.execution import Execution
    from specprod.loading.interfaces import Progress
    from specprod.loading.rejects import RejectFile
    from specprod.production.job import TableSummary
    from specprod.production.unloaded import Unloaded


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run, as --help describes them."""

    root: Path
    specprod: str
    stages: tuple[str, ...]
    tables: tuple[str, ...]
    dry_run: bool
    overwrite: bool
    swap: bool
    keep_old: bool
    verify: bool
    yes: bool
    reload: bool
    public: bool
    chunksize: int | None
    workers: int | None
    rejects: Path | None
    ignore_checksums: bool
    as_json: bool


@click.command(
    epilog="""\b
Examples, into an SQLite file, of one table only, and into a schema of a server:
  specprod-load run prod --specprod sample --database prod.db
  specprod-load run prod --specprod sample --database zpix.db --table zpix
  specprod-load run /data/desi --specprod iron --database postgresql://host/name --schema iron --public
Anew, while people query it:
  specprod-load run prod --specprod sample --database prod.db --swap --verify --yes"""
)
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@specprod_option
@stage_option
@table_option
@click.option("--dry-run", is_flag=True, help="Load into a throw-away SQLite file: what fails, how many rows, how big.")
@click.option("--overwrite", is_flag=True, help="Drop what was loaded before, and start anew.")
@click.option(
    "--swap", is_flag=True, help="Load beside what is there, and put it in its place when it is complete, at once."
)
@click.option("--keep-old", is_flag=True, help="With --swap: keep what was there, as SCHEMA_old or FILE.old.")
@click.option("--verify", is_flag=True, help="With --swap: only if all values equal those of the files.")
@click.option("--yes", is_flag=True, help="Do not ask before dropping tables.")
@click.option("--reload", is_flag=True, help="Replace what came from files that have changed since.")
@click.option("--public", is_flag=True, help="Let the roles of the collaboration and of the public read the tables.")
@click.option("--chunksize", type=click.IntRange(min=1), metavar="N", help="Rows in one transaction, at most.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Connections that load or build indexes.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write rows that violate a rule to this CSV file, with the reason, and go on. The exit code is then 3.",
)
@click.option(
    "--ignore-checksums", is_flag=True, help="Warn of files that are not what their CHECKSUM or DATASUM says."
)
@json_option
@database_options
@gathered("options", RunOptions)
def run(options: RunOptions, where: DatabaseOptions) -> int:
    """Load the production NAME, whose files stand below ROOT, into a database.

    All stages and tables are loaded, or those that --stage and --table name. A load that ended early goes on where it
    stopped when the command is given again, and a load of everything adds what a load of some tables left out.
    """
    _check(options)
    configuration = where.configuration(
        options.specprod, loading__chunksize=options.chunksize, loading__workers=options.workers
    )
    if options.overwrite and not options.dry_run and not options.swap:
        confirm_overwrite(f"the tables of {where.schema or options.specprod}", options.yes)
    if options.swap and not options.keep_old:
        confirm_overwrite(f"the present tables of {where.schema or options.specprod} then", options.yes, "--swap")
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        if options.dry_run:
            target, size_of = stack.enter_context(_throw_away())
        elif options.swap:
            # A file that is not there is not made before it is complete.
            target = stack.enter_context(where.named(configuration, options.specprod))
        else:
            target = stack.enter_context(where.open(configuration, options.specprod, create=True))
        from specprod.loading.rejects import RejectFile
        from specprod.production.unloaded import unloaded

        left_out = RejectFile(options.rejects) if options.rejects else None
        progress = stack.enter_context(progress_bars(not where.quiet))
        summaries = _load(target, options, configuration, left_out, progress)
        kept = target.kept() if options.keep_old else None
        part = unloaded(target) if options.tables else None
        size = size_of() if options.dry_run else None
    _print(summaries, time.monotonic() - start, size, part, options.as_json)
    if kept and not options.as_json:
        click.echo(f"What was there before is {kept}.")
    if left_out is not None and left_out.count:
        click.echo(f"specprod-load: {left_out.count} rows were left out; see {options.rejects}", err=True)
        return 3
    return 0


def _check(options: RunOptions) -> None:
    """Refuse options that contradict each other.

    Raises
    ------
    click.UsageError
    """
    if options.swap and (options.tables or options.stages or options.dry_run):
        raise click.UsageError("--swap takes a whole load: not --table, --stage or --dry-run")
    if (options.keep_old or options.verify) and not options.swap:
        raise click.UsageError("--keep-old and --verify belong to --swap")
    if options.tables and options.overwrite:
        raise click.UsageError("--overwrite drops all tables, also those that --table does not name; give one of them")
    wanted = with_needed(options.tables)
    if options.tables and options.stages and not any(set(wanted) & set(STAGES[name].tables) for name in options.stages):
        raise click.UsageError(f"no stage of {', '.join(options.stages)} fills {', '.join(options.tables)}")


@contextlib.contextmanager
def _throw_away() -> Iterator[tuple[Database, Any]]:
    """Make a database that is gone afterwards, and a function that tells its size in bytes."""
    from specprod.database.connection import connect

    with tempfile.TemporaryDirectory(prefix="specprod-") as directory:
        path = Path(directory) / "dry-run.db"
        with connect(path, create=True) as target:
            yield target, lambda: path.stat().st_size


def _load(
    target: Database,
    options: RunOptions,
    configuration: Configuration,
    rejects: RejectFile | None,
    progress: Progress | None,
) -> list[TableSummary]:
    from specprod.files.tree import ProductionTree
    from specprod.production.swap import swapped

    tree = ProductionTree(options.root, configuration.production(options.specprod))
    job = execution("run", configuration, tree=tree, anew=options.overwrite)
    if not options.swap:
        return _load_into(target, job, tree, options, configuration, rejects, progress)
    with swapped(target, job, keep_old=options.keep_old) as loading:
        summaries = _load_into(loading, job, tree, options, configuration, rejects, progress)
        if options.verify:
            _verify(loading, tree, configuration)
    return summaries


def _load_into(
    target: Database,
    job: Execution,
    tree: ProductionTree,
    options: RunOptions,
    configuration: Configuration,
    rejects: RejectFile | None,
    progress: Progress | None,
) -> list[TableSummary]:
    from specprod.database.failures import Retries
    from specprod.loading.execution import opened
    from specprod.loading.loader import Loader
    from specprod.production.job import load_production
    from specprod.production.setup import setup_db

    prepare = partial(
        setup_db,
        database=target,
        overwrite=options.overwrite,
        public=options.public,
        roles=(configuration.get("roles.collaboration"),),
        public_role=configuration.get("roles.public"),
        keys=False,
        # The ledger tries again what makes the tables.
        retries=Retries(attempts=1),
        tables=with_needed(options.tables) or TABLE_NAMES,
    )
    # A dry run leaves no record anywhere.
    job = dataclasses.replace(job, setting=None) if options.dry_run else job
    with opened(target, job, prepare=prepare, retries=retries(configuration)) as ledger:
        loader = Loader(
            target,
            ledger=ledger,
            rejects=rejects,
            reload=options.reload,
            checksums=not options.ignore_checksums,
            chunksize=configuration.get("loading.chunksize"),
            retries=retries(configuration),
            progress=progress,
        )
        return load_production(
            target,
            tree,
            loader,
            stages=options.stages or STAGE_NAMES,
            tables=options.tables or TABLE_NAMES,
            workers=configuration.get("loading.workers"),
        )


def _verify(target: Database, tree: ProductionTree, configuration: Configuration) -> None:
    """Compare what was loaded with its files.

    Raises
    ------
    DatabaseError
        If anything differs; the message has the first difference.
    """
    from specprod.errors import DatabaseError
    from specprod.loading.execution import recorded
    from specprod.production.verification import verify

    job = execution("verify", configuration, production=dataclasses.asdict(tree.production))
    with recorded(target, job, retries(configuration)):
        differences = [item for report in verify(target, tree) for item in report.differences]
    if differences:
        raise DatabaseError(f"{target.place} differs from its files, and all stays as it was: {differences[0]}")


def _print(
    summaries: Sequence[TableSummary], seconds: float, size: int | None, part: Unloaded | None, as_json: bool
) -> None:
    rows = sum(item.rows for item in summaries)
    if as_json:
        tables = [vars(item) | {"rows_per_second": _rate(item.rows, item.seconds)} for item in summaries]
        total: dict[str, Any] = {"rows": rows, "seconds": seconds, "rows_per_second": _rate(rows, seconds)}
        of_part = {} if part is None else dataclasses.asdict(part)
        print_json({"tables": tables, "total": total, **({} if size is None else {"bytes": size}), **of_part})
        return
    print_table(
        ("stage", "table", "rows", "seconds", "rows/s"),
        [(item.stage, item.table, item.rows, item.seconds, _rate(item.rows, item.seconds)) for item in summaries],
        total=("all", "", rows, seconds, _rate(rows, seconds)),
    )
    if rows == 0:
        click.echo("Nothing was left to be loaded.")
    if size is not None:
        click.echo(f"Nothing was kept. As SQLite the database takes {size / 1e6:,.1f} MB.")
    if part:
        click.echo(str(part))


def _rate(rows: int, seconds: float) -> int:
    return round(rows / seconds) if seconds > 0 else 0
