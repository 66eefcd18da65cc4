"""Tiles as they are in the field: targets, bricks and catalogues that are not where they should be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.table import Table

from specprod.cli.main import main
from specprod.configuration import load_configuration
from specprod.errors import ConfigurationError, InputError, MissingFileError
from specprod.files.places import Places
from specprod.files.tree import ProductionTree
from specprod.sample import write_sample
from specprod.survey.bricks import brickid, brickname
from specprod.survey.identifiers import encode_targetid
from specprod.tiles.choice import photometry_source
from support.tiles import load, opened, rows


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("field") / "tree"
    write_sample(root, tiles=2, targets_per_tile=40, potentials_per_tile=120, seed=3, tile_inputs=True, compact=True)
    return root


@pytest.fixture
def changeable(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def production(root: Path, **more: Any) -> ProductionTree:
    return ProductionTree(root, load_configuration(environ={}).production("sample"), **more)


def tileid_of(root: Path) -> int:
    return min(int(path.name) for path in (root / "spectro/redux/sample/tiles/cumulative").iterdir())


def fiberassign(root: Path) -> Path:
    return next(root.rglob(f"fiberassign-{tileid_of(root):06d}.fits*"))


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


# ---- identity, then position

RA, DEC = 150.07, 2.01
BRICK = int(brickid([RA], [DEC])[0])


@pytest.fixture
def brick(tree: Path, tmp_path: Path) -> ProductionTree:
    """A brick of DR9 with three sources: a primary one, one 0.5 arcsec from it that is not, and one far from both."""
    path = next(iter(sorted((tree / "external").rglob("tractor-*.fits"))))
    table = np.repeat(fitsio.read(str(path), ext=1)[:1], 3)
    table["RELEASE"], table["BRICKID"] = 9010, BRICK
    table["OBJID"], table["BRICK_PRIMARY"] = [11, 12, 13], [True, False, True]
    table["RA"], table["DEC"] = [RA, RA, RA + 0.01], [DEC, DEC + 0.5 / 3600, DEC]
    files = production(tmp_path)
    place = files.tractor("south", brickname(BRICK))
    place.parent.mkdir(parents=True)
    fitsio.write(str(place), table, extname="TRACTOR")
    return files


@pytest.mark.parametrize(
    ("release", "objid", "number", "away", "expected"),
    [
        # Identity counts, wherever the target is said to be, and whether or not the source is primary.
        (9010, 11, BRICK, 0.0, [11]),
        (9010, 13, BRICK, 0.0, [13]),
        (9010, 12, BRICK, 0.5, [12]),
        # A number that the brick does not have: the nearest primary source within 1 arcsec.
        (9010, 99, BRICK, 0.0, [11]),
        (9010, 99, BRICK, 0.45, [11]),
        (9010, 99, BRICK, 0.99, [11]),
        (9010, 99, BRICK, 1.01, []),
        # The same number, but of another release of the same half of the sky: this is not the source.
        (9012, 13, BRICK, 0.0, [11]),
        (9012, 13, BRICK, 1.5, []),
    ],
)
def test_identity_then_position(
    brick: ProductionTree, release: int, objid: int, number: int, away: float, expected: list[int]
) -> None:
    targetid = int(encode_targetid(release=release, brickid=number, objid=objid))
    targets = Table({"TARGETID": [targetid], "RA": [RA], "DEC": [DEC + away / 3600]})
    found = photometry_source(brick, "catalogues").tractor(targets)
    assert (found["BRICK_OBJID"].tolist() if len(found) else []) == expected


def test_position_counts_beyond_the_brick_that_is_named(tree: Path, brick: ProductionTree) -> None:
    """A TARGETID names a brick without that source; at the place of the target there is another brick with one."""
    other = int(brickid([RA + 1], [DEC])[0])
    place = brick.tractor("south", brickname(other))
    place.parent.mkdir(parents=True, exist_ok=True)
    table = fitsio.read(str(next((tree / "external").rglob("tractor-*.fits"))), ext=1)[:1]
    fitsio.write(str(place), table, extname="TRACTOR")
    targetid = int(encode_targetid(release=9010, brickid=other, objid=2_000_000))
    targets = Table({"TARGETID": [targetid], "RA": [RA], "DEC": [DEC]})
    found = photometry_source(brick, "catalogues").tractor(targets)
    assert found["BRICK_OBJID"].tolist() == [11]
    assert found["TARGETID"].tolist() == [targetid]


def test_a_target_whose_number_is_not_in_its_brick(
    changeable: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources were numbered anew: targets find theirs by their places, and have the photometry that they had."""
    before = str(sqlite_file) + ".before"
    assert load(changeable, before, tileid_of(changeable), "--source", "catalogues") == 0
    for path in (changeable / "external").rglob("tractor-*.fits"):
        with fitsio.FITS(str(path), "rw") as file:
            table = file[1].read()
            table["OBJID"] += 100_000
            file[1].write(table)
    capsys.readouterr()
    assert load(changeable, str(sqlite_file), tileid_of(changeable), "--source", "catalogues") == 0
    names = "targetid, ls_id > 0, flux_r, flux_w4, morphtype"
    assert rows(str(sqlite_file), "photometry", names) == rows(before, "photometry", names)
    with opened(str(sqlite_file)) as connection:
        (renumbered,) = connection.execute("SELECT count(*) FROM photometry WHERE brick_objid >= 100000").fetchone()
    assert renumbered > 80


# ---- targets that are in no catalogue


def without_catalogues(root: Path) -> set[int]:
    """Take all target catalogues away; return the TARGETIDs of the tile."""
    for path in [*root.glob("target/catalogs"), *root.glob("survey")]:
        shutil.rmtree(path)
    ids = np.concatenate([fitsio.read(str(fiberassign(root)), ext=h)["TARGETID"] for h in ("TARGETS", "FIBERASSIGN")])
    return set(ids[(ids > 0) & (ids & 1 << 59 == 0)].tolist())


def test_a_tile_without_catalogues(changeable: Path, database_target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its targets have what the fiberassign file says of them: as in a backup program."""
    targets = without_catalogues(changeable)
    shutil.rmtree(changeable / "external")
    words = ["--source", "catalogues", "--missing-bricks", "targeting"]
    assert load(changeable, database_target, tileid_of(changeable), *words) == 0
    (item,) = summary(capsys)["tiles"]
    assert item["state"] == "loaded"
    assert item["uncatalogued"] == len(targets)
    assert item["missing_bricks"] > 0
    assigned = fitsio.read(str(fiberassign(changeable)), ext="FIBERASSIGN")
    listed = fitsio.read(str(fiberassign(changeable)), ext="TARGETS")
    (tile,) = rows(database_target, "tile", "tileid, survey, program")
    names = "targetid, ra, dec, flux_r, flux_ivar_w1, morphtype, ref_id, release, brick_objid, ebv, flux_w4"
    photometry = {row[0]: row[1:] for row in rows(database_target, "photometry", names)}
    assert photometry.keys() == targets
    bits = "targetid, desi_target, subpriority, obsconditions, priority_init, hpxpixel, tileid, survey, program"
    selected = {row[0]: row[1:] for row in sorted(rows(database_target, "target", bits))}
    assert selected.keys() == targets
    checked = 0
    for row in assigned[np.isin(assigned["TARGETID"], list(targets))]:
        expected = [row["TARGET_RA"], row["TARGET_DEC"], row["FLUX_R"], row["FLUX_IVAR_W1"]]
        found = photometry[int(row["TARGETID"])]
        assert list(found[:4]) == pytest.approx([float(value) for value in expected], rel=1e-7)
        assert found[4] == row["MORPHTYPE"].strip()
        assert found[5:] == (row["REF_ID"], row["RELEASE"], row["BRICK_OBJID"], pytest.approx(float(row["EBV"])), 0)
        assert selected[int(row["TARGETID"])][3] == row["PRIORITY_INIT"]
        checked += 1
    assert checked == 40
    for row in listed[np.isin(listed["TARGETID"], list(targets))]:
        assert photometry[int(row["TARGETID"])][:2] == (row["RA"], row["DEC"])
        found = selected[int(row["TARGETID"])]
        assert found[:3] == (row["DESI_TARGET"], row["SUBPRIORITY"], row["OBSCONDITIONS"])
        assert found[5:] == tile
    # The pixel of a place does not depend on a catalogue.
    whole = {
        int(row["TARGETID"]): int(row["HPXPIXEL"])
        for path in (changeable / "vac").rglob("targetphot-*.fits")
        for row in fitsio.read(str(path), ext="TARGETPHOT")
    }
    assert {targetid: row[4] for targetid, row in selected.items()} == {t: whole[t] for t in targets}


def test_some_targets_without_a_catalogue(
    changeable: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both kinds of source; the last line for people counts them, and what a catalogue has comes from there."""
    complete = str(sqlite_file) + ".complete"
    tileid = tileid_of(changeable)
    assert load(changeable, complete, tileid) == 0
    gone = set()
    for path in changeable.rglob("targets-*secondary.fits"):
        gone |= set(fitsio.read(str(path), ext=1)["TARGETID"].tolist())
        path.unlink()
    gone &= {row[0] for row in rows(complete, "target", "targetid")}
    for path in (changeable / "vac").rglob("targetphot-*.fits"):
        table = fitsio.read(str(path), ext="TARGETPHOT")
        fitsio.write(str(path), table[~np.isin(table["TARGETID"], list(gone))], extname="TARGETPHOT", clobber=True)
    assert gone
    for source in ("catalogues", "production"):
        target = f"{sqlite_file}.{source}"
        capsys.readouterr()
        words = ["tile", str(changeable), str(tileid), "--specprod", "sample", "--source", source, "-q"]
        assert main([*words, "--database", target]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.endswith(f" s; {len(gone)} targets in no catalogue, as in the fiberassign file")
        for table in ("photometry", "target"):
            same = {row for row in rows(target, table) if gone.isdisjoint(row)}
            assert same == {row for row in rows(complete, table) if gone.isdisjoint(row)}
        strict = f"{sqlite_file}.strict.{source}"
        assert main([*words, "--strict", "--database", strict]) == 1
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"{fiberassign(changeable)}: {len(gone)} of " in line
        assert "are in no catalogue of targets that there is, for example TARGETID" in line
        assert rows(strict, "tile") == []


def test_nothing_is_said_where_nothing_is_odd(
    tree: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tile", str(tree), str(tileid_of(tree)), "--specprod", "sample", "--source", "catalogues", "--strict"]
    assert main([*words, "--database", str(sqlite_file)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" s")


# ---- bricks


def test_all_absent_bricks_are_named_at_once(
    changeable: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete, target = str(sqlite_file) + ".complete", str(sqlite_file)
    tileid = tileid_of(changeable)
    assert load(changeable, complete, tileid, "--source", "catalogues") == 0
    halves = {9010: "south", 9011: "north"}
    identities = {(t >> 42 & 0xFFFF, t >> 22 & 0xFFFFF) for (t,) in rows(complete, "photometry", "targetid")}
    gone = sorted(identity for identity in identities if identity[0] in halves)[:3]
    numbers, names = {number for _, number in gone}, [brickname(number) for _, number in gone]
    for (release, _), name in zip(gone, names, strict=True):
        production(changeable).tractor(halves[release], name).unlink()
    capsys.readouterr()
    assert load(changeable, target, tileid, "--source", "catalogues") == 1
    error = capsys.readouterr().err
    assert all(f"tractor-{name}.fits" in error for name in names)
    assert error.count("tractor-") == 3
    assert rows(target, "tile") == []
    assert load(changeable, target, tileid, "--source", "catalogues", "--missing-bricks", "targeting") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["tiles"][0]["missing_bricks"] == 3
    named = {t for (t,) in rows(target, "photometry", "targetid") if t >> 22 & 0xFFFFF in numbers}
    assert named
    before, after = ({row[0]: row for row in rows(db, "photometry", "targetid, *")} for db in (complete, target))
    assert before.keys() == after.keys()
    different = {t for t in before if before[t] != after[t]}
    assert different
    assert different <= named
    words = ["tile", str(changeable), str(tileid), "--specprod", "sample", "--source", "catalogues", "-q"]
    assert main([*words, "--database", target, "--missing-bricks", "targeting"]) == 0
    # Nothing was new, so no brick was asked for.
    assert capsys.readouterr().out.splitlines()[-1].endswith(" s")


def test_a_brick_that_a_targetid_names_must_be_there(tmp_path: Path) -> None:
    targetid = int(encode_targetid(release=9011, brickid=607466, objid=3))
    targets = Table({"TARGETID": [targetid], "RA": [105.4], "DEC": [56.7]})
    with pytest.raises(MissingFileError, match=r"north/tractor/105/tractor-1054p567\.fits"):
        photometry_source(production(tmp_path), "catalogues").tractor(targets)
    going_on = photometry_source(production(tmp_path), "catalogues", missing_bricks="targeting")
    assert len(going_on.tractor(targets)) == 0
    assert [path.name for path in going_on.absent_bricks(targets)] == ["tractor-1054p567.fits"]
    with pytest.raises(ConfigurationError, match="'somehow'"):
        photometry_source(production(tmp_path), missing_bricks="somehow")


def test_a_place_that_the_legacy_surveys_did_not_see(tmp_path: Path) -> None:
    """A target of Gaia's or of opportunity names no brick, and there need not be one."""
    targetid = int(encode_targetid(release=9999, brickid=607466, objid=3))
    targets = Table({"TARGETID": [targetid], "RA": [105.4], "DEC": [56.7]})
    assert len(photometry_source(production(tmp_path), "catalogues").tractor(targets)) == 0


# ---- places that headers name


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("DESIROOT/target/catalogs/dr9", "target/catalogs/dr9"),
        ("target/catalogs/dr9", "target/catalogs/dr9"),
        ("/data/target/catalogs/dr9", "target/catalogs/dr9"),
        ("/global/cfs/cdirs/desi/target/catalogs/dr9", "target/catalogs/dr9"),
        (
            "/data/afternoon_planning/surveyops/trunk/mtl/sv3/ToO/ToO.ecsv",
            "survey/ops/surveyops/trunk/mtl/sv3/ToO/ToO.ecsv",
        ),
        (
            "DESIROOT/survey/ops/staging/mtl/main/ToO/ToO.ecsv",
            "survey/ops/surveyops/trunk/mtl/main/ToO/ToO.ecsv",
        ),
        (
            "/global/cfs/cdirs/desi/survey/ops/staging/mtl/main/ToO/ToO.ecsv",
            "survey/ops/surveyops/trunk/mtl/main/ToO/ToO.ecsv",
        ),
        ("/data/survey/ops/staging/mtl/main/ToO/ToO.ecsv", "survey/ops/surveyops/trunk/mtl/main/ToO/ToO.ecsv"),
    ],
)
def test_known_places(tmp_path: Path, text: str, place: str) -> None:
    assert production(tmp_path).named_in_header(text, "TOO") == tmp_path / place


def test_a_place_that_is_there_stays(tmp_path: Path) -> None:
    former = tmp_path / "survey/ops/staging/mtl/main/ToO/ToO.ecsv"
    former.parent.mkdir(parents=True)
    former.touch()
    assert production(tmp_path).named_in_header("DESIROOT/survey/ops/staging/mtl/main/ToO/ToO.ecsv", "TOO") == former


def test_rules_of_a_site(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "a.toml").write_text(
        f'[loading]\nroots = ["{elsewhere}"]\n'
        '[moved.data]\nfrom = "/data/target"\nto = "archive/target"\n'
        f'[moved.data_too]\nfrom = "/data/target/too"\nto = "{elsewhere}/too"\n'
    )
    places = Places.of(load_configuration(tmp_path / "a.toml", environ={}))
    root = tmp_path / "root"
    # The longest rule that fits counts, and only whole names of directories fit.
    assert places.find(root, "/data/target/main", "TARG") == root / "archive/target/main"
    assert places.find(root, "/data/target/too/a.ecsv", "TOO") == elsewhere / "too/a.ecsv"
    assert places.find(root, "/data/target2/main", "TARG") == root / "target2/main"
    (tmp_path / "b.toml").write_text('[moved.data]\nfrom = "/data/target"\n')
    with pytest.raises(ConfigurationError, match=r"moved\.data lacks to; .*b\.toml names it"):
        load_configuration(tmp_path / "b.toml", environ={}).moved()


@pytest.mark.parametrize("text", ["/etc", "DESIROOT/../outside", "../outside", "/data/../../outside", "link/targets"])
def test_no_place_leads_out(tmp_path: Path, text: str) -> None:
    root = tmp_path / "root"
    (tmp_path / "outside/targets").mkdir(parents=True)
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=f"header key SCND names {text}: .* lies outside of {root}"):
        production(root).named_in_header(text, "SCND")


def rename(root: Path, key: str, value: str) -> Path:
    """Write another value into the header of the fiberassign file of the tile."""
    path = fiberassign(root)
    header = fitsio.read_header(str(path), ext=0)
    tables = {hdu: fitsio.read(str(path), ext=hdu) for hdu in ("FIBERASSIGN", "TARGETS", "POTENTIAL_ASSIGNMENTS")}
    path.unlink()
    plain = path.with_name(f"fiberassign-{tileid_of(root):06d}.fits")
    header[key] = value
    with fitsio.FITS(str(plain), "rw", clobber=True) as file:
        file.write(None, header=header)
        for hdu, table in tables.items():
            file.write(table, extname=hdu)
    return plain


def test_a_tile_of_another_machine(changeable: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = fitsio.read_header(str(fiberassign(changeable)), ext=0)
    rename(changeable, "TARG", header["TARG"].strip().replace("DESIROOT/", "/data/"))
    too = header["TOO"].strip().replace("DESIROOT/survey/ops/surveyops", "/data/afternoon_planning/surveyops")
    assert too.startswith("/data/afternoon_planning/surveyops/trunk/mtl/")
    rename(changeable, "TOO", too)
    words = ["--source", "catalogues", "--strict"]
    assert load(changeable, str(sqlite_file), tileid_of(changeable), *words) == 0
    assert summary(capsys)["tiles"][0]["uncatalogued"] == 0


def test_a_tile_whose_header_leads_out(
    changeable: Path, tmp_path: Path, sqlite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name, or by a link to a file; a site can allow the directory."""
    header = fitsio.read_header(str(fiberassign(changeable)), ext=0)
    secondary = header["SCND"].strip()
    outside = tmp_path / "outside"
    shutil.move(changeable / secondary.removeprefix("DESIROOT/"), outside)
    path = rename(changeable, "SCND", str(outside))
    words = ["--source", "catalogues", "--strict"]
    assert load(changeable, str(sqlite_file), tileid_of(changeable), *words) == 1
    error = capsys.readouterr().err
    assert f"{path}: header key SCND names {outside}: {outside} lies outside of {changeable}" in error
    (tmp_path / "site.toml").write_text(f'[loading]\nroots = ["{outside}"]\n')
    config = ["--config", tmp_path / "site.toml"]
    assert load(changeable, str(sqlite_file), tileid_of(changeable), *words, *config) == 0
    rename(changeable, "SCND", secondary)
    inside = changeable / secondary.removeprefix("DESIROOT/")
    inside.mkdir(parents=True)
    (file,) = outside.iterdir()
    (inside / file.name).symlink_to(file)
    capsys.readouterr()
    assert load(changeable, str(sqlite_file) + ".new", tileid_of(changeable), *words) == 1
    assert f"header key SCND leads to {inside / file.name}: {file} lies outside of" in capsys.readouterr().err


# ---- proper motions


def test_columns_in_which_nan_becomes_zero() -> None:
    """The rule stands with the columns, and whoever compares a tile with its files finds it there."""
    from specprod.model import TABLES, table_of
    from specprod.model.base import source_of

    found = {f"{table_of(cls).name}.{item.name}" for cls in TABLES for item in table_of(cls).columns
             if source_of(item).nan_zero}  # fmt: skip
    assert found == {"photometry.pmra", "photometry.pmdec", "fiberassign.pmra", "fiberassign.pmdec"}
    motions = {f"{table_of(cls).name}.{item.name}" for cls in TABLES for item in table_of(cls).columns
               if item.name in ("pmra", "pmdec")}  # fmt: skip
    assert motions == found
