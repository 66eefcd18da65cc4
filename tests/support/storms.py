"""Storms: a command that is killed at random moments, and given again, until it ends."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["storm"]

#: Seconds of a storm, and the kills that it must have seen to count.
SECONDS, KILLS = 3, 3


def storm(
    words: Sequence[str],
    reset: Callable[[], object],
    content: Callable[[], Any],
    expected: Any,
    seed: int,
    done: str | None = None,
) -> None:
    """Kill a command at random moments, and give it again, until it ends; then the database is as it should be.

    Parameters
    ----------
    words : sequence of str
        The command.
    reset : callable
        Makes the database what it was before the command.
    content : callable
        Content of the database.
    expected : object
        What that is after the command.
    seed : int
        Of the moments.
    done : str, optional
        What the command says, with an error, where it was killed after its commit and there is nothing left to do.
    """
    command = [sys.executable, "-m", "specprod.cli.main", *words]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def check(returncode: int, message: str) -> None:
        assert returncode == 0 or (done is not None and done in message), message
        assert content() == expected

    reset()
    begin = time.monotonic()
    first = start()
    assert first.wait() == 0, first.communicate()[1]
    whole = time.monotonic() - begin
    moments = random.Random(seed)
    reset()
    deadline = time.monotonic() + SECONDS
    kills = completed = 0
    while kills < KILLS or time.monotonic() < deadline:
        process, begin = start(), time.monotonic()
        try:
            # The first half is the start of Python.
            process.wait(timeout=moments.uniform(0.45, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        ended = time.monotonic()
        check(process.returncode, process.communicate()[1])
        completed += 1
        # The machine may have been busy when the first load was timed: later ones must not all end before the kill.
        if process.returncode == 0:
            whole = min(whole, ended - begin)
        reset()
    last = subprocess.run(command, capture_output=True, text=True, check=False)
    check(last.returncode, last.stderr)
    print(f"survived {kills} kills; {completed + 2} commands ran to their end between them")
