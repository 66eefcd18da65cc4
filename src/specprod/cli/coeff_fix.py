"""``specprod-load coeff-fix``: replace wrong template coefficients, step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from specprod.cli.options import configured, database_options, open_database, retries, verbosity
from specprod.cli.output import print_json, print_table, progress_bars

if TYPE_CHECKING:
    from specprod.configuration import Configuration
    from specprod.database.connection import Database

F = TypeVar("F", bound=Callable[..., Any])
TABLES = ("zpix", "ztile")

EPILOG = """\b
Example, one step after the other:
  specprod-load coeff-fix extract prod --specprod iron --output patches
  specprod-load coeff-fix load patches/*-coeff-patch.fits --specprod iron --database postgresql://host/name
  specprod-load coeff-fix check --specprod iron --database postgresql://host/name
  specprod-load coeff-fix apply --specprod iron --database postgresql://host/name --backup
or all four:
  specprod-load coeff-fix all prod --specprod iron --output patches --database postgresql://host/name --backup
"""


@click.group(epilog=EPILOG)
def coeff_fix() -> None:
    """Replace the template coefficients in zpix and ztile, coeff_0 to coeff_9, by those of the catalogues.

    fuji, guadalupe and iron were loaded with wrong ones.
    """


specprod_option = click.option("--specprod", required=True, metavar="NAME", help="The production, such as iron.")
table_option = click.option(
    "--table", "tables", multiple=True, type=click.Choice(TABLES), help="Only this table.  [default: both]"
)
patch_schema_option = click.option(
    "--patch-schema",
    metavar="NAME",
    help="Schema of the patch tables in PostgreSQL.  [default: coeff_patch_NAME]",
)
chunksize_option = click.option(
    "--chunksize", type=click.IntRange(min=1), metavar="N", help="Rows of a file in memory at a time."
)
output_option = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Directory of the patch files.  [default: here]",
)
backup_option = click.option("--backup", is_flag=True, help="Keep the old coefficients, so that undo can restore them.")
catalogues_option = click.option(
    "--catalogues",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of other catalogues, zall-pix-NAME.fits and zall-tilecumulative-NAME.fits.  "
    "[default: those that the production is loaded from]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
root_argument = click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))


@contextlib.contextmanager
def _databases(
    specprod: str,
    patch_schema: str | None,
    config: Path | None,
    chunksize: int | None = None,
    **where: Any,
) -> Iterator[tuple[Configuration, Database, Database]]:
    """Open the production and the schema of its patch tables, and close them."""
    from specprod.coeff import default_schema

    # Where a copy of a production is patched, its name need not be that of a production we know.
    configuration = configured(config, loading__chunksize=chunksize).for_production(specprod)
    with (
        open_database(configuration, default_schema=specprod, **where) as target,
        target.beside(patch_schema or default_schema(specprod)) as patches,
    ):
        yield configuration, target, patches


def _print(rows: Sequence[Any], as_json: bool) -> None:
    """Print dataclasses as a table."""
    records = [vars(item) for item in rows]
    if as_json:
        print_json(records)
    else:
        print_table(tuple(records[0]), [tuple(record.values()) for record in records])


def _extract(
    root: Path,
    specprod: str,
    tables: Sequence[str],
    catalogues: Path | None,
    output: Path,
    overwrite: bool,
    configuration: Configuration,
) -> dict[Path, tuple[str, int]]:
    from specprod.coeff import extract as extract_table
    from specprod.coeff import find_catalogue, patch_name
    from specprod.files.publishing import check_absent
    from specprod.files.tree import ProductionTree

    tree = ProductionTree(root, configuration.production(specprod))
    paths = {table: output / patch_name(table, specprod) for table in tables or TABLES}
    sources = {
        table: [find_catalogue(catalogues, table, specprod)] if catalogues else tree.redshifts(table)[0]
        for table in paths
    }
    check_absent(list(paths.values()), overwrite)
    chunksize = configuration.get("loading.chunksize")
    return {
        path: (table, extract_table(sources[table], table, path, overwrite=overwrite, chunksize=chunksize))
        for table, path in paths.items()
    }


@coeff_fix.command(epilog="Example: specprod-load coeff-fix extract prod --specprod iron --output patches")
@root_argument
@specprod_option
@table_option
@catalogues_option
@output_option
@click.option("--overwrite", is_flag=True, help="Replace patch files that exist.")
@chunksize_option
@json_option
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Configuration file.")
@click.option("-v", "--verbose", count=True, help="Say more; twice: also debugging messages.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong.")
def extract(
    root: Path,
    specprod: str,
    tables: tuple[str, ...],
    catalogues: Path | None,
    output: Path,
    overwrite: bool,
    chunksize: int | None,
    as_json: bool,
    config: Path | None,
    verbose: int,
    quiet: bool,
) -> None:
    """Write patch files: keys and coefficients of the redshift catalogues of the production below ROOT."""
    verbosity(verbose, quiet)
    configuration = configured(config, specprod, loading__chunksize=chunksize)
    written = _extract(root, specprod, tables, catalogues, output, overwrite, configuration)
    records = [{"table": table, "rows": rows, "file": str(path)} for path, (table, rows) in written.items()]
    if as_json:
        print_json(records)
    else:
        print_table(("table", "rows", "file"), [tuple(record.values()) for record in records])


@coeff_fix.command(epilog="Example: specprod-load coeff-fix load *-coeff-patch.fits --specprod iron --database prod.db")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@specprod_option
@patch_schema_option
@click.option("--overwrite", is_flag=True, help="Replace patch tables that are loaded already.")
@chunksize_option
@json_option
@database_options
def load(
    files: tuple[Path, ...],
    specprod: str,
    patch_schema: str | None,
    overwrite: bool,
    as_json: bool,
    verbose: int,
    quiet: bool,
    **where: Any,
) -> None:
    """Load patch FILES into the tables zpixpatch and ztilepatch."""
    verbosity(verbose, quiet)
    with _databases(specprod, patch_schema, **where) as (configuration, _, patches):
        loaded = _load(patches, files, overwrite, configuration, not quiet)
    records = [{"table": f"{table}patch", "rows": rows} for table, rows in loaded]
    if as_json:
        print_json(records)
    else:
        print_table(("table", "rows"), [tuple(record.values()) for record in records])


def _load(
    patches: Database, files: Sequence[Path], overwrite: bool, configuration: Configuration, bars: bool
) -> list[tuple[str, int]]:
    from specprod.coeff import load_patch

    with progress_bars(bars) as progress:
        return [
            load_patch(
                patches,
                path,
                overwrite=overwrite,
                chunksize=configuration.get("loading.chunksize"),
                retries=retries(configuration),
                progress=progress,
            )
            for path in files
        ]


@coeff_fix.command(epilog="Example: specprod-load coeff-fix check --specprod iron --database prod.db")
@specprod_option
@table_option
@patch_schema_option
@json_option
@database_options
def check(
    specprod: str,
    tables: tuple[str, ...],
    patch_schema: str | None,
    as_json: bool,
    verbose: int,
    quiet: bool,
    **where: Any,
) -> None:
    """Count the rows of the production, of the patch, and of both joined by id; exit status 1 unless all are equal.

    The last column is the number of rows whose coefficients differ.
    """
    from specprod.coeff import compare, require_agreement

    verbosity(verbose, quiet)
    with _databases(specprod, patch_schema, **where) as (_, target, patches):
        counts = compare(target, patches, tables or TABLES)
    _print(counts, as_json)
    require_agreement(counts)


@coeff_fix.command(epilog="Example: specprod-load coeff-fix apply --specprod iron --database prod.db --backup")
@specprod_option
@table_option
@patch_schema_option
@backup_option
@click.option("--dry-run", is_flag=True, help="Say how many rows would change, and change nothing.")
@json_option
@database_options
def apply(
    specprod: str,
    tables: tuple[str, ...],
    patch_schema: str | None,
    backup: bool,
    dry_run: bool,
    as_json: bool,
    verbose: int,
    quiet: bool,
    **where: Any,
) -> None:
    """Replace the coefficients that differ, in one transaction, with the counts before it and a check after it.

    If the counts disagree or a row differs afterwards, nothing is changed and the exit status is 1.
    """
    from specprod.coeff import apply_patch

    verbosity(verbose, quiet)
    with _databases(specprod, patch_schema, **where) as (configuration, target, patches):
        done = apply_patch(
            target, patches, tables or TABLES, backup=backup, dry_run=dry_run, retries=retries(configuration)
        )
    _print(done, as_json)


@coeff_fix.command(epilog="Example: specprod-load coeff-fix undo --specprod iron --database prod.db")
@specprod_option
@table_option
@patch_schema_option
@json_option
@database_options
def undo(
    specprod: str,
    tables: tuple[str, ...],
    patch_schema: str | None,
    as_json: bool,
    verbose: int,
    quiet: bool,
    **where: Any,
) -> None:
    """Restore the coefficients that apply --backup kept, in one transaction.

    Nothing is restored if a row no longer has the values of the patch.
    """
    from specprod.coeff import undo_patch

    verbosity(verbose, quiet)
    with _databases(specprod, patch_schema, **where) as (configuration, target, patches):
        done = undo_patch(target, patches, tables or None, retries=retries(configuration))
    _print(done, as_json)


@coeff_fix.command(
    "all",
    epilog="Example: specprod-load coeff-fix all prod --specprod iron --database prod.db --backup",
)
@root_argument
@specprod_option
@table_option
@patch_schema_option
@catalogues_option
@output_option
@backup_option
@click.option("--overwrite", is_flag=True, help="Replace patch files and patch tables that are there.")
@chunksize_option
@json_option
@database_options
def all_steps(
    root: Path,
    specprod: str,
    tables: tuple[str, ...],
    patch_schema: str | None,
    catalogues: Path | None,
    output: Path,
    backup: bool,
    overwrite: bool,
    chunksize: int | None,
    as_json: bool,
    config: Path | None,
    verbose: int,
    quiet: bool,
    **where: Any,
) -> None:
    """Extract, load, check and apply, one after the other; the first that fails is the last."""
    from specprod.coeff import apply_patch, compare, require_agreement

    verbosity(verbose, quiet)
    own = configured(config, specprod, loading__chunksize=chunksize)
    with _databases(specprod, patch_schema, config, chunksize, **where) as (configuration, target, patches):
        written = _extract(root, specprod, tables, catalogues, output, overwrite, own)
        _load(patches, list(written), overwrite, configuration, not quiet)
        counts = compare(target, patches, tables or TABLES)
        require_agreement(counts)
        done = apply_patch(target, patches, tables or TABLES, backup=backup, retries=retries(configuration))
    _print(done, as_json)
