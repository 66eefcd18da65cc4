"""Where values come from: TOML files, INI files, the environment."""

from __future__ import annotations

import configparser
import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from specprod.configuration.keys import ALIASES, FAMILIES, KEYS, PRODUCTION_FIELDS, PRODUCTION_REPLACES, find_key
from specprod.errors import ConfigurationError

__all__ = ["checked", "parsed", "read_environment", "read_file", "user_file"]

INI_SUFFIXES: Final = frozenset({".ini", ".cfg", ".conf"})
# Bytes of a file, at most.
_LONGEST: Final = 1 << 20

# Keys of an INI file that stand without a table before them, in [DEFAULT].
_INI_GENERAL: Final = {
    **PRODUCTION_REPLACES,
    "database": "database.url",
    "dbname": "database.name",
    "schema": "database.schema",
    "workers": "loading.workers",
}


def checked(name: str, value: Any) -> Any:
    """Bring a value into the form in which it is kept.

    Raises
    ------
    ConfigurationError
        If there is no such key, or the value is not of its type. A value that can hold a password is not shown.
    """
    key = find_key(name)
    if not key.kind.check(value):
        got = "" if key.secret else f", got {value!r}"
        raise ConfigurationError(f"{name}: expected {key.kind.expected}{got}")
    return key.kind.store(value)


def parsed(name: str, text: str) -> Any:
    """Value of a text, as :func:`checked` returns it."""
    key = find_key(name)
    try:
        value = key.kind.parse(text)
    except ValueError:
        got = "" if key.secret else f", got {text!r}"
        raise ConfigurationError(f"{name}: expected {key.kind.expected}{got}") from None
    return checked(name, value)


def user_file(environ: Mapping[str, str]) -> Path | None:
    """Place of the user's own file, whether it exists or not; None where the environment knows no home."""
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base, "specprod", "specprod.toml")
    if home := environ.get("HOME"):
        return Path(home, ".config", "specprod", "specprod.toml")
    return None


def read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Key, value and origin of what the environment sets; an empty variable counts as not set."""
    for name, key in KEYS.items():
        if key.variable is not None and (text := environ.get(key.variable)):
            try:
                value = parsed(name, text)
            except ConfigurationError as error:
                raise ConfigurationError(f"environment variable {key.variable}: {error.message}") from None
            yield name, value, f"environment variable {key.variable}"


def read_file(path: Path) -> dict[str, Any]:
    """Keys and values of a file, checked: INI for the suffixes .ini, .cfg and .conf, else TOML.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, is not of its format, or holds an unknown key or a wrong type.
    """
    try:
        text = _bounded_text(path)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror or error}", file=path) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"is not UTF-8 at byte {error.start}", file=path) from None
    read, accept = (_read_ini, parsed) if path.suffix.lower() in INI_SUFFIXES else (_read_toml, checked)
    try:
        return _accepted(read(text), accept)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, file=path) from None


def _bounded_text(path: Path) -> str:
    """Read a regular file of a sensible size; a device or a pipe could be read for ever."""
    # Not to wait where nobody writes into a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            what = "a directory" if stat.S_ISDIR(kind) else "a device or a pipe"
            raise ConfigurationError(f"is {what}, expected a file", file=path)
        content = stream.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ConfigurationError(f"is larger than {_LONGEST >> 20} MiB, which is no configuration", file=path)
    return content.decode("utf-8")


def _accepted(pairs: Iterator[tuple[str, Any]], accept: Callable[[str, Any], Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for written, value in pairs:
        name = ALIASES.get(written, written)
        if name in values:
            raise ConfigurationError(f"{name} is set twice, once as {written}")
        values[name] = accept(name, value)
    return values


def _read_toml(text: str) -> Iterator[tuple[str, Any]]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not TOML: {error}") from None
    return _flattened(table, "")


def _flattened(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Full names and values of nested tables."""
    for word, value in table.items():
        name = prefix + word
        # A table that is the value of a key, like the keyword arguments of a class, never occurs bare.
        if isinstance(value, dict) and name not in KEYS:
            # Without this, a table of no keys would pass whatever its name.
            if not value and not _is_table(name):
                raise ConfigurationError(f"unknown table {name}")
            yield from _flattened(value, f"{name}.")
        else:
            yield name, value


def _is_table(name: str) -> bool:
    return any(known.startswith(f"{name}.") for known in [*KEYS, *FAMILIES]) or name.startswith(tuple(FAMILIES))


def _read_ini(text: str) -> Iterator[tuple[str, str]]:
    """Full names and texts of an INI file.

    Notes
    -----
    ``[DEFAULT]`` holds general values (hostname, username, chunksize, …) and what all productions of the file share;
    ``[database]``, ``[batch.profiles.NAME]`` and so on are the tables of the TOML; any other section is a production.
    """
    # With a default section that never occurs, [DEFAULT] is read like any other, and what a section sets itself
    # can be told from what it inherits. Versions and passwords may contain %, so nothing is interpolated.
    parser = configparser.ConfigParser(default_section="", interpolation=None)
    try:
        parser.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        raise ConfigurationError(f"line {error.lineno} stands before the first [section]") from None
    except (configparser.DuplicateSectionError, configparser.DuplicateOptionError) as error:
        raise ConfigurationError(f"line {error.lineno} repeats a section or a key") from None
    except configparser.ParsingError as error:
        # The lines themselves are not shown: one could hold a password.
        lines = ", ".join(str(number) for number, _ in error.errors)
        raise ConfigurationError(f"is not INI: cannot read line {lines}") from None
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    defaults = sections.pop("DEFAULT", {})
    shared = {word: text for word, text in defaults.items() if word in PRODUCTION_FIELDS and word not in _INI_GENERAL}
    aliases = {alias.lower(): alias for alias in ALIASES}
    for word, value in defaults.items():
        if word not in shared:
            yield _INI_GENERAL.get(word) or aliases.get(word) or word, value
    for section, own in sections.items():
        if _is_table(section):
            yield from ((f"{section}.{word}", value) for word, value in own.items())
        else:
            yield from ((f"productions.{section}.{word}", value) for word, value in {**shared, **own}.items())
