"""Which storage is used: a class by its dotted path, perhaps with keyword arguments."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from specprod.errors import ConfigurationError
from specprod.results.base import PipelineStorage

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["DEFAULT_STORAGE", "load_storage"]

DEFAULT_STORAGE = "specprod.results.orm.OrmPipelineResultsStorage"
_SETTING = "results storage (results.storage, PIPELINES_PIPELINES_RESULTS_STORAGE)"


def load_storage(setting: Any, database: Database) -> PipelineStorage:
    """Make the storage that a setting names.

    Parameters
    ----------
    setting : str or (str, dict)
        Dotted path of a class, or such a path and keyword arguments for it; a text may be the JSON of the latter.
    database : Database
        The first argument of the class.

    Raises
    ------
    ConfigurationError
        If there is no such class, or it is no storage.

    Notes
    -----
    Keyword arguments may be secrets, and so are not in messages.
    """
    if isinstance(setting, str) and setting.lstrip().startswith("["):
        try:
            setting = json.loads(setting)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{_SETTING}: not JSON: {error}") from error
    path, keywords = setting if isinstance(setting, list | tuple) and len(setting) == 2 else (setting, {})
    if not (isinstance(path, str) and isinstance(keywords, Mapping) and "." in path):
        raise ConfigurationError(f"{_SETTING}: expected the dotted path of a class, or [path, {{keyword arguments}}]")
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise ConfigurationError(f"{_SETTING}: {path!r} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, PipelineStorage)):
        raise ConfigurationError(f"{_SETTING}: {path!r} does not extend specprod.results.base.PipelineStorage")
    make: Callable[..., PipelineStorage] = cls
    try:
        return make(database, **keywords)
    except TypeError as error:
        raise ConfigurationError(f"{_SETTING}: {path!r} cannot be made with these arguments: {error}") from error
