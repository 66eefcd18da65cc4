"""Packed files: given back as files whose bytes are not compressed."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from specprod.errors import FormatError, MissingFileError

__all__ = ["Unpacker", "unpacked"]


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a path whose bytes are not compressed: `path` itself, or a temporary file for one that is gzipped.

    The temporary file stands in ``TMPDIR``, so that memory does not grow with the file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is truncated or corrupt.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(2) != b"\x1f\x8b":
                yield path
                return
    except FileNotFoundError as error:
        raise MissingFileError("no such file", file=path) from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", file=path) from error
    with tempfile.NamedTemporaryFile(prefix="specprod-", suffix=path.with_suffix("").suffix) as plain:
        try:
            with gzip.open(path, "rb") as packed:
                shutil.copyfileobj(packed, plain, 1 << 20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(f"the gzip stream is truncated or corrupt ({error})", file=path) from error
        plain.flush()
        yield Path(plain.name)


def _state(path: Path) -> tuple[Path, int, int] | None:
    """Give what changes if a file does, None for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_size, status.st_mtime_ns


class Unpacker:
    """Unpacks files, and keeps the last one until another is asked for: loads of HDUs of one file follow each other."""

    def __init__(self) -> None:
        self._kept = contextlib.ExitStack()
        self._of: tuple[Path, int, int] | None = None
        self._plain = Path()

    def plain(self, path: Path) -> Path:
        """Give a path whose bytes are not compressed, as `unpacked` does; it is there until the next call."""
        state = _state(path)
        if state is None or state != self._of:
            self.close()
            self._plain = self._kept.enter_context(unpacked(path))
            self._of = state
        return self._plain

    def close(self) -> None:
        """Remove the last one."""
        self._of = None
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
