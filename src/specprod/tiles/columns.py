"""From what the files of a tile say to the columns of its tables, for whole loads and for their steps alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specprod.files.tables import Chunk
from specprod.model import Fiberassign, Photometry, Potential, SchemaMixin, Target, Ztile
from specprod.model.base import TableLike
from specprod.model.converting import Columns, number_of_rows
from specprod.tiles.design import TileDesign
from specprod.tiles.rows import converted, joined

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["assignment_columns", "photometry_columns", "redshift_columns", "target_columns"]


def photometry_columns(tractor: TableLike, targeting: Table | None, what: str) -> Columns:
    """Make rows of table photometry: those of Tractor, and of targeting for the TARGETIDs that it does not have.

    Parameters
    ----------
    tractor : astropy.table.Table
        Perhaps without rows, and then perhaps without columns.
    targeting : astropy.table.Table or None
    what : str
        What this is, for messages.

    Returns
    -------
    dict of str to numpy.ndarray
        Empty if there are no rows.
    """
    parts = [converted(Photometry, tractor, file=f"Tractor photometry of {what}")] if number_of_rows(tractor) else []
    if targeting is not None and len(targeting):
        matched = np.asarray(tractor["TARGETID"]) if number_of_rows(tractor) else np.zeros(0, dtype=np.int64)
        rest = targeting[~np.isin(np.asarray(targeting["TARGETID"]), matched)]
        parts += [converted(Photometry, rest, file=f"targeting photometry of {what}")] if len(rest) else []
    return joined(*parts) if parts else {}


def target_columns(table: Table, what: str, *, survey: str | None = None, tileid: int | None = None) -> Columns:
    """Make rows of table target; survey and tile are those of the columns where they are not given."""
    if not len(table):
        return {}
    return converted(Target, table, {"survey": survey, "tileid": tileid}, file=f"targets of {what}")


def redshift_columns(spectra: Table, *, tileid: int, survey: str, program: str) -> Columns:
    """Make rows of table ztile of the spectra of a tile."""
    given = {"survey": survey, "program": program, "tileid": tileid, "spgrp": "cumulative"}
    return converted(Ztile, spectra, given, file=f"redshifts of tile {tileid}")


def assignment_columns(design: TileDesign) -> dict[type[SchemaMixin], Columns]:
    """Make rows of tables fiberassign and potential of the design of a tile."""
    chunks: dict[type[SchemaMixin], tuple[Chunk, str]] = {
        Fiberassign: (design.fiberassign, "FIBERASSIGN"),
        Potential: (design.potential, "POTENTIAL_ASSIGNMENTS"),
    }
    return {
        cls: converted(cls, chunk, {"tileid": design.tileid}, file=str(design.path), hdu=hdu, rows=chunk.rows)
        for cls, (chunk, hdu) in chunks.items()
    }
