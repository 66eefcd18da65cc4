"""Settings of the process of a command, which does one piece of work and ends."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Terminated", "discard_output", "flush_output", "prepare_process", "show_any_name", "terminable"]

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def prepare_process() -> None:
    """Spare what a process that ends soon does not need; to be called before numpy is imported.

    A load takes and frees arrays of some MB all the time, in threads that come and go. By default, the C library gives
    the larger ones back to the system at once, which clears each page before it hands it out again, and has a heap for
    each thread. With one heap that does not shrink, a load takes less time. C libraries other than glibc are left as
    they are.

    Objects are searched for cycles less often, and not once more before the end. Nothing here multiplies matrices, for
    which numpy would start threads.
    """
    import ctypes

    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 64 << 20), (_TRIM_THRESHOLD, 256 << 20)):
        mallopt(parameter, value)


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as a batch system sends it before it kills; everything ends as it does after Ctrl-C."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` in the main thread at the first SIGTERM; a second does not disturb the end."""
    alone = threading.current_thread() is not threading.main_thread()
    if alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    # If it comes while a connection is given back, SQLAlchemy says so with a traceback before it raises it.
    pool = logging.getLogger("sqlalchemy.pool")
    level = pool.level

    def end(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pool.setLevel(logging.CRITICAL)
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        pool.setLevel(level)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def show_any_name() -> None:
    """Let names of files that are not UTF-8 go to stdout as the bytes that they are; stderr escapes them by itself."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def flush_output() -> None:
    """Write what was printed, so that a failure is met here and not at the end of the process."""
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_output() -> None:
    """Let the rest of the output go nowhere, so that the end of the process does not fail on it again."""
    with contextlib.suppress(io.UnsupportedOperation), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
