"""Which storage is used: a class by its dotted path, perhaps with keyword arguments."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from specprod.configuration.passwords import mask_text
from specprod.errors import ConfigurationError, SpecprodError, StorageError
from specprod.results.base import PipelineStorage

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["DEFAULT_STORAGE", "configured_storage", "load_storage", "named_failures"]

DEFAULT_STORAGE = "specprod.results.orm.OrmPipelineResultsStorage"
_SETTING = "results storage (results.storage, PIPELINES_PIPELINES_RESULTS_STORAGE)"


def load_storage(setting: Any, database: Database) -> PipelineStorage:
    """Make the storage that a setting names.

    Parameters
    ----------
    setting : str or (str, dict)
        Dotted path of a class, or such a path and keyword arguments for it; a text may be the JSON of the latter.
    database : Database
        For the parameter ``database`` of the class, if it has one.

    Raises
    ------
    ConfigurationError
        If there is no such class, or it is no storage.
    StorageError
        If it raises something itself.

    Notes
    -----
    Keyword arguments may be secrets, and so are not in messages.
    """
    cls, keywords = _read(setting)
    return _make(cls, keywords, database)


@contextlib.contextmanager
def configured_storage() -> Iterator[PipelineStorage]:
    """Give the storage that the configuration names, in the database that it names, which is closed at the end.

    The storage is ready for use. A class that has no parameter ``database`` is made without one.

    Raises
    ------
    ConfigurationError
        If there is no such class, or it is no storage, or no such database.
    ConnectionFailedError
    StorageError
        If it raises something itself.
    """
    from specprod.configuration import load_configuration
    from specprod.database.connection import connect

    cls, keywords = _read(load_configuration(environ=os.environ).get("results.storage") or DEFAULT_STORAGE)
    with contextlib.ExitStack() as stack:
        storage = _make(cls, keywords, stack.enter_context(connect()) if _takes_database(cls) else None)
        with named_failures([cls]):
            storage.create()
        yield storage


@contextlib.contextmanager
def named_failures(classes: Iterable[type[PipelineStorage]]) -> Iterator[None]:
    """Let what a storage that is not of this package raises be an error that names its class.

    Parameters
    ----------
    classes : iterable of class
        See `PipelineStorage.classes`. Those of this package raise errors of ours by themselves.

    Raises
    ------
    StorageError
    """
    try:
        yield
    except Exception as error:
        # What a driver raises in it may have become an error of ours on its way here.
        origin: BaseException = error
        while origin.__cause__ is not None:
            origin = origin.__cause__
        modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(origin.__traceback__)}
        for cls in classes:
            if cls.__module__ in modules and not _is_ours(cls) and not isinstance(origin, SpecprodError):
                raise _failure(cls, origin) from error
        raise


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _failure(cls: type, error: BaseException) -> StorageError:
    text = mask_text(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    return StorageError(f"results storage {cls.__module__}.{cls.__qualname__}: {text}")


def _read(setting: Any) -> tuple[type[PipelineStorage], Mapping[str, Any]]:
    """Find the class that a setting names, and its keyword arguments."""
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
    except Exception as error:
        text = mask_text(f"{type(error).__name__}: {error}")
        raise ConfigurationError(f"{_SETTING}: {path!r} cannot be imported: {text}") from error
    if not (isinstance(cls, type) and issubclass(cls, PipelineStorage)):
        raise ConfigurationError(f"{_SETTING}: {path!r} does not extend specprod.results.base.PipelineStorage")
    return cls, keywords


def _takes_database(cls: type[PipelineStorage]) -> bool:
    return "database" in inspect.signature(cls).parameters


def _make(cls: type[PipelineStorage], keywords: Mapping[str, Any], database: Database | None) -> PipelineStorage:
    arguments = {**keywords, "database": database} if _takes_database(cls) else dict(keywords)
    try:
        inspect.signature(cls).bind(**arguments)
        make: Callable[..., PipelineStorage] = cls
        with named_failures([cls]):
            return make(**arguments)
    except TypeError as error:
        path = f"{cls.__module__}.{cls.__qualname__}"
        raise ConfigurationError(f"{_SETTING}: {path!r} cannot be made with these arguments: {error}") from error
