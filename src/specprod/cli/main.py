"""The command ``specprod-load``: finds the subcommand, maps errors to exit codes.

Exit codes: 0 done, 1 failed, 2 usage, 3 done but rows were rejected or differ; as of a shell, 128 and the number of the
signal for what ended it: 130 interrupted, 141 nobody reads the output any more, 143 terminated.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from specprod.cli.group import NamedGroup
from specprod.cli.process import Terminated, discard_output, flush_output, prepare_process, show_any_name, terminable

# Name of the subcommand, where it lives (imported only when it is asked for, so that --help stays fast), and its line
# in --help.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("specprod.cli.run:run", "Load a production, or some of its stages."),
    "plan": ("specprod.cli.plan:plan", "Say what a load takes, and which files are missing."),
    "tile": ("specprod.cli.tile:tile", "Load single tiles, or those that changed since the last load."),
    "primary": ("specprod.cli.primary:primary", "Recompute which spectrum of a target is the best."),
    "status": ("specprod.cli.status:status", "Say what was loaded, when, from what, and what is left."),
    "verify": ("specprod.cli.verify:verify", "Compare every value of a database with its files."),
    "index": ("specprod.cli.index:index", "Build missing keys and indexes; cluster the tables."),
    "sample": ("specprod.cli.sample:sample", "Write a small production tree to try things on."),
    "patch": ("specprod.cli.patch:patch", "Patch the exposures and tiles files of one production from another."),
    "coeff-fix": ("specprod.cli.coeff_fix:coeff_fix", "Replace template coefficients of redshifts that are wrong."),
    "batch": ("specprod.cli.batch:batch", "Write SLURM scripts that load a production or its tiles."),
    "config": ("specprod.cli.config:config", "Show the configuration and where each value came from."),
}

# What a shell sets when it asks for completions; `docs/install.rst` says how.
COMPLETION = "_SPECPROD_LOAD_COMPLETE"


class LazyGroup(NamedGroup):
    """A group whose subcommands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands, in the order in which a production meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand of that name."""
        if cmd_name not in COMMANDS:
            return None
        prepare_process()
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  specprod-load sample prod
  specprod-load run prod --specprod sample --database prod.db
  specprod-load verify prod --specprod sample --database prod.db""",
)
@click.version_option(package_name="specprod")
def command() -> None:
    """Load a spectroscopic production into PostgreSQL or SQLite."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the command's name; those of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    show_any_name()
    try:
        with terminable():
            code = _run(words)
            flush_output()
            return code
    except (click.Abort, KeyboardInterrupt) as error:
        terminated = isinstance(error, Terminated)
        click.echo(f"specprod-load: {'terminated' if terminated else 'interrupted'}", err=True)
        return 143 if terminated else 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        from specprod.errors import ConfigurationError, SpecprodError

        if isinstance(error, SpecprodError):
            click.echo(f"specprod-load: {error}", err=True)
            return 2 if isinstance(error, ConfigurationError) else 1
        if isinstance(error, OSError) and _of_output(error):
            discard_output()
            if isinstance(error, BrokenPipeError):
                # Who read our output has left (`specprod-load … | head`), which is no fault.
                return 141
            click.echo(f"specprod-load: standard output: {error.strerror}", err=True)
            return 1
        raise


def _of_output(error: OSError) -> bool:
    """Whether it is what we print that could not be written, and not a file."""
    import traceback

    printing = (click.echo.__code__, flush_output.__code__)
    return any(frame.f_code in printing for frame, _ in traceback.walk_tb(error.__traceback__))


def _run(words: list[str]) -> int:
    """Run the command, as click's own `main` would, but leave all errors to us."""
    if instruction := os.environ.get(COMPLETION):
        from click.shell_completion import shell_complete

        return shell_complete(command, {}, "specprod-load", COMPLETION, instruction)
    try:
        with command.make_context("specprod-load", list(words), obj=words) as context:
            result = command.invoke(context)
    except click.exceptions.Exit as request:
        return request.exit_code
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
