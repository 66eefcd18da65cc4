"""Describes the tables of a production from their declarations."""

from __future__ import annotations

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sqlalchemy.dialects import postgresql

from specprod.database.schema import TABLES
from specprod.model import source_of, table_of


class Tables(SphinxDirective):
    """``.. specprod-tables::``: a section with a list of columns for each table."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for cls in TABLES:
            table = table_of(cls)
            lines += [table.name, "-" * len(table.name), "", " ".join((cls.__doc__ or "").split()), ""]
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 18 14 12 36 20", ""]
            lines += _row("column", "type", "unit", "description", "from")
            for column in table.columns:
                kind = column.type.compile(postgresql.dialect()).lower()
                source = source_of(column).describe().replace("_", "\\_").replace("*", "\\*")
                description = (column.doc or "") + (" (primary key)" if column.primary_key else "")
                lines += _row(column.name, kind, column.info["unit"] or "", description, source)
            lines.append("")
        container = nodes.section()
        container.document = self.state.document
        self.state.nested_parse(StringList(lines, "declarations"), 0, container, match_titles=True)
        return container.children


def _row(*cells: str) -> list[str]:
    return [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(cells)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("specprod-tables", Tables)
    return {"parallel_read_safe": True}
