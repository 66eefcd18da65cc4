"""Settings of the process of a command, which does one piece of work and ends."""

from __future__ import annotations

import atexit
import gc
import os

__all__ = ["prepare_process"]

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
