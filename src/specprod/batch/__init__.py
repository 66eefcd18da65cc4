"""Scripts that load a production, or its tiles, as jobs of SLURM."""

from specprod.batch.options import BatchOptions
from specprod.batch.scripts import STAGES, prepare_template, write_scripts
from specprod.tiles.selection import FIRST_NIGHT, select_tiles

__all__ = ["FIRST_NIGHT", "STAGES", "BatchOptions", "prepare_template", "select_tiles", "write_scripts"]
