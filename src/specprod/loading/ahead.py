"""Reading ahead: an iterator in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["prefetched"]

T = TypeVar("T")


def prefetched(items: Iterator[T], size: Callable[[T], int] = lambda _: 1, most: int = 1) -> Iterator[T]:
    """Run an iterator in a thread of its own, some items before the consumer.

    Memory is bounded by this: the thread goes on as long as the items that it has made, and that the consumer has not
    taken yet, have less than a certain size. An exception of the iterator is raised here; when the consumer leaves, the
    thread ends.

    Parameters
    ----------
    items : iterator
    size : callable
        Size of an item; by default each counts 1.
    most : int
        Total size from which on the thread waits.
    """
    ready: deque[tuple[T | None, BaseException | None]] = deque()
    changed = threading.Condition()
    sizes = 0
    stopped = False

    def produce() -> None:
        nonlocal sizes
        failure = None
        try:
            for item in items:
                with changed:
                    ready.append((item, None))
                    sizes += size(item)
                    changed.notify()
                    del item
                    while sizes >= most and not stopped:
                        changed.wait()
                    if stopped:
                        return
        except BaseException as error:
            failure = error
        with changed:
            ready.append((None, failure))
            changed.notify()

    thread = threading.Thread(target=produce, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                while not ready:
                    changed.wait()
                item, error = ready.popleft()
                if item is not None:
                    sizes -= size(item)
                changed.notify()
            if item is not None:
                yield item
                del item
            elif error is not None:
                raise error
            else:
                return
    finally:
        with changed:
            stopped = True
            changed.notify()
        thread.join()
