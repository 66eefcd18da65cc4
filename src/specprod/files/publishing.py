"""Output files that are there in full or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from specprod.errors import ConfigurationError

__all__ = ["Publication", "check_absent"]


def check_absent(paths: list[Path], overwrite: bool) -> None:
    """Raise if a file that will be written is there already.

    Raises
    ------
    ConfigurationError
        That names the files, unless they may be overwritten. A directory of that name is always an error.
    """
    for path in paths:
        if path.is_dir():
            raise ConfigurationError(f"{path} is a directory, expected a file or nothing")
    existing = [str(path) for path in paths if os.path.lexists(path)]
    if existing and not overwrite:
        raise ConfigurationError(f"not overwritten without --overwrite: {', '.join(existing)}")


class Publication:
    """Files that are written beside their names and get these names together, when all are complete.

    As a context manager: at the end of the block each file is on the disk and then moved into place; after an error
    nothing is, and the temporary files are removed. A process that is killed leaves no more than hidden files
    ``.{name}.{random}.partial``.

    Parameters
    ----------
    overwrite : bool
        Whether files that are there are replaced.
    """

    def __init__(self, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._temporary: dict[Path, Path] = {}

    def path(self, final: Path) -> Path:
        """Temporary path, of an empty file in the same directory, for a file that will be called `final`."""
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.partial")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        self._temporary[final] = temporary
        return temporary

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            for temporary in self._temporary.values():
                temporary.unlink(missing_ok=True)

    def _publish(self) -> None:
        for temporary in self._temporary.values():
            _synchronize(temporary)
        # Another process may have written them since the first check.
        check_absent(list(self._temporary), self._overwrite)
        for final, temporary in self._temporary.items():
            os.replace(temporary, final)
        for directory in {final.parent for final in self._temporary}:
            _synchronize(directory)


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
