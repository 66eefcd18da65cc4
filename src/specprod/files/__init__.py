"""Files of a production: readers that yield chunks of columns, and where the files stand."""

from specprod.files.tables import Chunk, TableReader, open_table

__all__ = ["Chunk", "TableReader", "open_table"]
