"""A command with subcommands, which knows the nearest to one that is mistyped."""

from __future__ import annotations

import click

__all__ = ["NamedGroup"]


class NamedGroup(click.Group):
    """A group that says which of its commands is nearest to one that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names."""
        from specprod.errors import did_you_mean

        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            hint = did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"No such command {name!r}{hint or '.'}")
        return super().resolve_command(ctx, args)
