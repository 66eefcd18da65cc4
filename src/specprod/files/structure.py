"""The HDUs of a FITS file: where each begins, and what its header says (FITS standard 4.0, sections 3 and 4.4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specprod.errors import FormatError, MissingHDUError
from specprod.files.checksums import datasum
from specprod.files.headers import parse_header
from specprod.files.unpacking import OpenFile

__all__ = ["Hdu", "count", "find_hdu"]

#: All of a FITS file is made of blocks of this size.
BLOCK = 2880
_CARD = 80
#: A header of more cards than this is taken for a file that is none.
_MOST_CARDS = 1 << 16


@dataclass(frozen=True)
class Hdu:
    """A header and data unit.

    Attributes
    ----------
    number : int
        Its place in the file, 0 for the primary one.
    header : mapping
        Its keywords.
    start, data, end : int
        Bytes of the file at which the header begins, the data begin, and the next HDU begins.
    header_sum : int
        Checksum of the header.
    """

    number: int
    header: Mapping[str, Any]
    start: int
    data: int
    end: int
    header_sum: int

    @property
    def name(self) -> str:
        """Its EXTNAME, or PRIMARY."""
        name = self.header.get("EXTNAME")
        return name.strip() if isinstance(name, str) else "" if self.number else "PRIMARY"

    def answers(self, wanted: str | int) -> bool:
        """Whether it is what a name or number means; names are the same in upper and lower case."""
        return wanted == self.number if isinstance(wanted, int) else wanted.upper() == self.name.upper()


def find_hdu(file: OpenFile, wanted: tuple[str | int, ...]) -> tuple[Hdu, str | int, list[Hdu]]:
    """Find an HDU.

    Parameters
    ----------
    file : OpenFile
    wanted : tuple of str or int
        Names or numbers; the first that is there counts.

    Returns
    -------
    hdu : Hdu
    name : str or int
        By which of the names it was found.
    before : list of Hdu
        Those before it that had to be looked at.

    Raises
    ------
    FormatError
        If the file is no FITS file, or is damaged or cut before the HDU.
    MissingHDUError
    """
    if file.read(0, 9) != b"SIMPLE  =":
        raise FormatError("not a FITS file", file=file.path)
    seen: list[Hdu] = []
    what = " or ".join(map(str, wanted))
    try:
        for hdu in _hdus(file):
            if hdu.answers(wanted[0]):
                return hdu, wanted[0], seen
            seen.append(hdu)
    except FormatError as error:
        error.hdu = what
        raise
    for name in wanted[1:]:
        for hdu in seen:
            if hdu.answers(name):
                return hdu, name, seen[: hdu.number]
    names = ", ".join(item.name or str(item.number) for item in seen)
    raise MissingHDUError(f"no HDU {what}; the file has {names}", file=file.path)


def _hdus(file: OpenFile) -> Iterator[Hdu]:
    """Yield the HDUs of a file, each as soon as its header is read."""
    offset = number = 0
    while offset < file.size:
        if number and file.read(offset, 8) != b"XTENSION":
            # Special records may follow the last HDU.
            return
        cards = _header(file, offset, number)
        header = parse_header(cards)
        data = offset + len(cards)
        try:
            end = data + _padded(_data_size(header, number))
        except FormatError as error:
            error.file = str(file.path)
            raise
        yield Hdu(number, header, offset, data, end, datasum([cards]))
        offset, number = end, number + 1
    if offset - BLOCK >= file.size:
        raise FormatError(f"truncated: {file.size} bytes, but HDU {number - 1} ends at byte {offset}", file=file.path)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _header(file: OpenFile, offset: int, number: int) -> bytes:
    """Read the cards of a header, with the blanks up to the end of its last block."""
    cards = b""
    while len(cards) < _MOST_CARDS * _CARD:
        more = file.read(offset + len(cards), 16 * BLOCK)
        searched, cards = len(cards), cards + more
        end = _end_card(cards, searched)
        if end is not None:
            return cards[: _padded(end + _CARD)]
        if len(more) < 16 * BLOCK:
            raise FormatError(f"truncated: the header of HDU {number} has no end", file=file.path)
    raise FormatError(f"the header of HDU {number} has more than {_MOST_CARDS} cards", file=file.path)


def _end_card(cards: bytes, start: int) -> int | None:
    """Find the card that ends a header, from a place on at which a card begins."""
    place = cards.find(b"END     ", start)
    while place >= 0:
        if place % _CARD == 0:
            return place
        place = cards.find(b"END     ", place + 1)
    return None


def count(header: Mapping[str, Any], keyword: str, default: int | None = None) -> int:
    """Take a number of things out of a header.

    Raises
    ------
    FormatError
        If it is no whole number, or negative.
    """
    value = header.get(keyword, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FormatError(f"{keyword} is {value!r}, expected a number")
    return value


def _data_size(header: Mapping[str, Any], number: int) -> int:
    """Bytes of the data of an HDU (equations 1, 2 and 4 of the standard)."""
    bits = header.get("BITPIX")
    if bits not in (8, 16, 32, 64, -32, -64):
        raise FormatError(f"BITPIX of HDU {number} is {bits!r}, expected one of 8, 16, 32, 64, -32, -64")
    lengths = [count(header, f"NAXIS{axis}") for axis in range(1, min(count(header, "NAXIS"), 999) + 1)]
    if not lengths:
        return 0
    if not number and header.get("GROUPS") is not True:
        heap, groups = 0, 1
    else:
        heap, groups = count(header, "PCOUNT", 0), count(header, "GCOUNT", 1)
    if not number and lengths[0] == 0:
        lengths = lengths[1:] if header.get("GROUPS") is True else lengths
    pixels = 1
    for length in lengths:
        pixels *= length
    return int(abs(bits)) // 8 * groups * (heap + pixels)
