"""Numbers that the survey fixed."""

from __future__ import annotations

from typing import Final

__all__ = ["FIRST_NIGHT"]

#: First night of the survey's own spectra (YYYYMMDD); tiles that were last observed before it are left aside.
FIRST_NIGHT: Final = 20201214
