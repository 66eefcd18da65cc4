"""What a kind of database knows of the errors of its driver."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Complaints"]


class Complaints(Protocol):
    """The functions of ``failures`` of a kind of database; all but the first take errors of its driver."""

    def is_own(self, error: BaseException, /) -> bool:
        """Whether its driver raised an error."""

    def is_transient(self, error: Any, /) -> bool:
        """Whether it may pass by itself."""

    def is_constraint(self, error: Any, /) -> bool:
        """Whether a key or a reference is violated."""

    def is_lost_connection(self, error: Any, /) -> bool:
        """Whether the connection was lost, or not made."""

    def message(self, error: Any, /) -> str:
        """Give what it says."""

    def column(self, error: Any, /) -> str | None:
        """Name the column whose value it does not take, if it says so."""
