"""The steps of a tile load: bricks, matches by position, spectra, the survey's real files, the documented functions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.table import Table

from specprod import tile as tile_functions
from specprod.configuration import load_configuration
from specprod.database.keys import missing_keys
from specprod.errors import FormatError, InputError, MissingColumnError
from specprod.files.opening import open_table
from specprod.files.tree import ProductionTree
from specprod.load import setup_db
from specprod.model import TABLES, Photometry, Ztile
from specprod.sample import write_sample
from specprod.survey.bricks import brickid, brickname
from specprod.survey.identifiers import encode_targetid
from specprod.tiles.choice import photometry_source
from specprod.tiles.observations import Observations
from specprod.tiles.rows import converted
from specprod.tiles.spectra import petal_columns, read_spectra
from support.tiles import connect, content, empty_again, load


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources") / "tree"
    write_sample(root, tiles=2, targets_per_tile=60, potentials_per_tile=120, seed=3, tile_inputs=True, compact=True)
    return root


def production(root: Path, name: str = "sample") -> ProductionTree:
    return ProductionTree(root, load_configuration(environ={}).production(name))


# ---- bricks


def test_bricks_of_the_survey() -> None:
    """BRICKID and BRICKNAME of bricks as published."""
    known = [
        (106.74, 56.1, None, None),
        (105.4255319148936, 56.75, 607466, "1054p567"),
        (0.125, 0.0, 330368, "0001p000"),
        (0.0, -90.0, 1, "1800m900"),
        (0.0, 90.0, 662174, "1800p900"),
    ]
    for ra, dec, number, name in known:
        if number is not None:
            assert brickid([ra], [dec]).tolist() == [number]
            assert brickname(number) == name


def test_bricks_agree_with_positions_on_the_whole_sky() -> None:
    """A name is that of the centre, cut off; going to the centre and back gives the same brick."""
    random = np.random.default_rng(5)
    ra, dec = random.uniform(0, 360, 4000), np.degrees(np.arcsin(random.uniform(-1, 1, 4000)))
    numbers = brickid(ra, dec)
    assert numbers.min() >= 1
    assert numbers.max() <= 662174
    for x, y, number in zip(ra[:300], dec[:300], numbers[:300].tolist(), strict=True):
        name = brickname(number)
        sign = -1 if name[4] == "m" else 1
        # Names have tenths of degrees.
        assert abs(sign * int(name[5:]) / 10 + sign * 0.05 - y) < 0.125 + 0.051
        width = 0.25 / np.cos(np.radians(min(abs(y) + 0.125, 89.99)))
        assert abs((int(name[:4]) / 10 + 0.05 - x + 180) % 360 - 180) < width / 2 + 0.051


# ---- matches


def write_brick(root: Path, hemisphere: str, ra: float, dec: float, table: np.ndarray) -> None:
    path = production(root).tractor(hemisphere, brickname(int(brickid([ra], [dec])[0])))
    path.parent.mkdir(parents=True, exist_ok=True)
    fitsio.write(str(path), table, extname="TRACTOR", clobber=True)


def a_brick(tree: Path) -> np.ndarray:
    return fitsio.read(str(next(iter(sorted((tree / "external").rglob("tractor-*.fits"))))), ext=1)


@pytest.mark.parametrize(
    ("distance", "matched"), [(0.0, True), (0.9, True), (0.999, True), (1.001, False), (1.5, False)]
)
@pytest.mark.parametrize("direction", ["ra", "dec"])
@pytest.mark.parametrize("dec", [-0.02, 31.9, 78.05])
def test_match_within_one_arcsecond(
    tree: Path, tmp_path: Path, distance: float, matched: bool, direction: str, dec: float
) -> None:
    table = a_brick(tree)[:3]
    ra = 0.07
    table["RA"], table["DEC"], table["BRICK_PRIMARY"] = [ra, ra + 0.02, ra], [dec, dec, dec], [True, True, False]
    table["OBJID"] = [11, 12, 13]
    write_brick(tmp_path, "south", ra, dec, table)
    offset = distance / 3600
    where = (ra + offset / np.cos(np.radians(dec)), dec) if direction == "ra" else (ra, dec + offset)
    targetid = int(encode_targetid(release=8888, brickid=1, objid=12))
    targets = Table({"TARGETID": [targetid], "RA": [where[0]], "DEC": [where[1]]})
    found = photometry_source(production(tmp_path), "catalogues").tractor(targets)
    # The source that is not primary lies there too, and does not count.
    assert (found["BRICK_OBJID"].tolist() if len(found) else []) == ([11] if matched else [])


def test_north_and_south(tree: Path, tmp_path: Path) -> None:
    """North of 32.375 the northern catalogue where both exist; a TARGETID that names a release has that one's."""
    source = a_brick(tree)[:1]
    source["BRICK_PRIMARY"] = True
    wanted: dict[int, tuple[int, float]] = {}
    targets: list[tuple[int, float, float]] = []
    for place, (ra, dec, halves, expected) in enumerate(
        [
            (10.07, 32.43, ("north", "south"), 9011),
            (20.07, 32.32, ("north", "south"), 9010),
            (30.07, 40.02, ("south",), 9010),
            (40.07, 20.02, ("north",), 9011),
        ]
    ):
        for half in halves:
            source["RELEASE"], source["RA"], source["DEC"] = 9011 if half == "north" else 9010, ra, dec
            source["OBJID"], source["BRICKID"] = 5, brickid([ra], [dec])
            source["FLUX_R"] = 9011 if half == "north" else 9010
            write_brick(tmp_path, half, ra, dec, source)
        targetid = int(encode_targetid(release=8888, brickid=1, objid=place))
        targets.append((targetid, ra, dec))
        wanted[targetid] = (expected, float(expected))
        if place == 0:
            told = int(encode_targetid(release=9010, brickid=int(brickid([ra], [dec])[0]), objid=5))
            targets.append((told, ra, dec))
            wanted[told] = (9010, 9010.0)
    table = Table(rows=targets, names=("TARGETID", "RA", "DEC"))
    found = photometry_source(production(tmp_path), "catalogues").tractor(table)
    assert {row["TARGETID"]: (row["RELEASE"], row["FLUX_R"]) for row in found} == wanted


def test_numbers_that_are_not_rows(tree: Path, tmp_path: Path) -> None:
    """Object numbers are looked up in the column unless they are those of the rows."""
    table = np.repeat(a_brick(tree)[:1], 6)
    number = int(brickid([150.1], [2.1])[0])
    table["OBJID"] = [5, 3, 0, 9, 70, 1]
    table["FLUX_R"] = table["OBJID"]
    table["RELEASE"], table["BRICKID"], table["BRICK_PRIMARY"] = 9010, number, False
    write_brick(tmp_path, "south", 150.1, 2.1, table)
    ids = [int(encode_targetid(release=9010, brickid=number, objid=objid)) for objid in (0, 1, 3, 9, 70, 4)]
    targets = Table({"TARGETID": ids, "RA": [150.1] * 6, "DEC": [2.1] * 6})
    found = photometry_source(production(tmp_path), "catalogues").tractor(targets)
    assert dict(zip(found["TARGETID"].tolist(), found["FLUX_R"].tolist(), strict=True)) == dict(
        zip(ids[:5], (0, 1, 3, 9, 70), strict=True)
    )


# ---- spectra


def petal(tree: Path) -> Path:
    files = [path for path in sorted((tree / "spectro").rglob("redrock-*.fits")) if "DESINAME" not in
             fitsio.read(str(path), ext="FIBERMAP").dtype.names]  # fmt: skip
    return next(path for path in files if not_sky(fitsio.read(str(path), ext=1)).size > 4)


def not_sky(table: np.ndarray) -> np.ndarray:
    return table[(table["TARGETID"] > 0) & (table["TARGETID"] & 1 << 59 == 0)]


def rewrite(path: Path, change: Any, target: Path) -> Path:
    """Copy a redrock file, table by table, through a function of HDU and table; None leaves a table out."""
    with fitsio.FITS(str(target), "rw", clobber=True) as file:
        file.write(None)
        for hdu in ("REDSHIFTS", "FIBERMAP", "EXP_FIBERMAP", "TSNR2"):
            table = change(hdu, fitsio.read(str(path), ext=hdu))
            if table is not None:
                file.write(table, extname=hdu)
    return target


def test_rows_are_matched_by_targetid(tree: Path, tmp_path: Path) -> None:
    path = petal(tree)
    plain = petal_columns(path, 20210514)
    shuffled = rewrite(path, lambda hdu, t: t[::-1] if hdu in ("FIBERMAP", "TSNR2") else t, tmp_path / "a.fits")
    mixed = petal_columns(shuffled, 20210514)
    assert plain.keys() == mixed.keys()
    for name, values in plain.items():
        assert np.array_equal(values, mixed[name], equal_nan=values.dtype.kind == "f"), name


@pytest.mark.parametrize("hdu", ["FIBERMAP", "TSNR2"])
def test_other_spectra_in_an_hdu(tree: Path, tmp_path: Path, hdu: str) -> None:
    def change(name: str, table: np.ndarray) -> np.ndarray:
        if name == hdu:
            row = int(np.flatnonzero((table["TARGETID"] > 0) & (table["TARGETID"] & 1 << 59 == 0))[1])
            table["TARGETID"][row] += 1
        return table

    with pytest.raises(FormatError, match=rf"HDU {hdu}: its \d+ spectra are not"):
        petal_columns(rewrite(petal(tree), change, tmp_path / "a.fits"), 20210514)


def test_a_column_that_is_missing_is_named_with_its_file(tree: Path, tmp_path: Path) -> None:
    def change(name: str, table: np.ndarray) -> np.ndarray:
        return table[[n for n in table.dtype.names if n != "TSNR2_LRG"]] if name == "TSNR2" else table

    with pytest.raises(MissingColumnError, match=r"a\.fits, column TSNR2_LRG"):
        petal_columns(rewrite(petal(tree), change, tmp_path / "a.fits"), 20210514)


def test_columns_that_are_not_used_may_be_absent(tree: Path, tmp_path: Path) -> None:
    """Dates that the fibermap has are not computed; names that it has are not made; locations are for updates."""
    path = petal(tree)
    expected = petal_columns(path, 20210514)
    row_of = {int(t): i for i, t in enumerate(not_sky(fitsio.read(str(path), ext=1))["TARGETID"])}
    unused = {"LOCATION", "TARGET_RA", "TARGET_DEC"}

    def change(name: str, table: np.ndarray) -> np.ndarray:
        if name == "EXP_FIBERMAP":
            return table[[n for n in table.dtype.names if n != "MJD"]]
        if name != "FIBERMAP":
            return table
        dates = {n: np.zeros(table.size) for n in ("MIN_MJD", "MEAN_MJD", "MAX_MJD")}
        for i, targetid in enumerate(table["TARGETID"].tolist()):
            for n, values in dates.items():
                values[i] = expected[n][row_of[targetid]] if targetid in row_of else 0
        kept = {n: table[n] for n in table.dtype.names if n not in unused | set(dates)}
        names = np.full(table.size, b"DESI J000.0000+00.0000")
        return Table(kept | dates | {"DESINAME": names}).as_array()

    found = petal_columns(rewrite(path, change, tmp_path / "a.fits"), 20210514)
    assert set(expected) - set(found) == unused
    assert set(found["DESINAME"].tolist()) == {b"DESI J000.0000+00.0000"}
    for name in ("MIN_MJD", "MEAN_MJD", "MAX_MJD", "FIRSTNIGHT", "Z"):
        assert found[name].tolist() == expected[name].tolist()
    table = read_spectra({0: tmp_path / "a.fits"}, 20210514)
    assert "LOCATION" not in table.colnames
    assert len(table) == len(row_of)


def test_names_of_columns_in_lower_case(tree: Path, tmp_path: Path) -> None:
    def change(_: str, table: np.ndarray) -> np.ndarray:
        table.dtype.names = tuple(name.lower() for name in table.dtype.names)
        return table

    path = petal(tree)
    expected, found = (petal_columns(p, 20210514) for p in (path, rewrite(path, change, tmp_path / "a.fits")))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert np.array_equal(values, found[name], equal_nan=values.dtype.kind == "f"), name


def test_dates_of_exposures_in_the_coadd(tree: Path, tmp_path: Path) -> None:
    """Without dates in the fibermap they are those of the exposures that count; of all where none does."""
    path = petal(tree)
    ids = not_sky(fitsio.read(str(path), ext=1))["TARGETID"]
    first, second = int(ids[0]), int(ids[1])
    rest = [int(t) for t in ids[2:]]

    def change(name: str, table: np.ndarray) -> np.ndarray:
        if name == "FIBERMAP":
            return table[[n for n in table.dtype.names if not n.endswith("_MJD")]]
        if name != "EXP_FIBERMAP":
            return table
        rows_of = []
        for target in (first, second, *rest):
            one = np.repeat(table[table["TARGETID"] == target][:1], 3)
            one["MJD"], one["NIGHT"] = [59000.25, 59001.5, 59003.0], [20210601, 20210602, 20210604]
            flags = {first: [False, True, True], second: [False] * 3}.get(target, [True] * 3)
            for arm in "BRZ":
                one[f"IN_COADD_{arm}"] = flags
            rows_of.append(one)
        return np.concatenate(rows_of)

    columns = petal_columns(rewrite(path, change, tmp_path / "a.fits"), 20210604)
    dates = {
        int(t): (float(a), float(b), float(c))
        for t, a, b, c in zip(ids, columns["MIN_MJD"], columns["MEAN_MJD"], columns["MAX_MJD"], strict=True)
    }
    assert dates[first] == (59001.5, 59002.25, 59003.0)
    assert dates[second] == dates[rest[0]] == (59000.25, pytest.approx(59001.583333333336, abs=1e-9), 59003.0)
    assert set(columns["FIRSTNIGHT"].tolist()) == {20210601}
    assert set(columns["SPGRPVAL"].tolist()) == {20210604}


# ---- the documented functions


def test_steps_in_the_documented_order(tree: Path, database_target: str) -> None:
    """After `setup_db`, in a script that calls nothing else; two tiles that share targets."""
    files = production(tree)
    tileids = sorted(int(path.name) for path in (files.redux / "tiles/cumulative").iterdir())
    postgresql = database_target.startswith("postgresql")
    database = setup_db(database=connect(database_target)) if postgresql else setup_db(database_target, schema="sample")
    with database:
        inserted: set[int] = set()
        for tileid in tileids:
            tile = tile_functions.load_observations(tileid, tree=files, database=database)
            assert tile.tileid == tileid
            targets = tile_functions.potential_targets(tileid, tree=files)
            new = tile_functions.potential_photometry(tile, targets, database=database)
            assert set(new["TARGETID"]) == set(targets["TARGETID"]) - inserted
            targets["SURVEY"], targets["PROGRAM"] = tile.survey, tile.program
            selected = tile_functions.targetphot(targets, tree=files)
            assert sorted(selected["TARGETID"]) == sorted(targets["TARGETID"])
            # Of all targets, the photometry of those that are new is inserted and returned.
            everything = tile_functions.tractorphot(targets, tree=files)
            loaded = tile_functions.load_photometry(everything, database=database)
            others = tile_functions.load_targetphot(selected, loaded, database=database)
            there = {item.targetid for item in (*loaded, *others)}
            assert len(there) == len(loaded) + len(others) == len(new)
            assert there == set(new["TARGETID"].tolist())
            assert [item.targetid for item in loaded] == [t for t in everything["TARGETID"] if t not in inserted]
            inserted |= there
            assert list(tile_functions.load_photometry(everything, database=database)) == []
            assert list(tile_functions.load_targetphot(selected, loaded, database=database)) == []
            assert len(tile_functions.load_target(selected, database=database)) == len(targets)
            spectra = tile_functions.load_redshift(tile, tree=files, database=database)
            assert {item.tileid for item in spectra} == {tileid}
            fibers, reached = tile_functions.load_fiberassign(tile, tree=files, database=database)
            assert {item.targetid for item in fibers} >= {item.targetid for item in spectra}
            assert len(reached) >= len(targets)
        with pytest.raises(ValueError, match="not supported"):
            tile_functions.load_redshift(tile, "pernight", tree=files, database=database)
        stepwise = content(database_target)
        changes = tile_functions.update_primary(database=database)
        tile_functions.update_q3c(database=database)
        with database.connect() as connection:
            for cls in TABLES:
                assert missing_keys(database, connection, cls) == []
    assert changes["ztile"] == len(stepwise["ztile"]) > 0
    empty_again(database_target)
    assert load(tree, database_target, *tileids) == 0
    assert content(database_target) == stepwise


def test_steps_join_a_transaction(tree: Path, database_target: str) -> None:
    """What is loaded into a transaction that is rolled back was never there."""
    files = production(tree)
    tileid = min(int(path.name) for path in (files.redux / "tiles/cumulative").iterdir())
    assert load(tree, database_target, tileid) == 0
    before = content(database_target)
    empty_again(database_target)
    with connect(database_target) as database:
        for end in ("rollback", "commit"):
            with database.connect() as connection:
                transaction = connection.begin()
                joined = {"database": database, "connection": connection}
                tile = tile_functions.load_observations(tileid, tree=files, **joined)
                targets = tile_functions.potential_targets(tileid, tree=files)
                targets["SURVEY"], targets["PROGRAM"] = tile.survey, tile.program
                selected = tile_functions.targetphot(targets, tree=files)
                loaded = tile_functions.load_photometry(tile_functions.tractorphot(targets, tree=files), **joined)
                tile_functions.load_targetphot(selected, loaded, **joined)
                tile_functions.load_target(selected, **joined)
                tile_functions.load_redshift(tile, tree=files, **joined)
                tile_functions.load_fiberassign(tile, tree=files, **joined)
                getattr(transaction, end)()
            found = content(database_target)
            assert found == (before if end == "commit" else {table: [] for table in before})


@pytest.mark.parametrize("source", ["production", "catalogues"])
def test_nothing_of_nothing(tree: Path, sqlite_file: Path, source: str) -> None:
    files = production(tree)
    chosen = photometry_source(files, source)
    nothing = Table({"TARGETID": np.zeros(0, np.int64), "RA": np.zeros(0), "DEC": np.zeros(0)})
    for name in ("TILEID", "SURVEY", "PROGRAM"):
        nothing[name] = np.zeros(0, np.int32 if name == "TILEID" else "U4")
    tractor = tile_functions.tractorphot(nothing, tree=files, source=chosen)
    selected = tile_functions.targetphot(nothing, tree=files, source=chosen)
    assert (len(tractor), tractor.colnames) == (len(selected), selected.colnames) == (0, nothing.colnames)
    assert len(chosen.tractor(nothing)) == 0
    with setup_db(str(sqlite_file)) as database:
        loaded = tile_functions.load_photometry(tractor, database=database)
        assert list(loaded) == []
        assert list(tile_functions.load_targetphot(selected, loaded, database=database)) == []
        assert list(tile_functions.load_target(selected, database=database)) == []


def test_a_view_reads_what_the_reader_reads(tree: Path) -> None:
    for path, hdu in ((petal(tree), "FIBERMAP"), (next(tree.rglob("ToO.ecsv")), 1)):
        with open_table(path, hdu) as reader:
            part, whole = reader.view(1, 4), reader.read(0, reader.nrows)
            assert reader.view().nrows == reader.nrows
            for name in reader.names:
                assert np.array_equal(part[name].astype(str), whole[name][1:4].astype(str)), name


# ---- the survey's files


def test_real_redrock_of_iron(realdata: Path) -> None:
    path = realdata / "iron/redrock-4-80613-thru20210324.fits"
    table = read_spectra({4: path}, 20210324)
    given = {"survey": "sv1", "program": "bright", "tileid": 80613, "spgrp": "cumulative"}
    columns = converted(Ztile, table, given, file=str(path))
    fits, fibers = fitsio.read(str(path), ext="REDSHIFTS"), fitsio.read(str(path), ext="FIBERMAP")
    exposed = fitsio.read(str(path), ext="EXP_FIBERMAP")
    assert columns["targetid"].tolist() == [39633345008634465]
    assert columns["z"].tolist() == fits["Z"].tolist()
    assert columns["firstnight"].tolist() == [exposed["NIGHT"].min()]
    assert columns["min_mjd"].tolist() == [exposed["MJD"].min()]
    assert columns["mean_mjd"][0] == pytest.approx(exposed["MJD"].mean(), abs=1e-9)
    ra, dec = fibers["TARGET_RA"][0], fibers["TARGET_DEC"][0]
    assert columns["desiname"].tolist() == [f"DESI J{int(ra * 1e4) / 1e4:08.4f}{int(dec * 1e4) / 1e4:+08.4f}".encode()]


def test_real_redrock_of_loa_is_no_tile(realdata: Path) -> None:
    """It is of a HEALPix pixel: its fibers have no place on the focal plane, and the message says so."""
    with pytest.raises(InputError, match=r"table ztile needs MEAN_FIBER_X, MEAN_FIBER_Y$"):
        read_spectra({0: realdata / "loa/redrock-special-dark-27247.fits"}, 20240101)


def test_real_redrock_of_loa_has_what_zpix_needs(realdata: Path) -> None:
    from specprod.model import Zpix

    path = str(realdata / "loa/redrock-special-dark-27247.fits")
    table: dict[str, np.ndarray] = {}
    for hdu in ("REDSHIFTS", "FIBERMAP", "TSNR2"):
        with open_table(path, hdu) as reader:
            chunk = reader.view()
            table |= {name: chunk[name] for name in reader.names}
    table["HEALPIX"] = np.array([27247])
    columns = converted(Zpix, table, {"survey": "special", "program": "dark"}, file=path)
    assert columns["desiname"].tolist() == [b"DESI J149.4654+01.7936"]


def test_real_tractor_by_number_and_by_position(realdata: Path, tmp_path: Path) -> None:
    files = production(tmp_path)
    path = files.tractor("north", "1054p567")
    path.parent.mkdir(parents=True)
    shutil.copy(realdata / "legacysurvey/tractor-1054p567.fits", path)
    row = fitsio.read(str(path), ext=1)
    ids = [39633345008634465, int(encode_targetid(release=8888, brickid=1, objid=1))]
    targets = Table({"TARGETID": ids, "RA": np.repeat(row["RA"], 2), "DEC": np.repeat(row["DEC"], 2)})
    found = photometry_source(files, "catalogues").tractor(targets)
    assert sorted(found["TARGETID"].tolist()) == sorted(ids)
    columns = converted(Photometry, found, file=str(path))
    assert set(columns["ls_id"].tolist()) == {9011 << 40 | 607466 << 16 | 2657}
    assert set(columns["flux_r"].tolist()) == set(row["FLUX_R"].tolist())


def test_real_tiles_and_exposures(realdata: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingColumnError):
        Observations(production(tmp_path), exposures=realdata / "iron/exposures-miniprod.fits").exposures(80613)
    observations = Observations(production(tmp_path), tiles=realdata / "iron/tiles-iron.csv")
    assert observations.tile(80613)["lastnight"].tolist() == [20210324]
    with pytest.raises(InputError, match="0 rows of tile 1"):
        observations.tile(1)
