"""Which source of photometry the tiles of a production take."""

from __future__ import annotations

from specprod.errors import ConfigurationError
from specprod.files.tree import ProductionTree
from specprod.tiles.catalogues import SurveyCatalogues
from specprod.tiles.production_files import ProductionFiles
from specprod.tiles.sources import PhotometrySource

__all__ = ["KINDS", "photometry_source"]

#: Kinds of sources: files of the production, catalogues of the survey.
KINDS = ("production", "catalogues")


def photometry_source(tree: ProductionTree, kind: str | None = None) -> PhotometrySource:
    """Choose the source of photometry of a production.

    Parameters
    ----------
    tree : ProductionTree
    kind : str, optional
        One of `KINDS`; by default the catalogues where the production says that its photometry is computed.

    Raises
    ------
    ConfigurationError
        If there is no such kind.
    """
    kind = kind or ("catalogues" if tree.production.photometry == "computed" else "production")
    if kind == "catalogues":
        return SurveyCatalogues(tree)
    if kind == "production":
        return ProductionFiles(tree)
    raise ConfigurationError(f"unknown source of photometry {kind!r}; expected one of {', '.join(KINDS)}")
