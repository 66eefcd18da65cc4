"""``specprod-load coeff-fix``: replace wrong template coefficients, step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specprod.cli.group import NamedGroup
from specprod.cli.logs import start_log
from specprod.cli.names import Names, specprod_option
from specprod.cli.options import (
    DatabaseOptions,
    config_option,
    database_options,
    execution,
    gathered,
    json_option,
    quiet_option,
    read_configuration,
    retries,
    verbose_option,
)
from specprod.cli.output import print_json, print_table, progress_bars

if TYPE_CHECKING:
    from specprod.configuration import Configuration
    from specprod.database.connection import Database
    from specprod.loading.interfaces import Progress

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


@dataclass(frozen=True, kw_only=True)
class FixOptions:
    """The options of the steps, as --help describes them; each step has some of them."""

    specprod: str
    root: Path = Path()
    tables: tuple[str, ...] = ()
    patch_schema: str | None = None
    catalogues: Path | None = None
    output: Path = Path()
    overwrite: bool = False
    chunksize: int | None = None
    backup: bool = False
    dry_run: bool = False
    as_json: bool = False


fix_options = gathered("options", FixOptions)


@click.group(cls=NamedGroup, epilog=EPILOG)
def coeff_fix() -> None:
    """Replace the template coefficients in zpix and ztile, coeff_0 to coeff_9, by those of the catalogues.

    fuji, guadalupe and iron were loaded with wrong ones.
    """


table_option = click.option(
    "--table", "tables", multiple=True, type=Names(TABLES), help="Only this table.  [default: both]"
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
root_argument = click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))


@contextlib.contextmanager
def _databases(
    options: FixOptions, where: DatabaseOptions, *, create: bool = False
) -> Iterator[tuple[Configuration, Database, Database]]:
    """Open the production and the schema of its patch tables, and close them."""
    from specprod.coeff import default_schema

    # Where a copy of a production is patched, its name need not be that of a production we know.
    configuration = where.configuration(loading__chunksize=options.chunksize).for_production(options.specprod)
    with (
        where.open(configuration, options.specprod, create=create) as target,
        target.beside(options.patch_schema or default_schema(options.specprod)) as patches,
    ):
        yield configuration, target, patches


def _print(rows: Sequence[Any], as_json: bool) -> None:
    """Print dataclasses as a table."""
    records = [vars(item) for item in rows]
    if as_json:
        print_json(records)
    else:
        print_table(tuple(records[0]), [tuple(record.values()) for record in records])


def _extract(options: FixOptions, configuration: Configuration) -> dict[Path, tuple[str, int]]:
    """Write the patch files; give table and rows of each."""
    from specprod.coeff import extract as extract_table
    from specprod.coeff import find_catalogue, patch_name
    from specprod.files.publishing import check_absent
    from specprod.files.tree import ProductionTree

    specprod = options.specprod
    tree = ProductionTree(options.root, configuration.production(specprod))
    paths = {table: options.output / patch_name(table, specprod) for table in options.tables or TABLES}
    sources = {
        table: [find_catalogue(options.catalogues, table, specprod)] if options.catalogues else tree.redshifts(table)[0]
        for table in paths
    }
    check_absent(list(paths.values()), options.overwrite)
    given = {"overwrite": options.overwrite, "chunksize": configuration.get("loading.chunksize")}
    return {path: (table, extract_table(sources[table], table, path, **given)) for table, path in paths.items()}


@coeff_fix.command(epilog="Example: specprod-load coeff-fix extract prod --specprod iron --output patches")
@root_argument
@specprod_option
@table_option
@catalogues_option
@output_option
@click.option("--overwrite", is_flag=True, help="Replace patch files that exist.")
@chunksize_option
@json_option
@config_option
@verbose_option
@quiet_option
@fix_options
def extract(options: FixOptions, config: Path | None, verbose: int, quiet: bool) -> None:
    """Write patch files: keys and coefficients of the redshift catalogues of the production below ROOT."""
    start_log(verbose, quiet)
    written = _extract(options, read_configuration(config, options.specprod, loading__chunksize=options.chunksize))
    records = [{"table": table, "rows": rows, "file": str(path)} for path, (table, rows) in written.items()]
    if options.as_json:
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
@fix_options
def load(files: tuple[Path, ...], options: FixOptions, where: DatabaseOptions) -> None:
    """Load patch FILES into the tables zpixpatch and ztilepatch."""
    opened = _databases(options, where, create=True)
    with opened as (configuration, _, patches), progress_bars(not where.quiet) as progress:
        loaded = _load(patches, files, options.overwrite, configuration, progress)
    records = [{"table": f"{table}patch", "rows": rows} for table, rows in loaded]
    if options.as_json:
        print_json(records)
    else:
        print_table(("table", "rows"), [tuple(record.values()) for record in records])


def _load(
    patches: Database, files: Sequence[Path], overwrite: bool, configuration: Configuration, progress: Progress | None
) -> list[tuple[str, int]]:
    from specprod.coeff import load_patch

    chunksize, rule = configuration.get("loading.chunksize"), retries(configuration)
    return [
        load_patch(patches, path, overwrite=overwrite, chunksize=chunksize, retries=rule, progress=progress)
        for path in files
    ]


@coeff_fix.command(epilog="Example: specprod-load coeff-fix check --specprod iron --database prod.db")
@specprod_option
@table_option
@patch_schema_option
@json_option
@database_options
@fix_options
def check(options: FixOptions, where: DatabaseOptions) -> None:
    """Count the rows of the production, of the patch, and of both joined by id; exit status 1 unless all are equal.

    The last column is the number of rows whose coefficients differ.
    """
    from specprod.coeff import compare, require_agreement

    with _databases(options, where) as (_, target, patches):
        counts = compare(target, patches, options.tables or TABLES)
    _print(counts, options.as_json)
    require_agreement(counts)


@coeff_fix.command(epilog="Example: specprod-load coeff-fix apply --specprod iron --database prod.db --backup")
@specprod_option
@table_option
@patch_schema_option
@backup_option
@click.option("--dry-run", is_flag=True, help="Say how many rows would change, and change nothing.")
@json_option
@database_options
@fix_options
def apply(options: FixOptions, where: DatabaseOptions) -> None:
    """Replace the coefficients that differ, in one transaction, with the counts before it and a check after it.

    If the counts disagree or a row differs afterwards, nothing is changed and the exit status is 1.
    """
    from specprod.coeff import apply_patch
    from specprod.loading.execution import recorded

    with contextlib.ExitStack() as stack:
        configuration, target, patches = stack.enter_context(_databases(options, where))
        if not options.dry_run:
            stack.enter_context(recorded(target, execution("coeff-fix apply", configuration), retries(configuration)))
        done = apply_patch(
            target,
            patches,
            options.tables or TABLES,
            backup=options.backup,
            dry_run=options.dry_run,
            retries=retries(configuration),
        )
    _print(done, options.as_json)


@coeff_fix.command(epilog="Example: specprod-load coeff-fix undo --specprod iron --database prod.db")
@specprod_option
@table_option
@patch_schema_option
@json_option
@database_options
@fix_options
def undo(options: FixOptions, where: DatabaseOptions) -> None:
    """Restore the coefficients that apply --backup kept, in one transaction.

    Nothing is restored if a row no longer has the values of the patch.
    """
    from specprod.coeff import undo_patch
    from specprod.loading.execution import recorded

    with (
        _databases(options, where) as (configuration, target, patches),
        recorded(target, execution("coeff-fix undo", configuration), retries(configuration)),
    ):
        done = undo_patch(target, patches, options.tables or None, retries=retries(configuration))
    _print(done, options.as_json)


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
@fix_options
def all_steps(options: FixOptions, where: DatabaseOptions) -> None:
    """Extract, load, check and apply, one after the other; the first that fails is the last."""
    from specprod.coeff import apply_patch, compare, require_agreement
    from specprod.loading.execution import recorded

    own = where.configuration(options.specprod, loading__chunksize=options.chunksize)
    with (
        _databases(options, where) as (configuration, target, patches),
        recorded(target, execution("coeff-fix all", configuration), retries(configuration)),
    ):
        written = _extract(options, own)
        with progress_bars(not where.quiet) as progress:
            _load(patches, list(written), options.overwrite, configuration, progress)
        counts = compare(target, patches, options.tables or TABLES)
        require_agreement(counts)
        done = apply_patch(
            target, patches, options.tables or TABLES, backup=options.backup, retries=retries(configuration)
        )
    _print(done, options.as_json)
