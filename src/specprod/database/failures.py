"""What drivers raise, as our exceptions; and which failures pass by themselves."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from specprod.configuration.defaults import ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE
from specprod.database.complaints import Complaints
from specprod.database.kinds import KINDS
from specprod.errors import ConnectionFailedError, ConstraintError, DatabaseError

__all__ = ["Retries", "driver_error", "is_transient", "translated"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


def driver_error(error: BaseException | None) -> BaseException | None:
    """Find the driver's exception behind those that wrap it."""
    while error is not None:
        if isinstance(error, sa.exc.DBAPIError):
            error = error.orig
        elif _known(error) is not None:
            return error
        else:
            error = error.__cause__
    return None


def _known(error: BaseException) -> Complaints | None:
    return next((kind.complaints for kind in KINDS if kind.complaints.is_own(error)), None)


def is_transient(error: BaseException) -> bool:
    """Whether a failure may pass by itself, so that the whole transaction can be tried again."""
    cause = driver_error(error)
    kind = None if cause is None else _known(cause)
    return kind is not None and kind.is_transient(cause)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise our exceptions in the place of the driver's; the driver's stays as the cause."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, sa.exc.DBAPIError) and _known(error) is None:
            raise
        cause = driver_error(error) or error
        kind = _known(cause)
        message = " ".join((str(cause) if kind is None else kind.message(cause)).split())
        if kind is not None and kind.is_constraint(cause):
            raise ConstraintError(message) from error
        if kind is not None and kind.is_lost_connection(cause):
            raise ConnectionFailedError(f"the connection was lost: {message}") from error
        column = None if kind is None else kind.column(cause)
        raise DatabaseError(message, column=column) from error


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
