"""``specprod-load verify``: compare a database with its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from specprod.cli.names import specprod_option, stage_option
from specprod.cli.options import DatabaseOptions, database_options, execution, json_option, retries
from specprod.cli.output import print_json, print_table
from specprod.stages import STAGE_NAMES


@click.command(epilog="Example: specprod-load verify prod --specprod sample --database prod.db")
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@specprod_option
@stage_option
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Differences a table."
)
@click.option(
    "--patch-schema",
    metavar="NAME",
    help="Schema of the tables of coeff-fix in PostgreSQL.  [default: coeff_patch_NAME]",
)
@json_option
@database_options
def verify(
    root: Path,
    specprod: str,
    stages: tuple[str, ...],
    limit: int,
    patch_schema: str | None,
    as_json: bool,
    where: DatabaseOptions,
) -> int:
    """Compare every value of the tables with the files below ROOT from which the ledger says that they were loaded.

    Also looks for rows that are in no file, rows that refer to none, and what is missing of keys, indexes, columns,
    comments, and the ledger. The exit code is 3 if anything differs.
    """
    configuration = where.configuration(specprod)

    from specprod.coeff import default_schema
    from specprod.files.places import Places
    from specprod.files.tree import ProductionTree
    from specprod.loading.execution import recorded
    from specprod.production import verification

    tree = ProductionTree(root, configuration.production(specprod), Places.of(configuration))
    # A copy of the tree may be what the database is compared with.
    job = execution("verify", configuration, production=dataclasses.asdict(tree.production), shared=True)
    with (
        where.open(configuration, specprod) as target,
        target.beside(patch_schema or default_schema(specprod)) as patches,
        recorded(target, job, retries(configuration)),
    ):
        reports = verification.verify(target, tree, stages=stages or STAGE_NAMES, limit=limit, patches=patches)
    different = any(report.differences for report in reports)
    if as_json:
        print_json({"equal": not different, "tables": [dataclasses.asdict(report) for report in reports]})
        return 3 if different else 0
    print_table(
        ("table", "files", "rows in files", "rows in table", "equal"),
        [(item.table, item.files, item.expected, item.found, not item.differences) for item in reports],
    )
    for report in reports:
        for line in (*report.differences, *(f"{report.table}: {note}" for note in report.notes)):
            click.echo(str(line))
    if not reports:
        click.echo("The ledger names no file of these stages: nothing was loaded.")
    return 3 if different or not reports else 0
