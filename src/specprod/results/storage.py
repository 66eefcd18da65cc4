"""Which storage is used: a class by its dotted path, perhaps with keyword arguments."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from specprod.errors import ConfigurationError
from specprod.results.base import PipelineStorage

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["DEFAULT_STORAGE", "load_storage"]

DEFAULT_STORAGE = "specprod.results.orm.OrmPipelineResultsStorage"


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
    """
    if isinstance(setting, str) and setting.lstrip().startswith("["):
        try:
            setting = json.loads(setting)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"results storage {setting!r} is not JSON: {error}") from error
    path, keywords = (setting, {}) if isinstance(setting, str) else (setting[0], dict(setting[1]))
    module, _, name = str(path).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"results storage {path!r} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, PipelineStorage)):
        raise ConfigurationError(f"results storage {path!r} does not extend specprod.results.base.PipelineStorage")
    make: Callable[..., PipelineStorage] = cls
    try:
        return make(database, **keywords)
    except TypeError as error:
        raise ConfigurationError(f"results storage {path!r} does not take these arguments: {error}") from error
