"""``specprod-load run``: load a production."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specprod.cli.options import configured, confirm_overwrite, database_options, open_database, retries, verbosity
from specprod.cli.output import print_json, print_table, progress_bars
from specprod.stages import STAGE_NAMES

if TYPE_CHECKING:
    from specprod.configuration import Configuration
    from specprod.database.connection import Database
    from specprod.loading.rejects import RejectFile
    from specprod.production.job import TableSummary


@click.command(
    epilog="""\b
Examples, into an SQLite file and into a schema of a server:
  specprod-load run prod --specprod sample --database prod.db
  specprod-load run /data/desi --specprod iron --database postgresql://host/name --schema iron --public"""
)
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--specprod", required=True, metavar="NAME", help="The production, such as iron.")
@click.option(
    "--stage", "stages", multiple=True, type=click.Choice(STAGE_NAMES), help="Only this stage; can be repeated."
)
@click.option("--dry-run", is_flag=True, help="Load into a throw-away SQLite file: what fails, how many rows, how big.")
@click.option("--overwrite", is_flag=True, help="Drop what was loaded before, and start anew.")
@click.option("--yes", is_flag=True, help="Do not ask before dropping tables.")
@click.option("--reload", "reload_", is_flag=True, help="Replace what came from files that have changed since.")
@click.option("--public", is_flag=True, help="Let the roles of the collaboration and of the public read the tables.")
@click.option("--chunksize", type=click.IntRange(min=1), metavar="N", help="Rows in one transaction, at most.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Connections that load or build indexes.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write rows that violate a rule to this CSV file, with the reason, and go on. The exit code is then 3.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@database_options
def run(
    root: Path,
    specprod: str,
    stages: tuple[str, ...],
    dry_run: bool,
    overwrite: bool,
    yes: bool,
    reload_: bool,
    public: bool,
    chunksize: int | None,
    workers: int | None,
    rejects: Path | None,
    as_json: bool,
    database: str | None,
    hostname: str | None,
    username: str | None,
    schema: str | None,
    config: Path | None,
    verbose: int,
    quiet: bool,
) -> int:
    """Load the production NAME, whose files stand below ROOT, into a database.

    All stages are loaded, or those that --stage names. A load that ended early goes on where it stopped when the
    command is given again.
    """
    verbosity(verbose, quiet)
    configuration = configured(config, specprod, loading__chunksize=chunksize, loading__workers=workers)
    if overwrite and not dry_run:
        confirm_overwrite(f"the tables of {schema or specprod}", yes)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        if dry_run:
            target, size_of = stack.enter_context(_throw_away())
        else:
            target = open_database(configuration, database, hostname, username, schema, specprod)
            stack.callback(target.close)
        from specprod.loading.rejects import RejectFile

        left_out = RejectFile(rejects) if rejects else None
        summaries = _load(
            target,
            root,
            specprod,
            configuration,
            stages or STAGE_NAMES,
            overwrite,
            public,
            not quiet,
            left_out,
            reload_,
        )
        size = size_of() if dry_run else None
    _print(summaries, time.monotonic() - start, size, as_json)
    if left_out is not None and left_out.count:
        click.echo(f"specprod-load: {left_out.count} rows were left out; see {rejects}", err=True)
        return 3
    return 0


@contextlib.contextmanager
def _throw_away() -> Iterator[tuple[Database, Any]]:
    """Make a database that is gone afterwards, and a function that tells its size in bytes."""
    from specprod.database.connection import connect

    with tempfile.TemporaryDirectory(prefix="specprod-") as directory:
        path = Path(directory) / "dry-run.db"
        with connect(path) as target:
            yield target, lambda: path.stat().st_size


def _load(
    target: Database,
    root: Path,
    specprod: str,
    configuration: Configuration,
    stages: Sequence[str],
    overwrite: bool,
    public: bool,
    bars: bool,
    rejects: RejectFile | None,
    reload_: bool,
) -> list[TableSummary]:
    from specprod.files.tree import ProductionTree
    from specprod.loading.ledger import opened
    from specprod.loading.loader import Loader
    from specprod.production.job import load_production
    from specprod.production.setup import setup_db

    prepare = partial(
        setup_db,
        database=target,
        overwrite=overwrite,
        public=public,
        roles=(configuration.get("roles.collaboration"),),
        public_role=configuration.get("roles.public"),
    )
    production = configuration.production(specprod)
    with (
        opened(
            target,
            root,
            "run",
            command=shlex.join(["specprod-load", *sys.argv[1:]]),
            production=dataclasses.asdict(production),
            setting=configuration.get("results.storage"),
            prepare=prepare,
            retries=retries(configuration),
        ) as ledger,
        progress_bars(bars) as progress,
    ):
        loader = Loader(
            target,
            ledger=ledger,
            rejects=rejects,
            reload=reload_,
            chunksize=configuration.get("loading.chunksize"),
            retries=retries(configuration),
            progress=progress,
        )
        return load_production(
            target,
            ProductionTree(root, production),
            loader,
            stages=stages,
            workers=configuration.get("loading.workers"),
        )


def _print(summaries: Sequence[TableSummary], seconds: float, size: int | None, as_json: bool) -> None:
    rows = sum(item.rows for item in summaries)
    if as_json:
        tables = [vars(item) | {"rows_per_second": _rate(item.rows, item.seconds)} for item in summaries]
        total: dict[str, Any] = {"rows": rows, "seconds": seconds, "rows_per_second": _rate(rows, seconds)}
        print_json({"tables": tables, "total": total, **({} if size is None else {"bytes": size})})
        return
    print_table(
        ("stage", "table", "rows", "seconds", "rows/s"),
        [(item.stage, item.table, item.rows, item.seconds, _rate(item.rows, item.seconds)) for item in summaries],
        total=("all", "", rows, seconds, _rate(rows, seconds)),
    )
    if size is not None:
        click.echo(f"Nothing was kept. As SQLite the database takes {size / 1e6:,.1f} MB.")


def _rate(rows: int, seconds: float) -> int:
    return round(rows / seconds) if seconds > 0 else 0
