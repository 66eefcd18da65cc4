"""``specprod-load status``: what the ledger says."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specprod.cli.names import Production
from specprod.cli.options import DatabaseOptions, database_options, json_option
from specprod.cli.output import print_json, print_table

if TYPE_CHECKING:
    from specprod.loading.tile_records import TileRecord
    from specprod.production.status import Status


@click.command(epilog="Example: specprod-load status --database prod.db --specprod sample --root prod")
@click.option(
    "--specprod",
    type=Production(),
    metavar="NAME",
    help="The production; with --root, its files that are left are listed.",
)
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Root of the production.")
@click.option("--files", is_flag=True, help="Also list every file.")
@json_option
@database_options
def status(specprod: str | None, root: Path | None, files: bool, as_json: bool, where: DatabaseOptions) -> int:
    """Say what was loaded, when, from what and by whom, what failed, and what is left to be loaded."""
    if root is not None and specprod is None:
        raise click.UsageError("--root needs --specprod")
    configuration = where.configuration(specprod)

    from specprod.files.tree import ProductionTree
    from specprod.production import status as ledger

    with where.open(configuration, specprod) as target:
        tree = ProductionTree(root, configuration.production(specprod)) if root and specprod else None
        found = ledger.status(target, tree)
    if as_json:
        print_json(dataclasses.asdict(found))
        return 0
    _print(found, files, complete=tree is not None)
    return 0


def _print(found: Status, files: bool, complete: bool) -> None:
    """Print what fits a terminal of 80 columns; names of files may be longer."""
    print_table(
        ("run", "what", "state", "started (UTC)", "seconds"),
        [
            (item["number"], item["name"], item["state"], f"{item['started']:%Y-%m-%d %H:%M:%S}", item["seconds"])
            for item in found.runs
        ],
    )
    for item in found.runs:
        if item["stages"]:
            _line(f"run {item['number']}: ", ", ".join(f"{name} {state}" for name, state in item["stages"].items()))
        if item["message"]:
            _line(f"run {item['number']}: ", item["message"])
    click.echo()
    print_table(
        ("table", "rows", "rejected", "files", "complete", "rows/s"),
        [
            (
                item.table,
                item.rows,
                item.rejected,
                item.files,
                item.complete,
                round(item.rows / item.seconds) if item.seconds > 0 else None,
            )
            for item in found.tables
        ],
    )
    for table in found.tables:
        if table.missing:
            _line(f"{table.table} lacks ", ", ".join(table.missing))
    _print_tiles(found.tiles, files)
    if files:
        click.echo()
        for file in found.files:
            click.echo(f"{file.file}")
            state = (
                f"{file.rows_read:,} of {file.file_rows:,} rows read, {file.rows:,} written, {file.rejected:,} rejected"
            )
            click.echo(f"  {file.table}: {state}")
    if found.unloaded:
        click.echo()
        for text in str(found.unloaded).splitlines():
            _line("", text)
    if found.left:
        click.echo("\nleft to be loaded:")
        for text in found.left:
            _line("  ", text)
    elif complete:
        click.echo("\nNothing is left to be loaded.")


def _line(start: str, text: str) -> None:
    """Print a text, on more than one line if need be; words, such as names of files, stay whole."""
    click.echo(
        textwrap.fill(
            text, 80, initial_indent=start, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    )


def _print_tiles(tiles: Sequence[TileRecord], every: bool) -> None:
    """Print how many tiles were loaded one by one, and those of which there is something to say."""
    if not tiles:
        return
    click.echo()
    if every:
        rows = [
            (
                str(tile.tileid),
                tile.state,
                f"{tile.completed:%Y-%m-%d %H:%M:%S}" if tile.completed else "",
                tile.tables.get("ztile", {}).get("inserted", 0) + tile.tables.get("ztile", {}).get("unchanged", 0),
                tile.facts.get("uncatalogued", 0),
            )
            for tile in tiles
        ]
        print_table(("tile", "state", "ended (UTC)", "spectra", "uncatalogued"), rows)
    failed = [tile for tile in tiles if tile.state != "done"]
    uncatalogued = sum(tile.facts.get("uncatalogued", 0) for tile in tiles)
    click.echo(f"tiles loaded one by one: {len(tiles)}, of which {len(failed)} failed the last time")
    if uncatalogued:
        click.echo(f"{uncatalogued:,} targets of tiles are in no catalogue")
    for tile in failed:
        _line(f"tile {tile.tileid}: ", tile.message)
