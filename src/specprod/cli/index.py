"""``specprod-load index``: build or refresh keys and indexes."""

from __future__ import annotations

import click

from specprod.cli.options import DatabaseOptions, database_options, execution, retries
from specprod.cli.output import progress_bars


@click.command(epilog="Example: specprod-load index --database postgresql://host/name --schema iron --cluster")
@click.option("--cluster", is_flag=True, help="Also rewrite the tables in the order of the sky; this locks them.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Connections that build.")
@database_options
def index(cluster: bool, workers: int | None, where: DatabaseOptions) -> int:
    """Build the keys, indexes and references that are missing, and gather statistics.

    What is there already is left alone.
    """
    configuration = where.configuration(loading__workers=workers)

    from specprod.loading.execution import recorded
    from specprod.production.job import build_all

    rule = retries(configuration)
    with (
        where.open(configuration) as target,
        recorded(target, execution("index", configuration), rule),
        progress_bars(not where.quiet) as progress,
    ):
        built = build_all(
            target,
            cluster=cluster,
            workers=configuration.get("loading.workers"),
            retries=rule,
            progress=progress,
        )
    for name in built:
        click.echo(f"built {name}")
    if not built:
        click.echo("nothing was missing")
    return 0
