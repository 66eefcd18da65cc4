"""``specprod-load config``: every value of the configuration, and where it came from."""

from __future__ import annotations

from pathlib import Path

import click

from specprod.cli.options import json_option
from specprod.cli.output import print_json

EPILOG = """\b
Examples:
  specprod-load config
  specprod-load config loading productions.iron
  specprod-load config --config site.toml --json batch"""


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[KEY]...")
@click.option("--config", "file", type=click.Path(path_type=Path), help="Read this configuration file as well.")
@json_option
def config(names: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Show the configuration and where each value came from.

    KEY is a key or the beginning of one (loading, productions.iron); without it all but the built-in productions
    and sites are shown. Passwords are masked.
    """
    from specprod.configuration import KEYS, load_configuration
    from specprod.configuration.core import BUILT_IN
    from specprod.errors import ConfigurationError, did_you_mean

    configuration = load_configuration(file)
    every = configuration.names()
    chosen = [name for name in every if name in KEYS or configuration.origin(name) != BUILT_IN]
    if names:
        chosen = [name for name in every if any(name == word or name.startswith(f"{word}.") for word in names)]
        for word in names:
            if not any(name == word or name.startswith(f"{word}.") for name in chosen):
                hint = did_you_mean(word, [*every, *{name.partition(".")[0] for name in every}])
                raise ConfigurationError(f"no key {word} and none that begins with it{hint}")
    if as_json:
        table = [
            {"key": name, "value": configuration.masked(name), "origin": configuration.origin(name)} for name in chosen
        ]
        print_json(table)
        return
    rows = [(name, configuration.shown(name), configuration.origin(name)) for name in chosen]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        click.echo(f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}")
