"""Jobs that wait for each other."""

from __future__ import annotations

import graphlib
import threading

import pytest

from specprod.production.scheduling import Job, run_jobs


def test_in_the_order_of_what_they_wait_for() -> None:
    done: list[str] = []
    waits = {"a": ("c", "d"), "b": (), "c": ("b",), "d": ("not a job",)}
    run_jobs([Job(name, lambda name=name: done.append(name), after) for name, after in waits.items()], 1)
    assert done == ["b", "c", "d", "a"]


def test_a_circle_is_an_error_at_once() -> None:
    """Jobs that wait for each other for ever would keep a core busy for ever."""
    begun: list[str] = []
    jobs = [Job("a", lambda: begun.append("a"), ("b",)), Job("b", lambda: begun.append("b"), ("a",))]
    jobs.append(Job("c", lambda: begun.append("c")))
    failure: list[BaseException] = []

    def run() -> None:
        try:
            run_jobs(jobs, 2)
        except graphlib.CycleError as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert failure
    assert not begun


def test_a_failure_stops_what_was_not_begun() -> None:
    begun: list[str] = []
    stopped = threading.Event()

    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_jobs([Job("a", fail), Job("b", lambda: begun.append("b"), ("a",))], 2, stopped.set)
    assert stopped.is_set()
    assert not begun
