"""Names that a person types: what is near one that does not exist, and what can complete one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from specprod.errors import ConfigurationError, did_you_mean
from specprod.stages import STAGE_NAMES

__all__ = ["NamedGroup", "Names", "Production", "specprod_option", "stage_option"]


class NamedGroup(click.Group):
    """A group that says which of its commands is nearest to one that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            hint = did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"No such command {name!r}{hint or '.'}")
        return super().resolve_command(ctx, args)


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
