"""The configuration: values, where each came from, and which of them wins."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from specprod.configuration.keys import ALIASES, KEYS, PRODUCTION_REPLACES, find_key
from specprod.configuration.passwords import mask_data
from specprod.configuration.sources import checked, read_environment, read_file, user_file
from specprod.errors import ConfigurationError, did_you_mean

__all__ = ["Configuration", "Production", "load_configuration"]

BUILT_IN: Final = "built-in default"
#: Characters of column version of the table of that name, in which the versions of a production are kept.
LONGEST_VERSION: Final = 20


@dataclass(frozen=True, slots=True)
class Production:
    """The versions that a production is loaded from.

    Parameters
    ----------
    specprod : str
        Name of the production, for example "iron".
    release : str
        Data release, as in ``vac/{release}``.
    photometry : str
        Version of the photometry; "computed" where it comes from targeting, tile by tile.
    target_summary : bool
        Whether one file holds the targeting photometry of all targets.
    redshift : str
        "base", "daily", "patch/vX" or "zcat/vX".
    tiles : str
        Tag or branch of the fiberassign tiles.
    """

    specprod: str
    release: str
    photometry: str
    target_summary: bool
    redshift: str
    tiles: str


@dataclass(frozen=True, slots=True)
class _Setting:
    """A value, its origin, and the rank of that origin: the higher wins."""

    value: Any
    origin: str
    rank: int


# Ranks of the origins; the files lie between the first and the second.
_DEFAULT_RANK, _ENVIRONMENT_RANK, _OPTION_RANK = 0, 10, 20


class Configuration:
    """Values of all keys, with their origins; it never changes.

    Made by :func:`load_configuration`.
    """

    __slots__ = ("_settings",)

    def __init__(self, settings: Mapping[str, _Setting]) -> None:
        self._settings = dict(settings)

    def get(self, name: str) -> Any:
        """Value of a key; None where it has neither value nor default.

        Raises
        ------
        ConfigurationError
            If there is no such key, or `batch.profile` names a site that is not defined.
        """
        # A copy, because a table of keyword arguments could be changed by who gets it.
        return copy.deepcopy(self._find(name).value)

    def origin(self, name: str) -> str:
        """Where the value of a key came from.

        Returns
        -------
        str
            "built-in default", the path of a file, "environment variable X", "option --x",
            or "profile NAME (…)" with one of these.
        """
        return self._find(name).origin

    def masked(self, name: str) -> Any:
        """Value of a key with all passwords replaced by ``***``."""
        value = self.get(name)
        return mask_data(value) if find_key(ALIASES.get(name, name)).secret else value

    def shown(self, name: str) -> str:
        """Value of a key as one line: passwords masked, lists as in JSON, empty where there is none."""
        value = self.masked(name)
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, default=str)

    def names(self) -> list[str]:
        """Names of all keys that have a value or a default, productions and profiles included."""
        return [*KEYS, *sorted(name for name in self._settings if name not in KEYS)]

    def override(self, values: Mapping[str, Any], origin: str) -> Configuration:
        """Replace some values, in a new configuration.

        Parameters
        ----------
        values : mapping
            Keys and values; a value of None is an option that was not given, and replaces nothing.
        origin : str
            Where they come from, for example "option --database".

        Raises
        ------
        ConfigurationError
            If a key is unknown or a value not of its type.
        """
        try:
            new = {
                (full := ALIASES.get(name, name)): _Setting(checked(full, value), origin, _OPTION_RANK)
                for name, value in values.items()
                if value is not None
            }
        except ConfigurationError as error:
            raise ConfigurationError(f"{origin}: {error.message}") from None
        return Configuration({**self._settings, **new})

    def productions(self) -> list[str]:
        """Names of the productions that are defined."""
        return list(self._items("productions."))

    def production(self, name: str) -> Production:
        """Look up a production by its name.

        Raises
        ------
        ConfigurationError
            If no production has that name, or a value of it is missing, or longer than the database can keep.
        """
        known = self._items("productions.")
        if name not in known:
            raise ConfigurationError(
                f"unknown production {name!r}; known are {', '.join(known)}; "
                f"define it as [productions.{name}] in a configuration file{did_you_mean(name, known)}"
            )
        words = [field.name for field in fields(Production) if field.name != "specprod"]
        values = {word: self.get(f"productions.{name}.{word}") for word in words}
        if missing := [word for word in words if values[word] is None]:
            raise ConfigurationError(f"production {name} lacks {', '.join(missing)}; {known[name]} names it")
        for word, value in {"specprod": name, **values}.items():
            if isinstance(value, str) and len(value) > LONGEST_VERSION:
                raise ConfigurationError(
                    f"productions.{name}: {word} {value!r} has {len(value)} characters; "
                    f"table version holds {LONGEST_VERSION}"
                )
        return Production(specprod=name, **values)

    def moved(self) -> dict[str, str]:
        """Directories and files that headers name, and where they stand now.

        Raises
        ------
        ConfigurationError
            If a rule lacks one of the two.
        """
        rules = {}
        for item, origin in self._items("moved.").items():
            old, new = (self.get(f"moved.{item}.{word}") for word in ("from", "to"))
            if not old or not new:
                raise ConfigurationError(f"moved.{item} lacks {'to' if old else 'from'}; {origin} names it")
            rules[old] = new
        return rules

    def for_production(self, name: str) -> Configuration:
        """Let the production's own hostname, username and chunksize replace the general ones, in a new configuration.

        What an environment variable or an option says goes before them, as it goes before any file.
        """
        new = {}
        for word, general in PRODUCTION_REPLACES.items():
            own = self._settings.get(f"productions.{name}.{word}")
            if own is not None and own.rank >= self._find(general).rank:
                new[general] = own
        return Configuration({**self._settings, **new})

    def database(self) -> str:
        """Choose the database: a URL, or the path of a SQLite file; `specprod.db` where nothing names one.

        Of `database.url` and `database.hostname` the one counts whose origin wins; the URL, if it is the same.
        So ``--hostname`` goes before ``SPECPROD_DATABASE``, and the built-in server is used only where it is asked for.

        Returns
        -------
        str
            May hold a password: mask it before it is shown, with `specprod.configuration.mask_password`.
        """
        url, hostname = self._find("database.url"), self._find("database.hostname")
        if hostname.rank <= url.rank or not hostname.value:
            return str(url.value)
        user, name = (quote(self.get(key), safe="") for key in ("database.username", "database.name"))
        return f"postgresql://{user}@{hostname.value}/{name}"

    def _items(self, prefix: str) -> dict[str, str]:
        """Names of the items of a family, each with the origin that named it last."""
        items: dict[str, tuple[int, str]] = {}
        for name, setting in self._settings.items():
            if name.startswith(prefix):
                item = name.removeprefix(prefix).rpartition(".")[0]
                items[item] = max(items.get(item, (-1, "")), (setting.rank, setting.origin))
        return {item: origin for item, (_, origin) in items.items()}

    def _find(self, name: str) -> _Setting:
        name = ALIASES.get(name, name)
        default = _Setting(find_key(name).default, BUILT_IN, _DEFAULT_RANK)
        if name in self._settings:
            return self._settings[name]
        field = name.removeprefix("batch.")
        if name in KEYS and name.startswith("batch.") and field != "profile":
            profile = self.get("batch.profile")
            sites = self._items("batch.profiles.")
            if profile not in sites:
                raise ConfigurationError(
                    f"batch.profile: no site {profile!r} ({self.origin('batch.profile')}); known are {', '.join(sites)}"
                    f"{did_you_mean(profile, sites)}"
                )
            site = self._settings.get(f"batch.profiles.{profile}.{field}")
            if site is not None:
                return _Setting(site.value, f"profile {profile} ({site.origin})", site.rank)
        return default

    def __repr__(self) -> str:
        changed = [name for name in self._settings if self._settings[name].rank > _DEFAULT_RANK]
        return f"Configuration({', '.join(f'{name}={self.shown(name)!r}' for name in sorted(changed))})"

    def __eq__(self, other: object) -> bool:
        return self._settings == other._settings if isinstance(other, Configuration) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


def load_configuration(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read the configuration.

    Parameters
    ----------
    path : pathlib.Path, optional
        A file, as ``--config`` gives it.
    environ : mapping, optional
        The environment, by default that of the process.

    Returns
    -------
    Configuration
        Later goes before earlier: built-in defaults, the user's file
        (``$XDG_CONFIG_HOME/specprod/specprod.toml``, ``~/.config`` by default), the file that ``SPECPROD_CONFIG``
        names, `path`, environment variables.

    Raises
    ------
    ConfigurationError
        If a file is absent (but for the user's), cannot be read, or holds an unknown key or a wrong type.
    """
    settings: dict[str, _Setting] = {}
    for part in ("productions.toml", "sites.toml", "places.toml"):
        with resources.as_file(resources.files("specprod.configuration") / part) as own:
            settings.update({name: _Setting(value, BUILT_IN, _DEFAULT_RANK) for name, value in read_file(own).items()})
    for rank, file in enumerate(_files(path, environ), start=_DEFAULT_RANK + 1):
        settings.update({name: _Setting(value, str(file), rank) for name, value in read_file(file).items()})
    for name, value, origin in read_environment(environ):
        settings[name] = _Setting(value, origin, _ENVIRONMENT_RANK)
    return Configuration(settings)


def _files(path: Path | None, environ: Mapping[str, str]) -> Iterator[Path]:
    """List the files to read, weakest first."""
    user = user_file(environ)
    if user is not None and user.exists():
        yield user
    if named := environ.get("SPECPROD_CONFIG"):
        yield Path(named)
    if path is not None:
        yield Path(path)
