"""Conversion of data: what headers and callers say beside the columns, and what happens when they disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from specprod.errors import UnknownNameError, ValueRejectedError
from specprod.load import Fiberassign, Potential, Target, Version, Ztile
from specprod.model import Zpix, table_of
from specprod.model.base import SchemaMixin, parameters, source_of
from specprod.model.converting import Converter, Rejects, number_of_rows
from specprod.util import programid, spgrpid, surveyid

pytestmark = pytest.mark.compat


def potentials(tileid: list[int] | None = None, **meta: Any) -> Table:
    data = {"TARGETID": [5, 6, 7], "FIBER": [0, 1, 2], "LOCATION": [100, 200, 300]}
    return Table(data | ({} if tileid is None else {"TILEID": tileid}), meta=meta)


def rows_of(cls: type[SchemaMixin], **more: Any) -> dict[str, Any]:
    """Two rows with ones in all columns of numbers."""
    data: dict[str, Any] = {}
    for item in table_of(cls).columns:
        source = source_of(item)
        if source.names and source.given is None and source.default is not False:
            kind = item.type.python_type
            name = source.names[0]
            data[name] = np.ones((2, 10)) if source.element is not None else np.array([kind(1)] * 2)
    return data | {"TARGET_RA": np.ones(2), "TARGET_DEC": np.ones(2)} | more


@pytest.mark.parametrize("cls", [Fiberassign, Potential])
def test_the_tile_of_the_header(cls: type[SchemaMixin]) -> None:
    data = Table(rows_of(cls), meta={"TILEID": 80613})
    assert [item.tileid for item in cls.convert(data)] == [80613, 80613]
    assert [item.tileid for item in cls.convert(data, tileid=80613, row_index=[1])] == [80613]
    with pytest.raises(ValueRejectedError) as caught:
        cls.convert(data, tileid=80614)
    assert str(caught.value).startswith(
        "column TILEID, row 0: keyword TILEID differs from the argument tileid, which is 80614: '80613'"
    )
    del data.meta["TILEID"]
    with pytest.raises(KeyError, match="TILEID"):
        cls.convert(data)
    data.meta["TILEID"] = "eighty"
    with pytest.raises(ValueRejectedError, match="column TILEID: expected integers, found text"):
        cls.convert(data)


def test_a_column_comes_before_the_header() -> None:
    assert [item.tileid for item in Potential.convert(potentials([1, 2, 3], TILEID=9))] == [1, 2, 3]


def test_an_argument_that_contradicts_the_column() -> None:
    data = potentials([9, 9, 8])
    assert [item.tileid for item in Potential.convert(data, tileid=9, row_index=[0, 1])] == [9, 9]
    with pytest.raises(ValueRejectedError) as caught:
        Potential.convert(data, tileid=9)
    assert str(caught.value) == "column TILEID, row 2: differs from the argument tileid, which is 9: '8'"
    rejects = Rejects()
    columns, rows = Converter(Potential, data.colnames, {"tileid": 9}).convert_rows(data, 100, rejects)
    assert rows.tolist() == [100, 101]
    assert columns["tileid"].tolist() == [9, 9]
    assert rejects.rows == [(102, "TILEID", "differs from the argument tileid, which is 9")]


def test_an_argument_fills_what_is_missing() -> None:
    data = potentials()
    data["TILEID"] = MaskedColumn([9, 1, 9], mask=[False, True, False])
    assert [item.tileid for item in Potential.convert(data, tileid=9)] == [9, 9, 9]
    with pytest.raises(ValueRejectedError, match="column TILEID, row 1: no value"):
        Potential.convert(data)


@pytest.mark.parametrize("text", [np.str_, np.bytes_])
def test_texts_agree_without_their_blanks(text: type) -> None:
    data = rows_of(Zpix, SURVEY=np.array(["main  ", ""]).astype(text), PROGRAM=np.array(["dark", "dark"]).astype(text))
    assert [row.survey for row in Zpix.convert(data, survey="main", program="dark")] == ["main", "main"]
    with pytest.raises(ValueRejectedError, match="column SURVEY, row 0: differs from the argument survey"):
        Zpix.convert(data, survey="sv3", program="dark")


def test_spectra_are_cumulative_where_nothing_is_said() -> None:
    given = {"survey": "main", "program": "dark", "tileid": 5, "night": 20210101}
    data = rows_of(Ztile)
    (row, _) = Ztile.convert(data, **given)
    assert row.spgrp == "cumulative"
    assert Ztile.objects(data, None, **given)[0].id == row.id == (3 << 27 | 1) << 96 | 5 << 64 | 1
    (row, _) = Ztile.convert(data, **given, spgrp="pernight")
    assert (row.spgrp, row.id >> 123) == ("pernight", 6)
    grouped = data | {"SPGRP": np.array(["perexp", "pernight"])}
    assert [item.spgrp for item in Ztile.objects(grouped, None, **given)] == ["perexp", "pernight"]
    with pytest.raises(ValueRejectedError, match="column SPGRP, row 0: differs from the argument spgrp"):
        Ztile.convert(grouped, **given)


def test_versions_are_numbered() -> None:
    data = Table({"package": ["numpy", "astropy", "tiles"], "version": ["1", "2", "3"]})
    assert [(row.id, row.package) for row in Version.convert(data)] == [(1, "numpy"), (2, "astropy"), (3, "tiles")]
    assert [row.id for row in Version.convert(data, row_index=[2])] == [3]
    data["ID"] = [7, 8, 9]
    assert [row.id for row in Version.convert(data)] == [7, 8, 9]


@pytest.mark.parametrize("code", [surveyid, programid, spgrpid])
@pytest.mark.parametrize("name", ["nowhere", b"nowhere", ["nowhere"], np.array([b"main", b"nowhere"])])
def test_unknown_names(code: Any, name: Any) -> None:
    for kind in (KeyError, ValueError, UnknownNameError):
        with pytest.raises(kind) as caught:
            code(name)
        assert str(caught.value).startswith("column ")


@pytest.mark.parametrize(
    ("cls", "given", "name"),
    [
        (Zpix, {"survey": "main", "program": "dusk"}, "PROGRAM"),
        (Zpix, {"survey": "sv9", "program": "dark"}, "SURVEY"),
        (Target, {"survey": "sv9", "tileid": 1}, "SURVEY"),
        (Ztile, {"survey": "main", "program": "dark", "tileid": 1, "night": 1, "spgrp": "weekly"}, "SPGRP"),
    ],
)
def test_conversions_of_unknown_names(cls: type[SchemaMixin], given: dict[str, Any], name: str) -> None:
    for kind in (KeyError, ValueError):
        with pytest.raises(kind, match=f"column {name}"):
            cls.convert(rows_of(cls), **given)


def test_a_position_that_is_no_number() -> None:
    data = rows_of(Zpix, TARGET_RA=np.array(["a", "b"]))
    data.pop("DESINAME", None)
    with pytest.raises(ValueRejectedError, match="column TARGET_RA: expected numbers"):
        Zpix.convert(data, survey="main", program="dark")


def test_rows_are_counted_in_every_kind_of_table() -> None:
    data = potentials()
    assert number_of_rows(data) == number_of_rows(data.as_array()) == 3
    assert number_of_rows({name: np.asarray(data[name]) for name in data.colnames}) == 3
    assert number_of_rows({}) == 0


def test_parameters_of_every_kind_of_function() -> None:
    class Adds:
        def __call__(self, z: float, zerr: float) -> float:
            return z + zerr

    assert parameters(lambda targetid, tileid: (targetid, tileid)) == ("targetid", "tileid")
    assert parameters(Adds()) == ("z", "zerr")
