"""Settings of the process of a command, which does one load and ends."""

from __future__ import annotations

import gc

__all__ = ["keep_memory"]

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_memory() -> None:
    """Let freed memory stay with the process, and objects be searched for cycles less often.

    A load takes and frees arrays of some MB all the time, in threads that come and go. By default, the C library gives
    the larger ones back to the system at once, which clears each page before it hands it out again, and has a heap for
    each thread. With one heap that does not shrink, a load takes less time. C libraries other than glibc are left as
    they are.
    """
    import ctypes

    gc.set_threshold(50_000, 20, 20)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 64 << 20), (_TRIM_THRESHOLD, 256 << 20)):
        mallopt(parameter, value)
