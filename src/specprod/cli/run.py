"""``specprod-load run``: load a production."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from specprod.cli.options import configured, confirm_overwrite, database_options, open_database, retries, verbosity

if TYPE_CHECKING:
    from specprod.production import TableSummary

STAGES = ("exposures", "photometry", "targetphot", "target", "redshift", "fiberassign")


@click.command(epilog="Example: specprod-load run prod --specprod sample --database prod.db")
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--specprod", required=True, metavar="NAME", help="The production, such as iron.")
@click.option("--stage", "stages", multiple=True, type=click.Choice(STAGES), help="Only this stage; can be repeated.")
@click.option("--overwrite", is_flag=True, help="Drop what was loaded before, and start anew.")
@click.option("--yes", is_flag=True, help="Do not ask before dropping tables.")
@click.option("--public", is_flag=True, help="Let the roles of the collaboration and of the public read the tables.")
@click.option("--chunksize", type=click.IntRange(min=1), metavar="N", help="Rows of a file in one transaction.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Connections that build indexes.")
@database_options
def run(
    root: Path,
    specprod: str,
    stages: tuple[str, ...],
    overwrite: bool,
    yes: bool,
    public: bool,
    chunksize: int | None,
    workers: int | None,
    database: str | None,
    hostname: str | None,
    username: str | None,
    schema: str | None,
    config: Path | None,
    verbose: int,
    quiet: bool,
) -> int:
    """Load the production NAME, whose files stand below ROOT, into a database.

    All stages are loaded, or those that --stage names.
    """
    verbosity(verbose, quiet)
    configuration = configured(config, loading__chunksize=chunksize, loading__workers=workers)
    production = configuration.production(specprod)
    if overwrite:
        confirm_overwrite(f"the tables of {schema or specprod}", yes)

    from specprod.load import setup_db
    from specprod.loading import Loader
    from specprod.production import load_production
    from specprod.reading.production import ProductionTree

    with open_database(configuration, database, hostname, username, schema, specprod) as target:
        setup_db(
            database=target,
            overwrite=overwrite,
            public=public,
            roles=(configuration.get("roles.collaboration"),),
            public_role=configuration.get("roles.public"),
        )
        loader = Loader(target, chunksize=configuration.get("loading.chunksize"), retries=retries(configuration))
        summaries = load_production(
            target,
            ProductionTree(root, production),
            loader,
            stages=stages or STAGES,
            workers=configuration.get("loading.workers"),
        )
    _print(summaries)
    return 0


def _print(summaries: list[TableSummary]) -> None:
    for s in summaries:
        click.echo(f"{s.stage:12} {s.table:12} {s.rows:10d} {s.seconds:8.2f} {s.rows / max(s.seconds, 1e-9):12.0f}")
