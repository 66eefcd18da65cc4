"""``specprod-load tile``: load single tiles, or those that changed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specprod.cli.names import specprod_option
from specprod.cli.options import (
    DatabaseOptions,
    confirm_overwrite,
    database_options,
    execution,
    gathered,
    json_option,
    retries,
)
from specprod.cli.output import print_json, print_table

if TYPE_CHECKING:
    from specprod.configuration import Configuration
    from specprod.database.connection import Database
    from specprod.files.tree import ProductionTree
    from specprod.tiles.loading import TileSummary
    from specprod.tiles.observations import Observations
    from specprod.tiles.sources import PhotometrySource

_COUNTS = ("inserted", "updated", "removed", "unchanged")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileOptions:
    """The options of a load of tiles, as --help describes them."""

    root: Path
    tileids: tuple[int, ...]
    specprod: str
    changed: bool
    update: bool
    primary: bool
    cluster: bool
    tiles_file: Path | None
    exposures_file: Path | None
    source: str | None
    strict: bool
    missing_bricks: str
    ignore_checksums: bool
    overwrite: bool
    yes: bool
    public: bool
    workers: int | None
    as_json: bool


@click.command(
    epilog="""\b
Examples, two tiles and what was observed last night:
  specprod-load tile /data/desi 1234 5678 --specprod daily --database daily.db
  specprod-load tile /data/desi --specprod daily --changed --update --primary

\b
No target without a catalogue; and a tile of whose bricks not all are on disk:
  specprod-load tile /data/desi 1234 --specprod daily --strict
  specprod-load tile /data/desi 5678 --specprod daily --missing-bricks targeting"""
)
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("tileids", type=click.IntRange(min=1), nargs=-1, metavar="[TILEID]...")
@specprod_option
@click.option("--changed", is_flag=True, help="Load the tiles whose row in the tiles file differs from the database's.")
@click.option("--update", is_flag=True, help="Of tiles that are there, load only observations and redshifts.")
@click.option("--primary", is_flag=True, help="Afterwards, recompute the primary columns and complete the sky indexes.")
@click.option("--cluster", is_flag=True, help="With --primary: also rewrite the tables in the order of the sky.")
@click.option("--tiles-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Other tiles file.")
@click.option(
    "--exposures-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Other exposures file."
)
@click.option(
    "--source",
    type=click.Choice(["production", "catalogues"]),
    help="Photometry from the production's files or the survey's catalogues.  [default: as the production says]",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Fail where a target is in no catalogue.  [default: it has what the fiberassign file says of it]",
)
@click.option(
    "--missing-bricks",
    type=click.Choice(["fail", "targeting"]),
    default="fail",
    help="Where a brick has no Tractor catalogue: fail, or photometry of targeting.  [default: fail]",
)
@click.option("--ignore-checksums", is_flag=True, help="Load files that are not what their CHECKSUM or DATASUM says.")
@click.option("--overwrite", is_flag=True, help="Drop what was loaded before, and start anew.")
@click.option("--yes", is_flag=True, help="Do not ask before dropping tables.")
@click.option("--public", is_flag=True, help="Let the roles of the collaboration and of the public read the tables.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Tiles that are written at a time.")
@json_option
@database_options
@gathered("options", TileOptions)
def tile(options: TileOptions, where: DatabaseOptions) -> int:
    """Load tiles of the production NAME, whose files stand below ROOT, into a database.

    Each tile is one transaction. A tile that is there is brought up to date: rows that are new, differ, or are gone
    from its files. A tile that cannot be loaded is named, and the others are loaded; the exit code is then 1.
    """
    if bool(options.tileids) == options.changed:
        raise click.UsageError("give TILEIDs, or --changed")
    if options.cluster and not options.primary:
        raise click.UsageError("--cluster goes with --primary")
    configuration = where.configuration(options.specprod, loading__workers=options.workers)
    if options.overwrite:
        confirm_overwrite(f"the tables of {where.schema or options.specprod}", options.yes)

    from specprod.files.places import Places
    from specprod.files.tree import ProductionTree
    from specprod.tiles.choice import photometry_source
    from specprod.tiles.observations import Observations

    start = time.monotonic()
    tree = ProductionTree(
        options.root,
        configuration.production(options.specprod),
        Places.of(configuration),
        checksums=not options.ignore_checksums,
    )
    photometry = photometry_source(tree, options.source, missing_bricks=options.missing_bricks)
    observations = Observations(tree, options.tiles_file, options.exposures_file)
    with where.open(configuration, options.specprod, create=True) as target:
        _prepare(target, tree, configuration, options)
        summaries, changes = _load(target, tree, observations, photometry, configuration, options)
    for item in summaries:
        if item.error is not None:
            click.echo(f"specprod-load: tile {item.tileid}: {item.error}", err=True)
    _print(summaries, changes, time.monotonic() - start, options.as_json)
    return 1 if any(item.error is not None for item in summaries) else 0


def _prepare(target: Database, tree: ProductionTree, configuration: Configuration, options: TileOptions) -> None:
    """Make the tables, keys and indexes that are not there; nobody else may load meanwhile."""
    from specprod.database.keys import missing_keys
    from specprod.database.schema import existing_tables
    from specprod.loading.execution import check_production
    from specprod.model import TABLES
    from specprod.production.job import build_all
    from specprod.production.setup import load_versions, setup_db

    with target.connect() as connection:
        there = existing_tables(target, connection)
        complete = len(there) == len(TABLES) and not any(missing_keys(target, connection, cls) for cls in there)
    if complete and not options.overwrite and not options.public:
        return
    with target.locked():
        if not options.overwrite:
            check_production(target, execution("tile", configuration, tree=tree, after=("run",)))
        rule = retries(configuration)
        prepare = partial(
            setup_db,
            database=target,
            overwrite=options.overwrite,
            public=options.public,
            roles=(configuration.get("roles.collaboration"),),
            public_role=configuration.get("roles.public"),
            retries=retries(configuration),
        )
        rule.run(prepare, "tables")
        build_all(target, workers=configuration.get("loading.workers"), retries=rule)
        names = tree.production
        versions = (names.photometry, names.redshift, names.release, names.specprod, names.tiles)
        rule.run(partial(load_versions, *versions, database=target), "versions")


def _load(
    target: Database,
    tree: ProductionTree,
    observations: Observations,
    photometry: PhotometrySource,
    configuration: Configuration,
    options: TileOptions,
) -> tuple[list[TileSummary], dict[str, int]]:
    from specprod.loading.execution import opened
    from specprod.production.finish import update_primary, update_q3c
    from specprod.tiles.loading import changed_tiles, load_tiles
    from specprod.tiles.selection import select_tiles

    rule = retries(configuration)
    with opened(
        target, execution("tile", configuration, tree=tree, shared=True, after=("run",)), retries=rule
    ) as ledger:
        tileids: Sequence[int] = options.tileids
        if options.changed:
            chosen = [tileid for tileid, _ in select_tiles(observations.tiles_file)]
            tileids = changed_tiles(target, chosen, observations)
        records = ledger.tiles(
            {
                "source": options.source,
                "missing_bricks": options.missing_bricks,
                "tiles_file": None if options.tiles_file is None else str(options.tiles_file.absolute()),
                "exposures_file": None if options.exposures_file is None else str(options.exposures_file.absolute()),
            }
        )
        summaries = list(
            load_tiles(
                target,
                tree,
                tileids,
                update=options.update,
                strict=options.strict,
                observations=observations,
                source=photometry,
                workers=configuration.get("loading.workers"),
                retries=rule,
                record=lambda connection, rows, counts: records.done(
                    connection, rows.tileid, counts, [*rows.files, *observations.files], rows.facts
                ),
                record_failure=records.failed,
            )
        )
        changes = update_primary(database=target, retries=rule) if options.primary else {}
        if options.primary:
            update_q3c(database=target, cluster=options.cluster, retries=rule)
    return summaries, changes


def _print(summaries: Sequence[TileSummary], changes: dict[str, int], seconds: float, as_json: bool) -> None:
    from specprod.tiles.rows import TableCounts

    totals: dict[str, TableCounts] = {}
    for item in summaries:
        for name, counts in item.tables.items():
            totals[name] = totals.get(name, TableCounts()) + counts
    if as_json:
        tiles = [
            {
                "tileid": item.tileid,
                "state": item.state,
                "seconds": item.seconds,
                "error": None if item.error is None else str(item.error),
                "uncatalogued": item.uncatalogued,
                "missing_bricks": item.missing_bricks,
                "tables": {name: dataclasses.asdict(counts) for name, counts in item.tables.items()},
            }
            for item in summaries
        ]
        tables = {name: dataclasses.asdict(counts) for name, counts in totals.items()}
        print_json({"tiles": tiles, "tables": tables, "primary": changes, "seconds": seconds})
        return
    if len(summaries) != 1:
        rows = [(str(item.tileid), item.state, *_sums(item), item.seconds) for item in summaries]
        print_table(("tile", "state", *_COUNTS, "seconds"), rows)
        click.echo()
    else:
        click.echo(f"tile {summaries[0].tileid}: {summaries[0].state}")
    if totals:
        print_table(("table", *_COUNTS), [(name, *dataclasses.astuple(counts)) for name, counts in totals.items()])
    for name, count in changes.items():
        click.echo(f"primary spectra of {name}: {count:,} rows changed")
    click.echo(f"{len(summaries)} tile{'' if len(summaries) == 1 else 's'} in {seconds:.1f} s{_odd(summaries)}")


def _odd(summaries: Sequence[TileSummary]) -> str:
    """Say how many targets and bricks were without a catalogue."""
    targets, bricks = (sum(getattr(item, name) for item in summaries) for name in ("uncatalogued", "missing_bricks"))
    words = [f"{targets:,} targets in no catalogue, as in the fiberassign file"] if targets else []
    words += [f"{bricks:,} bricks without a Tractor catalogue"] if bricks else []
    return "".join(f"; {text}" for text in words)


def _sums(item: TileSummary) -> tuple[int, ...]:
    return tuple(sum(getattr(counts, name) for counts in item.tables.values()) for name in _COUNTS)
