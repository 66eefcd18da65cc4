"""``specprod-load sample``: write a synthetic production."""

from __future__ import annotations

import json
import sys
from typing import Any

import click


@click.command(
    epilog="""\b
Examples:
  specprod-load sample prod
  specprod-load run prod --specprod sample --database prod.db
  specprod-load sample nightly --specprod daily --faults
  specprod-load sample big --specprod iron --tiles 30 --assigned 4000 --potential 10000
"""
)
@click.argument("directory", type=click.Path(file_okay=False))
@click.option(
    "--specprod", default="sample", show_default=True, help="Name of the production; a known one has its own layout."
)
@click.option("--tiles", default=3, show_default=True, help="Number of tiles with redshifts; one without is added.")
@click.option("--assigned", default=200, show_default=True, help="Targets of a tile that get a fiber, sky not counted.")
@click.option(
    "--potential", default=500, show_default=True, help="Targets of a tile that a fiber reaches, sky not counted."
)
@click.option("--sky-fibers", type=int, help="Fibers of a tile on sky.  [default: a fifth of --assigned]")
@click.option("--sky-targets", type=int, help="Sky positions of a tile.  [default: a fifth of --potential]")
@click.option("--radius", type=float, help="Radius of a tile in degrees.  [default: 1.6, less for few targets]")
@click.option("--seed", default=1, show_default=True, help="Another seed, other targets; the same, the same bytes.")
@click.option("--split", is_flag=True, help="Redshift catalogues for each survey and program, none for all.")
@click.option("--extension", is_flag=True, help="Have tiles of the programs dark1b and bright1b too.")
@click.option("--tile-inputs", is_flag=True, help="Write what loads of single tiles read, too.")
@click.option(
    "--brick-sources", default=20, show_default=True, help="Sources in a brick besides those of targets (tile inputs)."
)
@click.option(
    "--catalogue-reach", default=1.0, show_default=True, help="Radius of target catalogues in radii of a tile."
)
@click.option(
    "--faults", is_flag=True, help="Add jura and daily, the latter with faults for patch to mend: faults.json."
)
@click.option("--fault-tiles", default=128, show_default=True, help="Number of tiles with faults.")
@click.option("--gzip/--no-gzip", "compressed", default=True, help="Compress every second fiberassign file.")
@click.option("--compact", is_flag=True, help="Leave out light curves and aperture fluxes, which no table holds.")
@click.option("--overwrite", is_flag=True, help="Replace a sample that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def sample(directory: str, potential: int, assigned: int, as_json: bool, **options: Any) -> None:
    """Write a synthetic production below DIRECTORY, in the layout and with the columns of a real one."""
    from specprod.sample import write_sample

    bar = click.progressbar(length=options["tiles"] + 1, label="tiles", file=sys.stderr, hidden=not sys.stderr.isatty())
    with bar:
        summary = write_sample(
            directory,
            targets_per_tile=assigned,
            potentials_per_tile=potential,
            progress=lambda done, _: bar.update(done - bar.pos),
            **options,
        )
    if as_json:
        click.echo(json.dumps({"root": str(summary.root), "bytes": summary.bytes, "rows": summary.rows,
                               "files": [str(path) for path in summary.files]}))  # fmt: skip
        return
    width = max(len(kind) for kind in summary.rows)
    for kind, number in summary.rows.items():
        click.echo(f"{kind:{width}}  {number:>10}")
    click.echo(f"{len(summary.files)} files, {summary.bytes / 1e6:.1f} MB in {summary.root}")
