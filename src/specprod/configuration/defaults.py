"""Defaults that both the configuration and functions without one have; each stands here only."""

from __future__ import annotations

from typing import Final

__all__ = ["ATTEMPTS", "CHUNKSIZE", "FIRST_PAUSE", "LONGEST_PAUSE"]

#: Rows in a transaction. The reference has 50000; with half of them a load is as fast and takes less memory.
CHUNKSIZE: Final = 25000
#: Attempts to do what fails in a way that may pass, and the pauses between them in seconds: together some minutes, in
#: which a server can restart.
ATTEMPTS: Final = 8
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 30.0
