"""``specprod-load batch``: write SLURM scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from specprod.cli.names import Production
from specprod.cli.options import config_option, read_configuration

EPILOG = """\b
Examples:
  specprod-load batch ada@example.org /data/desi iron
  specprod-load batch ada@example.org /data/desi daily --tiles-file tiles-daily.csv --array --limit 8
  submit-batch --test ~/Documents/Jobs/load_specprod_db_iron.jobs"""

FILE = click.Path(path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("email")
@click.argument("root", type=FILE)
@click.argument("specprod", type=Production())
@click.option("--schema", help="Schema to load into.  [default: SPECPROD]")
@click.option("--csh", is_flag=True, help="Write csh scripts instead of bash.")
@click.option("--job-dir", type=FILE, help="Directory of scripts, logs and marks.  [default: ~/Documents/Jobs]")
@click.option("--tiles-file", type=FILE, help="Write a script a tile of this file (FITS or CSV), not a script a stage.")
@click.option(
    "--patch-tiles",
    type=FILE,
    nargs=2,
    metavar="TILES EXPOSURES",
    help="Load the tiles with these (patched) files instead of those of the production.",
)
@click.option("--array", is_flag=True, help="One job array over the tiles instead of a script a tile.")
@click.option("--limit", type=int, help="Tiles of the array that run at once.  [default: 8]")
@click.option(
    "--overwrite/--no-overwrite",
    default=True,
    show_default=True,
    help="Replace an existing schema, in the first script.",
)
@click.option("--public", is_flag=True, help="Let the public role read what is loaded.")
@click.option("--profile", help="Site, as the configuration defines it.  [default: nersc]")
@click.option("--database", help="URL or SQLite file to load into; without password.")
@click.option("--hostname", help="PostgreSQL server to load into.")
@click.option("--username", help="User on that server.")
@config_option
@click.option("--dry-run", is_flag=True, help="Print the scripts instead of writing them.")
def batch(config: Path | None, dry_run: bool, **options: Any) -> None:
    """Write SLURM scripts that load the production SPECPROD below ROOT; mails of the jobs go to EMAIL.

    A script a stage, or a script a tile. Prints the files that it wrote; the last, whose name ends in .jobs, is the
    order of the others, and what submit-batch takes.
    """
    from specprod.batch import BatchOptions, prepare_template, write_scripts

    keys = {
        "batch__profile": options.pop("profile"),
        **{f"database__{name}": options.pop(name) for name in ("hostname", "username")},
    }
    configuration = read_configuration(config, **keys)
    configuration = configuration.override({"database.url": options.pop("database")}, "option --database")
    chosen = BatchOptions(configuration=configuration, config=config, **options)
    scripts = prepare_template(chosen)
    if dry_run:
        for name, contents in scripts.items():
            click.echo(f"==> {name} <==\n{contents}")
        return
    paths = write_scripts(scripts, chosen.jobs)
    for path in paths:
        click.echo(path)
    marks = chosen.jobs / "done" / chosen.marks
    if chosen.overwrite and (marks / "overwritten").exists():
        click.echo(f"Nothing will be overwritten, that was done before; to start over remove {marks}", err=True)
    click.echo(f"Next: submit-batch {paths[-1]}", err=True)
