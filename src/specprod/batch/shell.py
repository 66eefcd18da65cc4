"""Quoting of what comes from outside: for bash, for csh, and for the lines that sbatch reads."""

from __future__ import annotations

import re
import shlex

from specprod.errors import ConfigurationError

__all__ = ["directive", "plain", "quote"]


def plain(what: str, text: str) -> str:
    """Refuse control characters, which no line of a script can hold.

    Parameters
    ----------
    what : str
        Name of the value, for the message.
    text : str
        The value.

    Raises
    ------
    ConfigurationError
        If `text` holds a newline or another control character.
    """
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ConfigurationError(f"{what}: expected text on one line, got {text!r}")
    return text


def quote(text: str, *, csh: bool = False) -> str:
    """One word of a shell, whatever `text` holds.

    Parameters
    ----------
    text : str
        Any text on one line.
    csh : bool, optional
        For csh, which replaces ``!`` by an earlier command even within single quotes, and in scripts too.
    """
    quoted = shlex.quote(text)
    if not csh:
        return quoted
    # csh expands ~, {} and globs in bare words as bash does, so what shlex leaves bare is bare here too.
    return quoted if quoted == text else "'" + text.replace("'", r"'\''").replace("!", r"\!") + "'"


def directive(option: str, value: object) -> str:
    """Write a line ``#SBATCH --option=value``; sbatch reads quotes in it as a shell does."""
    return f"#SBATCH --{option}={shlex.quote(str(value))}"
