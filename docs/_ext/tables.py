"""Describes the tables of a production from their declarations."""

from __future__ import annotations

import sqlalchemy as sa
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sqlalchemy.dialects import postgresql

from specprod.model import TABLES, source_of, table_of


class Tables(SphinxDirective):
    """``.. specprod-tables::``: a section with a list of columns for each table."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for cls in TABLES:
            table = table_of(cls)
            lines += [f".. _table-{table.name}:", "", table.name, "-" * len(table.name), ""]
            lines += [f"Class ``{cls.__name__}``. {' '.join((cls.__doc__ or '').split())}", ""]
            if related := _relationships(cls):
                lines += [f"Relationships: {related}.", ""]
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 18 14 12 36 20", ""]
            lines += _row("column", "type", "unit", "description", "from")
            for column in table.columns:
                kind = column.type.compile(postgresql.dialect()).lower()
                # Versions stand in no file.
                source = "the load" if cls.__name__ == "Version" else _escaped(source_of(column).describe())
                lines += _row(f"``{column.name}``", kind, column.info["unit"] or "", _description(column), source)
            lines.append("")
        container = nodes.section()
        container.document = self.state.document
        self.state.nested_parse(StringList(lines, "declarations"), 0, container, match_titles=True)
        return container.children


def _relationships(cls: type) -> str:
    found = sa.inspect(cls).relationships
    return ", ".join(
        f"``{item.key}`` ({'many' if item.uselist else 'one'} {item.mapper.class_.__name__})" for item in found
    )


def _description(column: sa.Column) -> str:
    notes = ["primary key"] if column.primary_key else []
    notes += [f":ref:`{key.column.table.name} <table-{key.column.table.name}>`" for key in column.foreign_keys]
    notes += ["indexed"] if column.index else []
    return _escaped(column.doc or "") + (f" ({', '.join(notes)})" if notes else "")


def _escaped(text: str) -> str:
    return text.replace("_", "\\_").replace("*", "\\*")


def _row(*cells: str) -> list[str]:
    return [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(cells)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("specprod-tables", Tables)
    return {"parallel_read_safe": True}
