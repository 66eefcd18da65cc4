"""Scripts that load a production, or its tiles, as jobs of SLURM."""

from specprod.batch.options import BatchOptions
from specprod.batch.scripts import prepare_template, write_scripts
from specprod.survey.constants import FIRST_NIGHT
from specprod.tiles.selection import select_tiles

__all__ = ["FIRST_NIGHT", "BatchOptions", "prepare_template", "select_tiles", "write_scripts"]
