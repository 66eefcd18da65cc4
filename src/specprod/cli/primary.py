"""``specprod-load primary``: recompute which spectrum of a target is the best."""

from __future__ import annotations

import click

from specprod.cli.options import DatabaseOptions, database_options, execution, json_option, retries
from specprod.cli.output import print_json


@click.command(epilog="Example: specprod-load primary --database postgresql://host/name --schema daily")
@click.option("--cluster", is_flag=True, help="Also rewrite the tables in the order of the sky; this locks them.")
@json_option
@database_options
def primary(cluster: bool, as_json: bool, where: DatabaseOptions) -> int:
    """Recompute nspec and primary of zpix and ztile: over all spectra, over sv1 to sv3, and over main.

    Among the spectra of a target those with ZWARN 0 come first, then that with the highest TSNR2_LRG. Only rows that
    change are written. Indexes of the sky that are not there are built.
    """
    configuration = where.configuration()

    from specprod.database.schema import existing_tables
    from specprod.errors import SchemaError
    from specprod.loading.execution import recorded
    from specprod.model import Zpix, Ztile
    from specprod.production.finish import update_primary, update_q3c

    rule = retries(configuration)
    with where.open(configuration) as target, recorded(target, execution("primary", configuration), rule):
        with target.connect() as connection:
            if not existing_tables(target, connection, (Ztile, Zpix)):
                raise SchemaError("there are no tables ztile and zpix; load them first with specprod-load run or tile")
        changes = update_primary(database=target, retries=rule)
        update_q3c(database=target, cluster=cluster, retries=rule)
    if as_json:
        print_json(changes)
    else:
        for name, count in changes.items():
            click.echo(f"primary spectra of {name}: {count:,} rows changed")
    return 0
