"""Runs of the command in processes of their own, each forked off one that has imported everything: a tenth of a second
instead of one and a half."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

_MODULES = [
    "pytest", "psycopg", "astropy.table", "astropy.io.ascii", "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite", "specprod.cli.main", "specprod.cli.run", "specprod.load", "specprod.production.job",
    "specprod.files.fits", "specprod.files.text", "specprod.database.postgresql", "specprod.database.sqlite",
]  # fmt: skip


@dataclass
class Done:
    """What became of a run; the code of a process that was ended by a signal is negative, None stands for a hang."""

    code: int | None
    out: str
    err: str


def command(words: list[str]) -> int:
    """Run ``specprod-load``."""
    from specprod.cli.main import main

    return main(words)


def load_text(path: str, target: str) -> int:
    """Load a text file into table tile by the functions of the package, and print an error as the command does."""
    import sys

    from specprod.database import connect
    from specprod.errors import SpecprodError
    from specprod.load import Tile, load_file, setup_db

    with connect(target, create=True) as database:
        setup_db(database=database)
        try:
            load_file(path, Tile, database=database, chunksize=2)
        except SpecprodError as error:
            print(f"specprod-load: {error}", file=sys.stderr)
            return 1
    return 0


def _child(function: Callable[..., int], arguments: tuple[Any, ...], pipe: Connection) -> None:
    import sys
    import traceback

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = function(*arguments)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            code = 99
    pipe.send((code, out.getvalue(), err.getvalue()))
    pipe.close()
    # Threads that hang are the concern of the parent, which waits for the end of the process.


def run(function: Callable[..., int], *arguments: Any, timeout: float = 60) -> Done:
    """Call a function of this module in a process of its own and wait for it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(function, arguments, sender))
    process.start()
    sender.close()
    done = Done(None, "", "")
    if receiver.poll(timeout):
        with contextlib.suppress(EOFError):
            done = Done(*receiver.recv())
        process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        return Done(None, done.out, done.err + "\nthe process did not end")
    if process.exitcode:
        done.code = process.exitcode
    return done
