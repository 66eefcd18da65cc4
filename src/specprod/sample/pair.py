"""The tables of two productions, source and destination, in which faults are planted and recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specprod.sample.observations import CAMERAS

__all__ = ["Fault", "Pair"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Fault:
    """A value that patching mends.

    Attributes
    ----------
    table : str
        tiles, exposures or frames.
    key : dict
        TILEID; or EXPID; or EXPID and CAMERA.
    column : str
    wrong, right : float, int, str or None
        Value in the destination's file and after mending; None is a masked value: NaN, blank text, an empty cell.
    rule : str
        What mends it.
    """

    table: str
    key: dict[str, int | str]
    column: str
    wrong: float | int | str | None
    right: float | int | str | None
    rule: str


def _plain(value: Any) -> float | int | str | None:
    """Give a value of a table as JSON has it."""
    item = value.item() if isinstance(value, np.generic) else value
    if isinstance(item, bytes):
        item = item.decode("ascii")
    if item == "" or (isinstance(item, float) and np.isnan(item)):
        return None
    if isinstance(item, float) and np.isinf(item):
        return str(item)
    return item if isinstance(item, str | float) else int(item)


class Pair:
    """The tables of source and destination, in which faults are planted.

    Attributes
    ----------
    source, destination : dict of numpy structured array
        Tables ``tiles``, ``exposures``, ``frames``. The rows of the source are those of the destination that
        `kept` names, in the same order until the pair is written.
    faults : list of Fault
    spectra : list of tuple
        NIGHT, EXPID and MJD of the exposures whose raw data are to be written.
    """

    def __init__(self, tables: dict[str, Array], in_source: Array) -> None:
        self.destination = tables
        tileid = tables["tiles"]["TILEID"]
        kept = {"tiles": in_source, "exposures": np.isin(tables["exposures"]["TILEID"], tileid[in_source])}
        kept["frames"] = np.repeat(kept["exposures"], CAMERAS.size)
        self.source = {name: table[kept[name]].copy() for name, table in tables.items()}
        self._row = {name: np.where(mask, np.cumsum(mask) - 1, -1) for name, mask in kept.items()}
        # The source measured anew: where the destination has a value it stays.
        for name in ("exposures", "frames"):
            for column in ("SEEING_ETC", "EFFTIME_ETC", "AIRMASS"):
                self.source[name][column] *= 1.01
        self.source["tiles"]["EFFTIME_ETC"] += 1.5
        self.dropped: list[int] = []
        self.faults: list[Fault] = []
        self.spectra: list[tuple[int, int, float]] = []

    def source_value(self, table: str, row: int, column: str) -> Any:
        """Value of the source in that row of the destination."""
        return self.source[table][column][self._row[table][row]]

    def spoil_source(self, table: str, row: int, column: str, value: Any) -> None:
        """Change a value of the source in that row of the destination."""
        self.source[table][column][self._row[table][row]] = value

    def plant(self, table: str, row: int, column: str, wrong: Any, rule: str, **right: Any) -> None:
        """Plant a fault; the right value is that of the source unless it is given as ``right=``."""
        rows = self.destination[table]
        good = right["right"] if right else self.source_value(table, row, column)
        rows[column][row] = wrong
        names = {"tiles": ("TILEID",), "exposures": ("EXPID",), "frames": ("EXPID", "CAMERA")}[table]
        key = {name: _plain(rows[name][row]) for name in names}
        fault = Fault(table, key, column, _plain(rows[column][row]), _plain(good), rule)  # type: ignore[arg-type]
        self.faults.append(fault)

    def exposures(self, tile: int) -> list[int]:
        """Rows of the exposures of a tile, by its row."""
        tileid = self.destination["tiles"]["TILEID"][tile]
        return np.flatnonzero(self.destination["exposures"]["TILEID"] == tileid).tolist()

    def drop_from_source(self, exposure: int) -> None:
        """Let the source lack an exposure of the destination and its frames."""
        self.dropped.append(int(self.destination["exposures"]["EXPID"][exposure]))
