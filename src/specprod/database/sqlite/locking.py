"""One loader at a time for a file of SQLite, by a lock on a file beside it; loads of single tiles may share it."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from specprod.errors import ConnectionFailedError, LockedError

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["lock_file", "locked"]

# What the lock file begins with, now and in version 0.1: a file that does not is somebody else's.
_SIGNATURE = b"specprod: process "
_SIGNATURES = (_SIGNATURE, b"process ")


@contextlib.contextmanager
def locked(database: Database, shared: bool) -> Iterator[None]:
    """Hold the lock of a file, as `specprod.database.interface.Database.locked` does.

    The lock file is removed by whoever holds it alone, so that another process may have opened it and lock it when it
    has no name any more. That is found out, and then the file of that name is opened anew.
    """
    path = lock_file(database)
    descriptor = _open(path)
    try:
        while True:
            if not _flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                who = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip().removeprefix("specprod: ")
                raise LockedError(f"{database.place} is being loaded by another process: {who or 'unknown'}")
            if _is_named(descriptor, path):
                break
            os.close(descriptor)
            descriptor = _open(path)
        _sign(descriptor, path)
        try:
            yield
        finally:
            # Of several that share it, the last one holds it alone.
            if _flock(descriptor, fcntl.LOCK_EX) and _is_named(descriptor, path):
                path.unlink()
    finally:
        os.close(descriptor)


def lock_file(database: Database) -> Path:
    """Name the lock file; whatever links lead to the database, it has one lock."""
    return Path(f"{os.path.realpath(str(database.url.database))}.lock")


def _open(path: Path) -> int:
    """Open the lock file, never through a link."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as error:
        reason = "is a link" if path.is_symlink() else error.strerror
        raise ConnectionFailedError(f"cannot be used as a lock: {reason}", file=path) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConnectionFailedError("cannot be used as a lock: is no file", file=path)
    return descriptor


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the file that was opened still has the name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int, path: Path) -> None:
    """Write who holds the lock.

    Raises
    ------
    ConnectionFailedError
        If the file is not ours.
    """
    content = os.pread(descriptor, len(_SIGNATURE), 0)
    if content and not content.startswith(_SIGNATURES):
        raise ConnectionFailedError("stands where the lock belongs, and is something else", file=path)
    os.ftruncate(descriptor, 0)
    line = b"%s%d of user %s on %s\n" % (
        _SIGNATURE,
        os.getpid(),
        getpass.getuser().encode("utf-8", "replace"),
        platform.node().encode("utf-8", "replace"),
    )
    os.pwrite(descriptor, line, 0)
