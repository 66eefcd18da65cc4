"""The keys of the configuration: name, type, default and meaning, declared once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from specprod.configuration.defaults import ATTEMPTS, CHUNKSIZE, FIRST_PAUSE, LONGEST_PAUSE
from specprod.errors import ConfigurationError, did_you_mean

__all__ = ["ALIASES", "KEYS", "Key", "Kind", "find_key", "known_names"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value.

    Parameters
    ----------
    expected : str
        What a value of this type is, for messages: "expected {expected}".
    check : callable
        Whether a value, as TOML or an option gives it, is of the type.
    parse : callable
        Value of a text, as INI and the environment give it; raises ValueError.
    store : callable
        The value in the form in which it is kept, for example a tuple of a list.
    """

    expected: str
    check: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    store: Callable[[Any], Any] = lambda value: value


def _is_storage(value: Any) -> bool:
    """Whether a value is a dotted path, or a pair of it and keyword arguments."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        path, keywords = value
        return _is_dotted(path) and isinstance(keywords, Mapping) and all(isinstance(key, str) for key in keywords)
    return _is_dotted(value)


def _is_dotted(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parse_boolean(text: str) -> bool:
    values = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _text(expected: str, pattern: str = r"[^\x00-\x1f\x7f]*") -> Kind:
    """Type of the texts that match `pattern` in full; by default any text on one line."""
    regular = re.compile(pattern)
    return Kind(expected, lambda value: isinstance(value, str) and regular.fullmatch(value) is not None)


# One component of a path: no separator, and not the way up.
COMPONENT: Final = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"
# What SLURM reads behind `--time=`: minutes, or hours and minutes, or days before them.
DURATION: Final = r"(\d+-)?\d+(:\d+){0,2}"

TEXT = _text("text on one line")
DATABASE = _text("a URL or the name of a file", r"[^\x00-\x1f\x7f]+")
WORD = _text("text without blanks", r"[^\x00-\x20\x7f]*")
NAME = _text("a name that is one component of a path, in quotes", COMPONENT)
REDSHIFT = _text('"base", "daily", "patch/vX" or "zcat/vX"', rf"base|daily|(patch|zcat)/{COMPONENT}")
TIME = _text('a duration such as "12:00:00", in quotes', DURATION)
BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool), _parse_boolean)
COUNT = Kind(
    "a whole number of at least 1",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
    int,
)
SECONDS = Kind(
    "a number of seconds, not negative", lambda value: _is_number(value) and 0 <= value < float("inf"), float, float
)
WORDS = Kind(
    "a list of texts on one line each",
    lambda value: isinstance(value, (list, tuple)) and all(TEXT.check(item) for item in value),
    lambda text: [line.strip() for line in text.splitlines() if line.strip()],
    tuple,
)
STORAGE = Kind(
    "the dotted path of a class, or a list of that path and a table of keyword arguments",
    _is_storage,
    lambda text: json.loads(text) if text.lstrip().startswith("[") else text,
    lambda value: value if isinstance(value, str) else (value[0], dict(value[1])),
)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration.

    Parameters
    ----------
    kind : Kind
        Type of the value.
    default : object
        Built-in default; None where there is none.
    doc : str
        What it means.
    variable : str, optional
        Environment variable that sets it.
    secret : bool, optional
        Whether the value can hold a password, and is masked wherever it is shown.
    """

    kind: Kind
    default: Any
    doc: str
    variable: str | None = None
    secret: bool = False


_PLAIN: Final[dict[str, Key]] = {
    "database.url": Key(
        DATABASE,
        "specprod.db",
        "database: a URL (postgresql://user@server/name) or the path of a SQLite file",
        variable="SPECPROD_DATABASE",
        secret=True,
    ),
    "database.hostname": Key(WORD, "specprod-db.desi.lbl.gov", "PostgreSQL server"),
    "database.username": Key(WORD, "desi_admin", "user on the PostgreSQL server"),
    "database.name": Key(WORD, "desi", "database on the PostgreSQL server"),
    "database.schema": Key(TEXT, None, "schema of the tables; that of the production where it is not set"),
    "loading.chunksize": Key(COUNT, CHUNKSIZE, "rows that are loaded at once"),
    "loading.workers": Key(COUNT, 2, "processes or connections that work at once"),
    "loading.roots": Key(WORDS, (), "directories besides the root in which files that headers name may lie"),
    "roles.collaboration": Key(WORD, "desi", "role that may always read"),
    "roles.public": Key(WORD, "desi_public", "role that may read what is loaded with --public"),
    "retries.attempts": Key(COUNT, ATTEMPTS, "attempts to do what a server refuses or a lost connection ends"),
    "retries.first_pause": Key(SECONDS, FIRST_PAUSE, "seconds before the second attempt; the pause doubles from there"),
    "retries.longest_pause": Key(SECONDS, LONGEST_PAUSE, "longest pause between attempts, in seconds"),
    "results.storage": Key(
        STORAGE,
        "specprod.results.orm.OrmPipelineResultsStorage",
        "class that stores pipeline results, with keyword arguments if it takes some",
        variable="PIPELINES_PIPELINES_RESULTS_STORAGE",
        secret=True,
    ),
    "batch.profile": Key(WORD, "nersc", "site whose values of [batch] are used where [batch] does not set them"),
}

# What a site sets: in [batch.profiles.NAME] for one of several sites, in [batch] for all.
SITE_FIELDS: Final[dict[str, Key]] = {
    "account": Key(WORD, "", "account that is charged"),
    "qos": Key(WORD, "", "quality of service"),
    "partition": Key(WORD, "", "partition"),
    "constraint": Key(WORD, "", "features that the node must have"),
    "licenses": Key(WORD, "", "licences, separated by commas"),
    "mail_type": Key(WORD, "", "events that send a mail, separated by commas"),
    "module": Key(WORD, "", "environment module to load; {version} stands for the version of this package"),
    "launcher": Key(TEXT, "srun --ntasks=1", "words before the load command"),
    "job_dir": Key(TEXT, "~/Documents/Jobs", "directory of scripts, logs and marks"),
    "directives": Key(WORDS, (), "further options of sbatch, one a list item"),
    "time_exposures": Key(TIME, "00:10:00", "time limit of the stage exposures"),
    "time_photometry": Key(TIME, "04:00:00", "time limit of the stage photometry"),
    "time_stage": Key(TIME, "12:00:00", "time limit of any other stage"),
    "time_tile": Key(TIME, "00:30:00", "time limit of one tile"),
    "time_primary": Key(TIME, "06:00:00", "time limit of the tile that recomputes the primary columns"),
    "concurrent": Key(COUNT, 8, "tiles of a job array that run at once"),
}

# What a production is; the last three replace the general value for this production alone.
PRODUCTION_FIELDS: Final[dict[str, Key]] = {
    "release": Key(NAME, None, "data release"),
    "photometry": Key(NAME, None, "version of the photometry, or computed"),
    "target_summary": Key(BOOLEAN, None, "whether one file holds all targeting photometry"),
    "redshift": Key(REDSHIFT, None, "where the redshift catalogues lie"),
    "tiles": Key(NAME, None, "tag or branch of the fiberassign tiles"),
    "hostname": Key(WORD, None, "database.hostname for this production"),
    "username": Key(WORD, None, "database.username for this production"),
    "chunksize": Key(COUNT, None, "loading.chunksize for this production"),
}
PRODUCTION_REPLACES: Final[dict[str, str]] = {
    "hostname": "database.hostname",
    "username": "database.username",
    "chunksize": "loading.chunksize",
}

# What headers of the survey name, and where it stands now.
MOVED_FIELDS: Final[dict[str, Key]] = {
    "from": Key(TEXT, None, "beginning of a name in a header: absolute, or below the root"),
    "to": Key(TEXT, None, "what takes its place: below the root, or absolute"),
}

KEYS: Final[dict[str, Key]] = {**_PLAIN, **{f"batch.{field}": key for field, key in SITE_FIELDS.items()}}

# Other names of a key, as other systems write it in their settings.
ALIASES: Final[dict[str, str]] = {"PIPELINES_PIPELINES_RESULTS_STORAGE": "results.storage"}

# Tables whose items have names of the user's choice, and the fields of an item.
FAMILIES: Final[dict[str, dict[str, Key]]] = {
    "productions.": PRODUCTION_FIELDS,
    "batch.profiles.": SITE_FIELDS,
    "moved.": MOVED_FIELDS,
}


def known_names() -> list[str]:
    """Names of all keys, families with {name} for the part of the user's choice."""
    families = [f"{prefix}{{name}}.{field}" for prefix, fields in FAMILIES.items() for field in fields]
    return [*KEYS, *families]


def find_key(name: str) -> Key:
    """Find the declaration of a key.

    Parameters
    ----------
    name : str
        Full name, for example "loading.chunksize" or "productions.iron.tiles".

    Raises
    ------
    ConfigurationError
        If there is no such key; the message names the one that is most alike.
    """
    if name in KEYS:
        return KEYS[name]
    for prefix, fields in FAMILIES.items():
        if name.startswith(prefix):
            item, _, field = name.removeprefix(prefix).rpartition(".")
            if not re.fullmatch(COMPONENT, item):
                raise ConfigurationError(f"{name}: expected {prefix}NAME.KEY with a NAME of letters, digits and _.+-")
            if field in fields:
                return fields[field]
            hint = did_you_mean(field, fields)
            raise ConfigurationError(f"unknown key {name}; {prefix}{item} has {', '.join(fields)}{hint}")
    hint = did_you_mean(name, KEYS) or "; `specprod-load config` lists the keys"
    raise ConfigurationError(f"unknown key {name}{hint}")
