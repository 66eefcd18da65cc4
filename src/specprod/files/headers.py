"""Keywords of a FITS header.

Tables of surveys are wide, and their headers have hundreds of cards: to ask CFITSIO for them one by one takes longer
than to read some thousand rows.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["parse_header"]

_CARD = 80
# Whatever follows these is text.
_WITHOUT_VALUE = ("", "COMMENT", "HISTORY")
_TEXT = re.compile(r"\s*'((?:[^']|'')*)'")
# Python reads more as numbers than FITS does: 1_000, nan.
_INTEGER = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([EDed][+-]?[0-9]+)?")


def parse_header(data: bytes) -> dict[str, Any]:
    """Read the keywords that have values (FITS standard 4.0, section 4.2).

    Parameters
    ----------
    data : bytes
        The header, up to its end or to the end of its last block.

    Returns
    -------
    dict of str to bool, int, float, str or None
        Of a keyword that occurs more than once, the last. A value that is none of the standard's stays text.
    """
    cards = data.decode("ascii", "replace")
    header: dict[str, Any] = {}
    last = ""
    for start in range(0, len(cards), _CARD):
        card = cards[start : start + _CARD]
        keyword = card[:8].rstrip()
        if keyword == "END":
            break
        if card[8:10] == "= " and keyword not in _WITHOUT_VALUE:
            text = _TEXT.match(card, 10)
            header[keyword] = _unquoted(text[1]) if text else _value(card[10:].split("/", 1)[0].strip())
            last = keyword
        elif keyword == "CONTINUE" and (text := _TEXT.match(card, 8)) and str(header.get(last)).endswith("&"):
            header[last] = header[last][:-1] + _unquoted(text[1])
    return header


def _unquoted(text: str) -> str:
    """Undo the doubling of quotes; blanks at the end have no meaning."""
    return text.replace("''", "'").rstrip()


def _value(text: str) -> bool | int | float | str | None:
    """Read a value that is no text."""
    if text in ("T", "F"):
        return text == "T"
    if not text:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text.upper().replace("D", "E"))
    return text
