"""What drivers raise, as our exceptions; and which failures pass by themselves."""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa

from specprod.configuration.defaults import ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE
from specprod.errors import ConnectionFailedError, ConstraintError, DatabaseError

__all__ = ["Retries", "driver_error", "is_transient", "translated"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Deadlock, serialization failure, a lock that was not got in time, a session ended because it idled, too many of them,
# server shutting down, crashed or starting, and the class of connection failures.
_TRANSIENT_STATES = ("40001", "40P01", "55P03", "25P03", "53300", "57P01", "57P02", "57P03", "57P05", "08")
# When a connection is refused, there is no state, only text. What the server says is for good (password, database, role
# that is none), but for these; of a name that is not known, the resolver says whether it may be.
_REFUSED = ("FATAL:", "Name or service not known", "could not translate host name")
_REFUSED_FOR_NOW = ("starting up", "shutting down", "recovery mode", "too many", "Temporary failure in name resolution")
#: What a server says of a value that it cannot take.
_COLUMN_OF_COPY = re.compile(r"COPY \S+, line \d+, column (\w+)")


def driver_error(error: BaseException | None) -> BaseException | None:
    """Find the driver's exception behind those that wrap it."""
    while error is not None:
        if isinstance(error, sa.exc.DBAPIError):
            error = error.orig
        elif isinstance(error, psycopg.Error | sqlite3.Error):
            return error
        else:
            error = error.__cause__
    return None


def is_transient(error: BaseException) -> bool:
    """Whether a failure may pass by itself, so that the whole transaction can be tried again."""
    cause = driver_error(error)
    if isinstance(cause, psycopg.Error):
        state = cause.sqlstate
        if state is not None:
            return state.startswith(_TRANSIENT_STATES)
        # Without a state the connection was lost, or not made.
        text = str(cause)
        refused = any(words in text for words in _REFUSED) and not any(words in text for words in _REFUSED_FOR_NOW)
        return isinstance(cause, psycopg.OperationalError) and not refused
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return False


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise our exceptions in the place of the driver's; the driver's stays as the cause."""
    try:
        yield
    except (sa.exc.DBAPIError, psycopg.Error, sqlite3.Error) as error:
        cause = driver_error(error) or error
        detail = getattr(getattr(cause, "diag", None), "message_detail", None)
        message = " ".join(str(getattr(getattr(cause, "diag", None), "message_primary", None) or cause).split())
        message = f"{message} ({detail})" if detail else message
        if isinstance(cause, psycopg.IntegrityError | sqlite3.IntegrityError):
            raise ConstraintError(message) from error
        if isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None:
            raise ConnectionFailedError(f"the connection was lost: {message}") from error
        context = str(getattr(getattr(cause, "diag", None), "context", None) or "")
        column = _COLUMN_OF_COPY.search(context)
        raise DatabaseError(message, column=column.group(1) if column else None) from error


@dataclass(frozen=True)
class Retries:
    """How often and after what pauses a transaction is tried again.

    Attributes
    ----------
    attempts : int
        Number of attempts in all.
    first_pause, longest_pause : float
        In seconds; each pause is twice the one before, with a random part so that two loaders part ways.
    """

    attempts: int = ATTEMPTS
    first_pause: float = FIRST_PAUSE
    longest_pause: float = LONGEST_PAUSE

    def run(self, work: Callable[[], T], what: str = "transaction") -> T:
        """Do some work, again if it fails in a way that may pass.

        Parameters
        ----------
        work : callable
            A whole transaction.
        what : str
            Its name in the log.

        Raises
        ------
        DatabaseError
            The failure that does not pass, or the last of those that did not.
        """
        import tenacity

        def log(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            reason = " ".join(str(driver_error(error) or error).split())
            pause = state.next_action.sleep if state.next_action else 0.0
            logger.warning("%s failed (%s); attempt %d in %.1f s", what, reason, state.attempt_number + 1, pause)

        retrying: Any = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_random_exponential(self.first_pause, self.longest_pause)
            + tenacity.wait_fixed(self.first_pause),
            before_sleep=log,
            reraise=True,
        )
        with translated():
            result: T = retrying(work)
            return result
