"""Files opened once, by their literal names: all that is read of them goes through one descriptor.

Names come from people, from directories and from headers of files, so that no library may interpret them. And other
processes may replace a file or write into it while it is read: the descriptor stays with the file that was opened.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from specprod.errors import FormatError, InputError, MissingFileError

__all__ = ["Fingerprint", "OpenFile", "Unpacker", "open_file"]

_BLOCK = 1 << 20
#: A packed file may take as many times its size, or as many bytes if that is more: catalogues take 2 to 30 times.
_MOST_TIMES, _MOST_BYTES = 200, 1 << 28
#: Share of its file system that unpacking leaves free.
_RESERVE = 0.02

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Fingerprint:
    """By what a file is known again without reading it.

    Attributes
    ----------
    device, inode : int
        Which file it is.
    size : int
        Bytes in the file system, of a packed file the packed ones.
    mtime_ns : int
        When it was last written.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Take it from what the system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class OpenFile:
    """A file that is open for reading, from any thread and at any place.

    It is closed when nobody has it any more: chunks of rows that are read when they are asked for keep it open.

    Parameters
    ----------
    path : path
        Its name, for messages, and for finding out whether it was replaced.
    descriptor : int
        Of the file itself.
    plain : int, optional
        Descriptor of the bytes, if they are not those of the file itself.

    Attributes
    ----------
    size : int
        Bytes, unpacked.
    fingerprint : Fingerprint
        What the file was when it was opened.
    """

    def __init__(self, path: Path, descriptor: int, plain: int | None = None) -> None:
        self.path = path
        self._descriptor = descriptor
        self._plain = descriptor if plain is None else plain
        for number in {self._descriptor, self._plain}:
            weakref.finalize(self, os.close, number)
        self.fingerprint = Fingerprint.of(os.fstat(descriptor))
        self.size = os.fstat(self._plain).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Read some bytes, fewer at the end of the file."""
        data = bytearray(min(size, max(self.size - offset, 0)))
        return bytes(data[: self.read_into(memoryview(data), offset)])

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer with what is at a place of the file.

        Returns
        -------
        int
            How many bytes there were: fewer than the buffer has where the file ends.

        Raises
        ------
        FormatError
            If the file cannot be read there.
        """
        done = 0
        try:
            while done < len(buffer):
                number = os.preadv(self._plain, [buffer[done : done + (1 << 30)]], offset + done)
                if not number:
                    break
                done += number
        except OSError as error:
            raise FormatError(f"cannot be read at byte {offset + done}: {error.strerror}", file=self.path) from error
        return done

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a range, all of them by default, in blocks of a length that is a multiple of 4."""
        stop = self.size if stop is None else stop
        for first in range(start, stop, 4 * _BLOCK):
            yield self.read(first, min(4 * _BLOCK, stop - first))

    def changed(self) -> str | None:
        """Say in what way the file is no longer what it was when it was opened; None if it is."""
        status = os.fstat(self._descriptor)
        if Fingerprint.of(status) != self.fingerprint:
            return "was written to while it was read"
        try:
            named = Fingerprint.of(self.path.stat())
        except OSError:
            return "was removed while it was read"
        return None if named == self.fingerprint else "was replaced while it was read"


def open_file(path: Path) -> OpenFile:
    """Open a file; one that is gzipped is unpacked, so that any place of it can be read.

    What is unpacked stands in ``TMPDIR``, so that memory does not grow with the file, and has no name: whatever ends
    the process, nothing of it stays.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no file that could be read, or truncated or corrupt.
    InputError
        If there is no room for unpacking it.
    """
    try:
        _check_kind(path, os.stat(path))
        # Whoever puts a pipe in its place meanwhile must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise MissingFileError("no such file", file=path) from error
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from error
    try:
        _check_kind(path, os.fstat(descriptor))
        packed = os.pread(descriptor, 2, 0) == b"\x1f\x8b"
        plain = _unpacked(path, descriptor) if packed else None
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise FormatError(f"cannot be read: {error.strerror}", file=path) from error
        raise
    return OpenFile(path, descriptor, plain)


def _check_kind(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "something else")
        raise FormatError(f"is {kind}, expected a file", file=path)


def _unpacked(path: Path, descriptor: int) -> int:
    """Unpack a file into one without a name, and give its descriptor."""
    most = max(_MOST_BYTES, _MOST_TIMES * os.fstat(descriptor).st_size)
    total = 0
    try:
        with tempfile.TemporaryFile(prefix="specprod-") as plain:
            with open(os.dup(descriptor), "rb") as raw, gzip.open(raw, "rb") as packed:
                raw.seek(0)
                while block := packed.read(_BLOCK):
                    total += len(block)
                    if total > most:
                        raise FormatError(
                            f"unpacks to more than {most} bytes, {_MOST_TIMES} times its size; unpack it with gunzip "
                            "if it is meant to",
                            file=path,
                        )
                    plain.write(block)
                    if total % (64 * _BLOCK) < len(block):
                        _check_room(plain.fileno())
            plain.flush()
            return os.dup(plain.fileno())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(f"the gzip stream is truncated or corrupt ({error})", file=path) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            place = tempfile.gettempdir()
            message = f"cannot be unpacked into {place}: {error.strerror}; set TMPDIR to a directory with more room"
            raise InputError(message, file=path) from error
        raise


def _check_room(descriptor: int) -> None:
    """Raise as a full file system would, before it is full for all others as well."""
    system = os.fstatvfs(descriptor)
    if system.f_bavail < _RESERVE * system.f_blocks:
        raise OSError(errno.ENOSPC, "less than 2 % of its room would be left")


class Unpacker:
    """Opens files, and keeps the last one until another is asked for: loads of HDUs of one file follow each other."""

    def __init__(self) -> None:
        self._kept: OpenFile | None = None

    def open(self, path: Path) -> OpenFile:
        """Open a file as `open_file` does, or give the one that is kept, if it still is what its name says."""
        if self._kept is None or self._kept.path != path or self._kept.changed():
            self.close()
            self._kept = open_file(path)
        return self._kept

    def close(self) -> None:
        """Let go of the last one."""
        self._kept = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
