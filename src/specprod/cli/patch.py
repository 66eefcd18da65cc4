"""``specprod-load patch``: the tiles and exposures files of a production, corrected from another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specprod.cli.logs import start_log
from specprod.cli.names import Production
from specprod.cli.options import json_option, quiet_option, verbose_option
from specprod.cli.output import print_json

if TYPE_CHECKING:
    from specprod.patch import PatchOptions, Report

EPILOG = """\b
Examples:
  specprod-load patch prod patched --dry-run
  specprod-load patch prod patched --source jura --destination daily --report changes.csv"""

_EXAMPLES = 3


@click.command(epilog=EPILOG)
@click.argument("root", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "src",
    type=Production(),
    metavar="NAME",
    default="jura",
    show_default=True,
    help="Production to take values from.",
)
@click.option(
    "--destination",
    "dst",
    type=Production(),
    metavar="NAME",
    default="daily",
    show_default=True,
    help="Production to patch.",
)
@click.option("--overwrite", is_flag=True, help="Replace output files that exist.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and write no patched file.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Save every change, with old and new value, as .csv, .ecsv or .json.",
)
@click.option(
    "--first-night",
    type=click.IntRange(19000101, 99991231),
    metavar="YYYYMMDD",
    help="Look up missing MJDs in the raw data from this night on.  [default: first night of the source]",
)
@click.option(
    "--spectro-data",
    type=click.Path(path_type=Path),
    envvar="DESI_SPECTRO_DATA",
    help="Directory of the raw data.  [environment: DESI_SPECTRO_DATA]",
)
@json_option
@verbose_option
@quiet_option
def patch(as_json: bool, verbose: int, quiet: bool, **options: Any) -> None:
    """Patch the exposures and tiles files of one production from another.

    ROOT is the directory above spectro/redux. The patched files, and copies of the originals, are written to the
    directory OUTPUT; the production itself is not touched.
    """
    from specprod.patch import PatchOptions, patch_production

    start_log(verbose, quiet)
    chosen = PatchOptions(**options)
    result = patch_production(chosen)
    if as_json:
        print_json(_as_dictionary(chosen, result))
    else:
        _print(chosen, result)


def _files(options: PatchOptions) -> list[str]:
    from specprod.patch import output_files

    written = [] if options.dry_run else list(output_files(options).values())
    return [str(path) for path in (*written, *([options.report] if options.report else []))]


def _as_dictionary(options: PatchOptions, result: Report) -> dict[str, Any]:
    from specprod.patch import as_json

    return {
        "source": options.src,
        "destination": options.dst,
        "timestamp": options.timestamp.isoformat(timespec="seconds"),
        "dry_run": options.dry_run,
        **as_json(result, _EXAMPLES),
        "files": _files(options),
    }


def _print(options: PatchOptions, result: Report) -> None:
    """Print one line a table, column and rule, with the first rows as examples."""
    from specprod.patch import as_json

    report = as_json(result, _EXAMPLES)
    for change in report["changes"]:
        click.echo(f"{change['table']} {change['column']}, {change['rule']}: {_rows(change['count'])}")
        names = [name for name in ("tileid", "expid", "camera") if name in change]
        for index, row in enumerate(change["row"]):
            key = " ".join(f"{name.upper()} {change[name][index]}" for name in names)
            click.echo(f"    row {row}, {key}: {_shown(change['old'][index])} -> {_shown(change['new'][index])}")
        if change["count"] > len(change["row"]):
            click.echo(f"    … and {change['count'] - len(change['row'])} more")
    for left in report["unpatched"]:
        rows = ", ".join(map(str, left["row"])) + (", …" if left["count"] > len(left["row"]) else "")
        click.echo(f"not patched: {left['table']} {left['column']}, {left['reason']}: {_rows(left['count'])} ({rows})")
    values = sum(change["count"] for change in report["changes"])
    would = "would change; nothing patched was written" if options.dry_run else "changed"
    click.echo(f"{options.dst} from {options.src}: {values} values {would}")
    for path in _files(options):
        click.echo(f"wrote {path}")


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _shown(value: Any) -> str:
    """Show a value as text, so that a masked value and blank text are seen as such."""
    return "(masked)" if value is None else "(blank)" if value == "" else str(value)
