"""Names that a person types as options: what is near one that does not exist, and what can complete one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from specprod.errors import ConfigurationError, did_you_mean
from specprod.stages import STAGE_NAMES, TABLE_NAMES

__all__ = ["Names", "Production", "specprod_option", "stage_option", "table_option"]


class Names(click.Choice[str]):
    """One of some names; the error says which is nearest."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Say that it is none of them."""
        hint = did_you_mean(str(value), [str(choice) for choice in self.choices])
        message = super().get_invalid_choice_message(value, ctx)
        return message.rstrip(".") + hint if hint else message


class Production(click.types.StringParamType):
    """The name of a production; a shell completes those that the configuration knows."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Name the productions that begin so."""
        from specprod.configuration import load_configuration

        config = ctx.params.get("config")
        try:
            known = load_configuration(Path(config) if config else None, environ=os.environ).productions()
        except ConfigurationError:
            # Whoever presses a key for completion is not told of faults in a file: the command itself says it.
            known = load_configuration(environ={}).productions()
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]


specprod_option = click.option(
    "--specprod", type=Production(), required=True, metavar="NAME", help="The production, such as iron."
)
stage_option = click.option(
    "--stage", "stages", multiple=True, type=Names(STAGE_NAMES), help="Only this stage; can be repeated."
)
table_option = click.option(
    "--table",
    "tables",
    multiple=True,
    type=Names(TABLE_NAMES),
    help="Only this table, and what it needs; no other file need be there. Can be repeated.",
)
