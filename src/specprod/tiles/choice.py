"""Which source of photometry the tiles of a production take."""

from __future__ import annotations

from specprod.errors import ConfigurationError
from specprod.files.tree import ProductionTree
from specprod.tiles.catalogues import MISSING_BRICKS, SurveyCatalogues
from specprod.tiles.production_files import ProductionFiles
from specprod.tiles.sources import PhotometrySource

__all__ = ["KINDS", "photometry_source"]

#: Kinds of sources: files of the production, catalogues of the survey.
KINDS = ("production", "catalogues")


def photometry_source(
    tree: ProductionTree, kind: str | None = None, *, missing_bricks: str = "fail"
) -> PhotometrySource:
    """Choose the source of photometry of a production.

    Parameters
    ----------
    tree : ProductionTree
    kind : str, optional
        One of `KINDS`; by default the catalogues where the production says that its photometry is computed.
    missing_bricks : str
        What becomes of targets whose brick has no catalogue: ``fail``, or ``targeting``, which takes the photometry of
        target selection.

    Raises
    ------
    ConfigurationError
        If there is no such kind, or nothing of that name can become of missing bricks.
    """
    if missing_bricks not in MISSING_BRICKS:
        raise ConfigurationError(f"missing bricks: expected one of {', '.join(MISSING_BRICKS)}, got {missing_bricks!r}")
    kind = kind or ("catalogues" if tree.production.photometry == "computed" else "production")
    if kind == "catalogues":
        return SurveyCatalogues(tree, missing_bricks=missing_bricks)
    if kind == "production":
        return ProductionFiles(tree)
    raise ConfigurationError(f"unknown source of photometry {kind!r}; expected one of {', '.join(KINDS)}")
