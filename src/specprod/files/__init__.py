"""Files of a production: readers that yield chunks of columns, and where the files stand."""

from specprod.files.opening import open_table
from specprod.files.tables import Chunk, TableReader

__all__ = ["Chunk", "TableReader", "open_table"]
