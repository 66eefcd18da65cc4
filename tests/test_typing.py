"""What type checkers, and the editors that ask them, know of the tables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from specprod.model import TABLES, Classes

KINDS = {
    "Zpix.id": "int", "Zpix.targetid": "int", "Zpix.healpix": "int", "Zpix.coadd_numexp": "int", "Zpix.z": "float",
    "Zpix.coeff_3": "float", "Zpix.tsnr2_lrg": "float", "Zpix.spectype": "str", "Zpix.main_primary": "bool",
    "Ztile.spgrp": "str", "Ztile.mean_fiber_x": "float", "Photometry.ra": "float", "Photometry.flux_g": "float",
    "Target.subpriority": "float", "Tile.survey": "str", "Tile.exptime": "float", "Exposure.airmass": "float",
    "Exposure.date_obs": "datetime.datetime", "Frame.camera": "str", "Fiberassign.pmra": "float",
    "Potential.fiber": "int", "Version.package": "str",
}  # fmt: skip
REVEALED = "\n".join(f"reveal_type({name.replace('.', '().')})" for name in KINDS)
GOOD = f"""
from sqlalchemy import select

from specprod import connect
from specprod.model import Exposure, Fiberassign, Frame, Photometry, Potential, Target, Tile, Version, Zpix, Ztile

{REVEALED}
reveal_type(Zpix.z)
database = connect("specprod.db")
best = database.classes.Zpix
with database.session() as session:
    for row in session.scalars(select(best).where(best.z > 1, best.spectype == "QSO", best.main_primary)):
        reveal_type(row.z + 1)
        reveal_type(row.photometry.flux_r)
"""
WRONG = """
from specprod import connect
from specprod.model import Zpix

database = connect("specprod.db")
database.classes.Zpux
Zpix.zz
Zpix().z.upper()
"""


def checked(tmp_path: Path, source: str) -> tuple[int, list[str]]:
    path = tmp_path / "snippet.py"
    path.write_text(source)
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--no-error-summary"]
    done = subprocess.run([*words, str(path)], capture_output=True, text=True, check=False, cwd=tmp_path)
    return done.returncode, done.stdout.splitlines()


def test_what_is_right(tmp_path: Path) -> None:
    code, lines = checked(tmp_path, GOOD)
    assert code == 0, lines
    found = [match[1] for line in lines if (match := re.search(r'Revealed type is "(.*)"', line))]
    mapped = "sqlalchemy.orm.attributes.InstrumentedAttribute[float]"
    assert [name.replace("builtins.", "") for name in found] == [*KINDS.values(), mapped, "float", "float"]


def test_what_is_wrong(tmp_path: Path) -> None:
    code, lines = checked(tmp_path, WRONG)
    assert code == 1
    assert [re.sub(r".*error: (.*?)(; maybe.*)?  .*", r"\1", line) for line in lines] == [
        '"Classes" has no attribute "Zpux"',
        '"type[Zpix]" has no attribute "zz"',
        '"float" has no attribute "upper"',
    ]


def test_every_table_and_column_is_of_the_kind_that_its_type_says() -> None:
    assert list(vars(Classes())) == [cls.__name__ for cls in TABLES]
    assert list(vars(Classes()).values()) == list(TABLES)
    kinds = {item.type.python_type for cls in TABLES for item in sa.inspect(cls).columns}
    assert {kind.__name__ for kind in kinds} == {"int", "float", "str", "bool", "datetime"}
