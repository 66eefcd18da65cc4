"""The command ``specprod-load``: finds the subcommand, maps errors to exit codes.

Exit codes: 0 done, 1 failed, 2 usage, 3 done but rows were rejected or differ, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from specprod.cli.process import prepare_process

# Name of the subcommand, where it lives (imported only when it is asked for, so that --help stays fast), and its line
# in --help.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("specprod.cli.run:run", "Load a production, or some of its stages."),
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


class LazyGroup(click.Group):
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
    try:
        result = command.main(args=arguments, prog_name="specprod-load", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        click.echo("specprod-load: interrupted", err=True)
        return 130
    except KeyboardInterrupt:
        click.echo("specprod-load: interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output left (`specprod-load … | head`): nothing more to say, and nothing to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from specprod.errors import ConfigurationError, SpecprodError, VerificationError

        if not isinstance(error, SpecprodError):
            raise
        click.echo(f"specprod-load: {error}", err=True)
        return {ConfigurationError: 2, VerificationError: 3}.get(type(error), 1)


if __name__ == "__main__":
    sys.exit(main())
