"""Jobs that wait for each other, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter

__all__ = ["Job", "run_jobs"]


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes
    ----------
    name : str
    work : callable
    after : tuple of str
        Names of the jobs that must be done before; those that are not among the jobs count as done.
    alone : bool
        Whether no other job that says so may run at the same time.
    """

    name: str
    work: Callable[[], None]
    after: tuple[str, ...] = ()
    alone: bool = False


def run_jobs(jobs: Sequence[Job], workers: int, stop: Callable[[], None] = lambda: None) -> None:
    """Run jobs, each as soon as those that it waits for are done and a worker is free, in the order given.

    Parameters
    ----------
    jobs : sequence of Job
    workers : int
        How many run at a time.
    stop : callable
        Called when a job fails or the process is interrupted, to tell the running ones to end.

    Raises
    ------
    graphlib.CycleError
        If jobs wait for each other in a circle, before any is begun.
    Exception
        That of the first job that failed. Nothing more is begun after it, and what runs is waited for.
    """
    order = {job.name: number for number, job in enumerate(jobs)}
    graph = TopologicalSorter({job.name: [name for name in job.after if name in order] for job in jobs})
    graph.prepare()
    ready: list[Job] = []
    running: dict[Future[None], Job] = {}
    with ThreadPoolExecutor(workers, "job") as pool:
        try:
            while graph.is_active():
                ready += [jobs[order[name]] for name in graph.get_ready()]
                ready.sort(key=lambda job: order[job.name])
                for job in list(ready):
                    free = len(running) < workers and not (job.alone and any(other.alone for other in running.values()))
                    if free:
                        ready.remove(job)
                        running[pool.submit(job.work)] = job
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    graph.done(running.pop(future).name)
        except BaseException:
            stop()
            raise
