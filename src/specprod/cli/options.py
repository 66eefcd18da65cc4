"""Options that several subcommands share, and what they mean together."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from specprod.configuration import Configuration
    from specprod.database.connection import Database
    from specprod.database.failures import Retries

__all__ = [
    "configured",
    "confirm_overwrite",
    "database_options",
    "open_database",
    "reader_roles",
    "retries",
    "verbosity",
]

F = TypeVar("F", bound=Callable[..., Any])

_DATABASE_OPTIONS: Sequence[Callable[[F], F]] = (
    click.option(
        "--database",
        metavar="URL-OR-FILE",
        help="PostgreSQL URL, or SQLite file.  [default: $SPECPROD_DATABASE, the configuration, specprod.db]",
    ),
    click.option("--hostname", metavar="HOST", help="PostgreSQL server, in the place of a URL."),
    click.option("--username", metavar="USER", help="User on the server. Passwords are libpq's to find (~/.pgpass)."),
    click.option("--schema", metavar="NAME", help="Schema of the production in PostgreSQL.  [default: the production]"),
    click.option(
        "--config",
        "config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Configuration file, TOML or INI.",
    ),
    click.option("-v", "--verbose", count=True, help="Say more; twice: also debugging messages."),
    click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong; no progress."),
)


def database_options(function: F) -> F:
    """Add the options that say which database and how much is said."""
    for option in reversed(_DATABASE_OPTIONS):
        function = option(function)
    return function


def verbosity(verbose: int, quiet: bool) -> None:
    """Send the log to stderr, as much of it as is wanted."""
    level = logging.ERROR if quiet else {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("specprod").setLevel(level)


def configured(config: Path | None, specprod: str | None = None, **options: Any) -> Configuration:
    """Read the configuration, and let options go before it.

    Parameters
    ----------
    config : path, optional
        The file of the option --config.
    specprod : str, optional
        A production whose own settings apply.
    **options
        Values by key, dots written as two underscores, such as ``database__schema``; None counts as not given.
    """
    from specprod.configuration import load_configuration

    configuration = load_configuration(config, environ=os.environ)
    if specprod is not None:
        configuration.production(specprod)
        configuration = configuration.for_production(specprod)
    for name, value in options.items():
        if value is not None:
            key = name.replace("__", ".")
            configuration = configuration.override({key: value}, origin=f"option --{key.rpartition('.')[2]}")
    return configuration


def open_database(
    configuration: Configuration,
    database: str | None,
    hostname: str | None,
    username: str | None,
    schema: str | None,
    default_schema: str | None = None,
) -> Database:
    """Connect to the database that options, variables and configuration name, in this order."""
    from specprod.database.connection import connect

    chosen = configuration.override({"database.url": database}, "option --database")
    chosen = chosen.override({"database.hostname": hostname}, "option --hostname")
    return connect(
        chosen.database(),
        schema=schema or configuration.get("database.schema") or default_schema,
        username=username or configuration.get("database.username"),
    )


def retries(configuration: Configuration) -> Retries:
    """Make the rule for trying again that the configuration sets."""
    from specprod.database.failures import Retries

    return Retries(
        attempts=configuration.get("retries.attempts"),
        first_pause=configuration.get("retries.first_pause"),
        longest_pause=configuration.get("retries.longest_pause"),
    )


def reader_roles(configuration: Configuration, public: bool) -> list[str]:
    """Roles that may read the tables."""
    if not public:
        return []
    return [str(configuration.get("roles.collaboration")), str(configuration.get("roles.public"))]


def confirm_overwrite(what: str, yes: bool) -> None:
    """Ask before something is dropped; where nobody can answer, demand --yes.

    Raises
    ------
    click.UsageError
        If there is no terminal and no --yes.
    click.Abort
        If the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("--overwrite drops tables; without a terminal to ask on, confirm it with --yes")
    click.confirm(f"Drop {what}?", abort=True, err=True)
