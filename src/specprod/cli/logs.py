"""The log of a command: to stderr, as much of it as is wanted, and above the bars while there are some."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["log_held", "start_log"]


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what is stderr at the moment of the message, which is rich's while it shows bars."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The stream."""
        return sys.stderr


def start_log(verbose: int, quiet: bool) -> None:
    """Send the log to stderr, as much of it as is wanted; with -v each line begins with the time.

    Parameters
    ----------
    verbose : int
        How often -v was given.
    quiet : bool
        Errors only.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_Stderr())
        root.setLevel(logging.WARNING)
    form = "%(asctime)s %(levelname)s: %(message)s" if verbose else "%(levelname)s: %(message)s"
    for handler in root.handlers:
        if isinstance(handler, _Stderr):
            handler.setFormatter(logging.Formatter(form, "%Y-%m-%d %H:%M:%S"))
    level = logging.ERROR if quiet else {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.getLogger("specprod").setLevel(level)


@contextlib.contextmanager
def log_held() -> Iterator[None]:
    """Let no line of the log be written meanwhile."""
    with contextlib.ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, _Stderr):
                handler.acquire()
                stack.callback(handler.release)
        yield
