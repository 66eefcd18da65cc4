"""``specprod-load plan``: what a load takes, and which files are missing."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specprod.cli.names import specprod_option, table_option
from specprod.cli.options import DatabaseOptions, database_options, json_option
from specprod.cli.output import print_json, print_table
from specprod.stages import TABLE_NAMES

if TYPE_CHECKING:
    from specprod.production.plan import Plan


@click.command(
    epilog="""\b
Examples, of a tree that is there and of one that is to be fetched:
  specprod-load plan prod --specprod sample --database prod.db
  specprod-load plan /data/desi --specprod iron --table zpix --files"""
)
@click.argument("root", type=click.Path(file_okay=False, path_type=Path))
@specprod_option
@table_option
@click.option("--files", is_flag=True, help="Print only the files that are to be fetched, below ROOT, one a line.")
@click.option("--rate", type=click.IntRange(min=1), metavar="N", help="Rows a second that this machine loads.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Connections that load or build indexes.")
@json_option
@database_options
def plan(
    root: Path,
    specprod: str,
    tables: tuple[str, ...],
    files: bool,
    rate: int | None,
    workers: int | None,
    as_json: bool,
    where: DatabaseOptions,
) -> int:
    """Say what the load of production NAME below ROOT takes: rows, disk, memory, time; and which files are missing.

    Headers of files are read and next to no rows; no database is connected to. The exit code is 3 if files are missing.
    """
    configuration = where.configuration(specprod, loading__workers=workers)

    from specprod.files.tree import ProductionTree
    from specprod.production import plan as planning

    tree = ProductionTree(root, configuration.production(specprod))
    if files:
        names = planning.files_to_fetch(tree, tables or TABLE_NAMES)
        if as_json:
            print_json({"files": names})
            return 0
        for name in names:
            click.echo(name)
        return 0
    with where.named(configuration, specprod) as target:
        found = planning.plan(
            target,
            tree,
            tables=tables or TABLE_NAMES,
            workers=configuration.get("loading.workers"),
            rate=rate,
        )
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        _print(found, measured=rate is None)
    return 3 if found.missing else 0


def _print(found: Plan, *, measured: bool) -> None:
    print_table(
        ("table", "files", "MB of files", "rows", "MB of table", "MB of indexes"),
        [
            (
                item.table,
                item.files,
                item.file_bytes / 1e6,
                f"{'~' if item.estimated else ''}{item.rows:,}",
                item.table_bytes / 1e6,
                item.index_bytes / 1e6,
            )
            for item in found.tables
        ],
    )
    for item in found.tables:
        if item.more_rows:
            click.echo(f"{item.table}: and those of {item.more_rows:,} further rows that it lacks")
    free = "not seen from here" if found.free_bytes is None else _size(found.free_bytes)
    rate = f"{found.rate:,} rows/s{', as measured on this machine' if measured else ''}"
    click.echo(f"\nFiles     {_size(found.file_bytes)}")
    click.echo(f"Database  {_size(found.database_bytes)} with indexes ({found.kind})")
    click.echo(f"Free      {free}")
    click.echo(f"Memory    {_size(found.memory_bytes)}")
    click.echo(f"Time      {_duration(found.seconds)} for {found.rows:,} rows ({rate})")
    if found.free_bytes is not None and found.free_bytes < found.database_bytes:
        click.echo("\nThere is not enough room.")
    if found.missing:
        click.echo("\nMissing:")
        for line in found.missing:
            click.echo(f"  {line}")


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    """Give hours, minutes and seconds."""
    whole = math.ceil(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
