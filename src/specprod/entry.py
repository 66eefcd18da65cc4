"""The command, for modules below it: found by its name among the installed ones, as a shell finds it.

The command stands above all others, so that none of them imports it. The ``main`` of `specprod.load`, `specprod.tile`,
`specprod.patch`, `specprod.coeff` and `specprod.batch` call it as a script of a shell would.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import distribution

__all__ = ["run_command"]


def run_command(name: str, args: Sequence[str] | None) -> int:
    """Run a subcommand of specprod-load in this process.

    Parameters
    ----------
    name : str
        The subcommand.
    args : sequence of str or None
        The words after it; those of the process by default.

    Returns
    -------
    int
        For `sys.exit`: 0 done, 1 failed, 2 usage, 3 done but rows were rejected or differ.
    """
    (script,) = distribution("specprod").entry_points.select(group="console_scripts", name="specprod-load")
    command: Callable[[list[str]], int] = script.load()
    return command([name, *(sys.argv[1:] if args is None else args)])
