"""Options that several subcommands share, and what they mean together."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from specprod.cli.logs import start_log
from specprod.errors import printable

if TYPE_CHECKING:
    from specprod.configuration import Configuration
    from specprod.database.connection import Database
    from specprod.database.failures import Retries
    from specprod.loading.execution import Execution

__all__ = [
    "DatabaseOptions",
    "command_line",
    "config_option",
    "confirm_overwrite",
    "database_options",
    "execution",
    "gathered",
    "json_option",
    "quiet_option",
    "read_configuration",
    "retries",
    "verbose_option",
]

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configuration file, TOML or INI.",
)
verbose_option = click.option("-v", "--verbose", count=True, help="Say more; twice: also debugging messages.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong; no progress.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def gathered(name: str, kind: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command have the options that are fields of a dataclass as one argument of that class.

    Parameters
    ----------
    name : str
        Name of the argument.
    kind : class
        The dataclass. What no option sets keeps its default.
    """
    names = [field.name for field in dataclasses.fields(kind)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_one(**options: Any) -> Any:
            own = {field: options.pop(field) for field in names if field in options}
            return function(**{name: kind(**own)}, **options)

        return with_one

    return decorate


def read_configuration(config: Path | None = None, specprod: str | None = None, **options: Any) -> Configuration:
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
        key = name.replace("__", ".")
        configuration = configuration.override({key: value}, origin=f"option --{key.rpartition('.')[2]}")
    return configuration


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatabaseOptions:
    """The options that say which database, and how much is said.

    Attributes
    ----------
    database, hostname, username, schema : str or None
    config : path or None
    verbose : int
    quiet : bool
    """

    database: str | None = None
    hostname: str | None = None
    username: str | None = None
    schema: str | None = None
    config: Path | None = None
    verbose: int = 0
    quiet: bool = False

    def configuration(self, specprod: str | None = None, **options: Any) -> Configuration:
        """Read the configuration; see `read_configuration`."""
        return read_configuration(self.config, specprod, **options)

    def open(
        self, configuration: Configuration, default_schema: str | None = None, *, create: bool = False
    ) -> Database:
        """Connect to the database that options, variables and configuration name, in this order.

        With `create`, for commands that load, a file is made that is not there, and a server that is down is tried
        again.
        """
        from specprod.database.connection import connect

        target, schema, username = self._chosen(configuration)
        again = retries(configuration) if create else None
        return connect(target, schema=schema or default_schema, username=username, create=create, retries=again)

    def named(self, configuration: Configuration, default_schema: str | None = None) -> Database:
        """Give the same database without connecting to it; it need not be there."""
        from specprod.database.connection import database_url, open_url

        target, schema, username = self._chosen(configuration)
        return open_url(database_url(target, username=username), schema or default_schema)

    def _chosen(self, configuration: Configuration) -> tuple[str, str | None, str | None]:
        """Choose database, schema and user."""
        chosen = configuration.override({"database.url": self.database}, "option --database")
        chosen = chosen.override({"database.hostname": self.hostname}, "option --hostname")
        schema = self.schema or configuration.get("database.schema")
        return chosen.database(), schema, self.username or configuration.get("database.username")


_DATABASE_OPTIONS = (
    click.option(
        "--database",
        metavar="URL-OR-FILE",
        help="PostgreSQL URL, or SQLite file.  [default: $SPECPROD_DATABASE, the configuration, specprod.db]",
    ),
    click.option("--hostname", metavar="HOST", help="PostgreSQL server, in the place of a URL."),
    click.option("--username", metavar="USER", help="User on the server. Passwords are libpq's to find (~/.pgpass)."),
    click.option("--schema", metavar="NAME", help="Schema of the production in PostgreSQL.  [default: the production]"),
    config_option,
    verbose_option,
    quiet_option,
)


def database_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which database and how much is said; the command gets them as its argument `where`."""

    @functools.wraps(function)
    def logged(where: DatabaseOptions, **options: Any) -> Any:
        start_log(where.verbose, where.quiet)
        return function(where=where, **options)

    command = gathered("where", DatabaseOptions)(logged)
    for option in reversed(_DATABASE_OPTIONS):
        command = option(command)
    return command


def retries(configuration: Configuration) -> Retries:
    """Make the rule for trying again that the configuration sets."""
    from specprod.database.failures import Retries

    return Retries(
        attempts=configuration.get("retries.attempts"),
        first_pause=configuration.get("retries.first_pause"),
        longest_pause=configuration.get("retries.longest_pause"),
    )


def execution(name: str, configuration: Configuration, **facts: Any) -> Execution:
    """Describe this command for the ledger.

    Parameters
    ----------
    name : str
        The command.
    configuration : Configuration
        Which results storage follows the ledger.
    **facts
        Other values of `specprod.loading.execution.Execution`; ``tree`` stands for its root and its production.
    """
    from specprod.loading.execution import Execution

    tree = facts.pop("tree", None)
    if tree is not None:
        facts |= {"root": tree.root, "production": dataclasses.asdict(tree.production)}
    return Execution(name=name, command=command_line(), setting=configuration.get("results.storage"), **facts)


def command_line() -> str:
    """Give the words of this command as they would be typed, passwords masked."""
    from specprod.configuration.passwords import mask_command

    return printable(mask_command(["specprod-load", *click.get_current_context().find_root().obj]))


def confirm_overwrite(what: str, yes: bool, option: str = "--overwrite") -> None:
    """Ask before something is dropped; where nobody can answer, demand --yes.

    Parameters
    ----------
    what : str
    yes : bool
        Whether the answer was given before.
    option : str
        What drops it.

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
        raise click.UsageError(f"{option} drops tables; without a terminal to ask on, confirm it with --yes")
    click.confirm(f"Drop {what}?", abort=True, err=True)
