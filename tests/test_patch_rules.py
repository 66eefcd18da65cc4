"""Each rule of the patch, on tables that hold no more than the rule needs."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from specprod.errors import FormatError, MissingColumnError, MissingHDUError, ValueRejectedError
from specprod.patch import (
    Report,
    back_patch_inconsistent_values,
    patch_exposures,
    patch_exposures_efftime_spec,
    patch_frames,
    patch_missing_frames_mjd,
    patch_tiles,
)
from specprod.survey.programs import faflavor2program

pytestmark = pytest.mark.compat

NOW = datetime.datetime(2024, 10, 31, 12, 30, 15, tzinfo=datetime.timezone(datetime.timedelta(hours=-7)))
NAN = float("nan")


def frames(**columns: Any) -> Table:
    """Frames b0, r0, z0 … of exposures 7 and 8; a function's columns go before the good ones."""
    good: dict[str, Any] = {
        "EXPID": np.array([7, 7, 8], dtype=np.int32),
        "CAMERA": np.array([b"b0", b"z9", b"r3"]),
        "MJD": [59300.5, 59300.5, 59300.6],
    }
    return Table(good | columns)


def exposures(**columns: Any) -> Table:
    good: dict[str, Any] = {
        "NIGHT": np.array([20210401, 20210402, 20210403], dtype=np.int32),
        "EXPID": np.array([7, 8, 9], dtype=np.int32),
        "TILEID": np.array([100, 100, 200], dtype=np.int32),
        "TILERA": [10.5, 11.5, 12.5],
        "TILEDEC": [-1.5, -2.5, -3.5],
        "MJD": [59305.1, 59306.2, 59307.3],
        "SURVEY": np.array([b"main", b"sv3", b"special"]),
        "PROGRAM": np.array([b"dark", b"bright", b"other"]),
        "FAPRGRM": np.array([b"dark", b"bright", b"m31"]),
        "FAFLAVOR": np.array([b"maindark", b"sv3bright", b"specialm31"]),
        "EFFTIME_SPEC": [1000.0, 180.0, 0.0],
        "GOALTYPE": np.array([b"dark", b"bright", b"other"]),
    }
    return Table(good | columns)


def tiles(**columns: Any) -> Table:
    good: dict[str, Any] = {
        "TILEID": [100, 200, 300],
        "SURVEY": ["main", "sv3", "special"],
        "PROGRAM": ["dark", "bright", "other"],
        "FAPRGRM": ["dark", "bright", "misc"],
        "FAFLAVOR": ["maindark", "sv3bright", "specialmisc"],
        "TILERA": [10.5, 20.5, 30.5],
        "TILEDEC": [-1.5, -2.5, -3.5],
        "EFFTIME_SPEC": [1000.0, 180.0, 90.0],
        "OBSSTATUS": ["obsend", "obsend", "obsstart"],
        "GOALTYPE": ["dark", "bright", "other"],
        "LASTNIGHT": [20210401, 20210402, 20210403],
    }
    return Table(good | columns)


def values(table: Table, column: str) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in table[column].tolist()]


def same(one: Table, two: Table) -> bool:
    """Equal in names, types, masks and values, NaN being NaN."""
    return one.colnames == two.colnames and all(
        one[name].dtype == two[name].dtype
        and type(one[name]) is type(two[name])
        and np.array_equal(np.ma.getmaskarray(one[name]), np.ma.getmaskarray(two[name]))
        and np.ma.getdata(one[name]).tobytes() == np.ma.getdata(two[name]).tobytes()
        for name in one.colnames
    )


def changed(report: Report) -> list[tuple[Any, ...]]:
    """Table, column, row, old and new value of every change."""
    return [
        (change.table, change.column, *line)
        for change in report.changes
        for line in zip(*(change.values()[name] for name in ("row", "old", "new")), strict=True)
    ]


# Frames


def test_frames_masked_numbers_come_from_the_same_exposure_and_camera() -> None:
    source = Table({"EXPID": [8, 7, 7, 7], "CAMERA": ["r3", "z9", "b0", "b1"], "TSNR2_LRG": [4.0, 3.0, 2.0, 1.0]})
    result = patch_frames(source, frames(TSNR2_LRG=[NAN, 30.0, NAN]))
    assert values(result, "TSNR2_LRG") == [2.0, 30.0, 4.0]


def test_frames_masked_text_comes_from_the_source() -> None:
    source = frames(GOALTYPE=[b"dark", b"dark", b"backup"])
    result = patch_frames(source, frames(GOALTYPE=[b"", b"bright", b"  "]))
    assert values(result, "GOALTYPE") == ["dark", "bright", "backup"]


def test_frames_tsnr2_alpha_is_filled_with_0_and_not_from_the_source() -> None:
    result = patch_frames(frames(TSNR2_ALPHA=[1.0, 2.0, 3.0]), frames(TSNR2_ALPHA=[NAN, 0.5, NAN]))
    assert values(result, "TSNR2_ALPHA") == [0.0, 0.5, 0.0]


def test_frames_what_stays_masked_is_0() -> None:
    source = frames(AIRMASS=[NAN, 1.5, 1.5])[:2]
    result = patch_frames(source, frames(AIRMASS=[NAN, NAN, NAN], FAPRGRM=[b"dark", b"dark", b""]))
    assert values(result, "AIRMASS") == [0.0, 1.5, 0.0]
    assert values(result, "FAPRGRM") == ["dark", "dark", "0"]


def test_frames_a_masked_column_of_astropy_is_patched_and_unmasked() -> None:
    wrong = MaskedColumn([1.0, 2.0, 3.0], mask=[True, False, True])
    result = patch_frames(frames(EBV=[0.1, 0.2, 0.3])[:2], frames(EBV=wrong))
    assert values(result, "EBV") == [0.1, 2.0, 0.0]
    assert not result["EBV"].mask.any()


def test_frames_masked_integers_are_patched_too() -> None:
    wrong = MaskedColumn(np.array([1, 2, 3], np.int32), mask=[True, True, False])
    result = patch_frames(frames(NIGHT=np.array([20210401] * 3))[:1], frames(NIGHT=wrong))
    assert values(result, "NIGHT") == [20210401, 0, 3]
    assert result["NIGHT"].dtype == np.int32


def test_frames_mjd_before_the_survey_comes_from_the_patched_exposure() -> None:
    of = Table({"EXPID": [8, 7], "MJD": [59301.25, 59300.25]})
    result = patch_missing_frames_mjd(of, frames(MJD=[0.0, 59300.5, NAN]))
    assert values(result, "MJD") == [59300.25, 59300.5, 59301.25]


def test_frames_mjd_stays_when_the_exposure_has_none_and_is_reported() -> None:
    report = Report()
    of = Table({"EXPID": [7, 8], "MJD": [0.0, 59301.25]})
    result = patch_missing_frames_mjd(of, frames(MJD=[0.0, 0.0, 59300.6]), report=report)
    assert values(result, "MJD") == [0.0, 0.0, 59300.6]
    assert [(left.table, left.column, left.rows.tolist()) for left in report.unpatched] == [("frames", "MJD", [0, 1])]


# Exposures


def test_exposures_tilera_and_tiledec_where_both_are_0() -> None:
    wrong = exposures(TILERA=[0.0, 0.0, 12.5], TILEDEC=[0.0, -7.5, 0.0])
    result = patch_exposures(exposures(), wrong)
    assert values(result, "TILERA") == [10.5, 0.0, 12.5]
    assert values(result, "TILEDEC") == [-1.5, -7.5, 0.0]


def test_exposures_mjd_before_50000() -> None:
    result = patch_exposures(exposures(), exposures(MJD=[0.0, 49999.9, 50000.0]))
    assert values(result, "MJD") == [59305.1, 59306.2, 50000.0]


@pytest.mark.parametrize("survey", ["cmx", "sv1", "sv2", "sv3", "main", "special"])
def test_exposures_survey_of_the_six_stays(survey: str) -> None:
    result = patch_exposures(exposures(), exposures(SURVEY=np.array([survey.encode()] * 3)))
    assert values(result, "SURVEY") == [survey] * 3


def test_exposures_survey_of_none_of_the_six() -> None:
    result = patch_exposures(exposures(), exposures(SURVEY=np.array([b"unknown", b"MAIN", b"special "])))
    assert [text.strip() for text in values(result, "SURVEY")] == ["main", "sv3", "special"]


FILLED = (
    "TILERA TILEDEC MJD EXPTIME GOALTIME MINTFRAC AIRMASS EBV SEEING_ETC EFFTIME_ETC TRANSPARENCY_GFA SEEING_GFA "
    "FIBER_FRACFLUX_GFA FIBER_FRACFLUX_ELG_GFA FIBER_FRACFLUX_BGS_GFA FIBERFAC_GFA FIBERFAC_ELG_GFA FIBERFAC_BGS_GFA "
    "AIRMASS_GFA SKY_MAG_AB_GFA EFFTIME_GFA EFFTIME_DARK_GFA EFFTIME_BRIGHT_GFA EFFTIME_BACKUP_GFA"
)


@pytest.mark.parametrize("column", FILLED.split())
def test_exposures_masked_number_comes_from_the_source(column: str) -> None:
    right = [51234.5, 51235.5, 51236.5]
    result = patch_exposures(exposures(**{column: right}), exposures(**{column: [NAN, 60000.5, NAN]}))
    assert values(result, column) == [51234.5, 60000.5, 51236.5]


@pytest.mark.parametrize(("column", "right"), [("SURVEY", b"sv1"), ("GOALTYPE", b"backup")])
def test_exposures_masked_text_comes_from_the_source(column: str, right: bytes) -> None:
    wrong = exposures(**{column: np.array([b"", b"main", b"main"])})
    result = patch_exposures(exposures(**{column: np.array([right] * 3)}), wrong)
    assert values(result, column) == [right.decode(), "main", "main"]


@pytest.mark.parametrize(("column", "right"), [("NIGHT", 20220101), ("TILEID", 4321)])
def test_exposures_masked_integer_comes_from_the_source(column: str, right: int) -> None:
    wrong = exposures()
    wrong[column] = MaskedColumn(wrong[column], mask=[False, True, False])
    source = exposures()
    source[column][1] = right
    assert patch_exposures(source, wrong)[column][1] == right


@pytest.mark.parametrize("column", ["TSNR2_LRG", "SKY_MAG_R_SPEC", "EFFTIME_SPEC", "LRG_EFFTIME_DARK"])
def test_exposures_other_masked_numbers_are_0(column: str) -> None:
    result = patch_exposures(exposures(**{column: [1.0, 2.0, 3.0]}), exposures(**{column: [NAN, 5.0, NAN]}))
    assert values(result, column) == [0.0, 5.0, 0.0]


@pytest.mark.parametrize("column", ["PROGRAM", "FAPRGRM", "FAFLAVOR"])
@pytest.mark.parametrize("text", ["wrong", ""])
def test_exposures_program_and_flavor_do_not_change_here(column: str, text: str) -> None:
    result = patch_exposures(exposures(), exposures(**{column: np.array([text.encode()] * 3, dtype="S8")}))
    assert values(result, column) == [text] * 3


def test_exposures_that_the_source_does_not_have_are_0_where_masked() -> None:
    wrong = exposures(EBV=[NAN, NAN, 0.5], GOALTYPE=np.array([b"dark", b"", b"other"]))
    result = patch_exposures(exposures(EBV=[0.1, 0.2, 0.3])[:1], wrong)
    assert values(result, "EBV") == [0.1, 0.0, 0.5]
    assert values(result, "GOALTYPE") == ["dark", "0", "other"]


def raw_file(directory: Path, night: int, expid: int, cards: dict[str, Any], name: str = "SPEC") -> None:
    path = directory / f"{night:08d}" / f"{expid:08d}" / f"desi-{expid:08d}.fits.fz"
    path.parent.mkdir(parents=True)
    header = fits.Header(list(cards.items()))
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(header=header, name=name)]).writeto(path)


def test_exposures_missing_mjd_comes_from_the_raw_data(tmp_path: Path) -> None:
    for night, expid in ((20210401, 7), (20210402, 8), (20210403, 9)):
        raw_file(tmp_path, night, expid, {"MJD-OBS": 59000.0 + expid})
    # 7 is before the first night, 9 has no effective time.
    wrong = exposures(MJD=[0.0, NAN, 0.0], EFFTIME_SPEC=[5.0, 5.0, 0.0])
    report = Report()
    result = patch_exposures(exposures()[:0], wrong, 20210402, spectro_data=tmp_path, report=report)
    assert values(result, "MJD") == [0.0, 59008.0, 0.0]
    assert ("exposures", "MJD", 1) in [change[:3] for change in changed(report)]


def test_exposures_first_night_is_that_of_the_first_exposure_of_the_source(tmp_path: Path) -> None:
    for night, expid in ((20210401, 7), (20210402, 8)):
        raw_file(tmp_path, night, expid, {"MJD-OBS": 59000.0 + expid})
    source = exposures(EXPID=[50, 30, 40], NIGHT=[20210301, 20210402, 20210404])
    wrong = exposures(MJD=[0.0, 0.0, 59307.3], EFFTIME_SPEC=[5.0, 5.0, 5.0])
    result = patch_exposures(source, wrong, spectro_data=tmp_path)
    assert values(result, "MJD") == [0.0, 59008.0, 59307.3]


def test_exposures_raw_data_are_found_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_file(tmp_path, 20210401, 7, {"MJD-OBS": 59123.5})
    monkeypatch.setenv("DESI_SPECTRO_DATA", str(tmp_path))
    result = patch_exposures(exposures()[2:], exposures(MJD=[0.0, 59306.2, 59307.3]), 20210101)
    assert values(result, "MJD") == [59123.5, 59306.2, 59307.3]


@pytest.mark.parametrize("configured", [True, False])
def test_exposures_without_raw_data_stay_and_are_reported(
    configured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("DESI_SPECTRO_DATA", raising=False)
    report = Report()
    raw = tmp_path if configured else None
    wrong = exposures(MJD=[0.0, 59306.2, 59307.3])
    result = patch_exposures(exposures()[2:], wrong, 20210101, spectro_data=raw, report=report)
    assert values(result, "MJD") == [0.0, 59306.2, 59307.3]
    assert [left.rows.tolist() for left in report.unpatched] == [[0]]
    assert any(record.levelno == logging.ERROR for record in caplog.records)


@pytest.mark.parametrize(
    ("cards", "name", "error"),
    [
        ({"MJD-OBS": 59000.0}, "OTHER", MissingHDUError),
        ({}, "SPEC", FormatError),
        ({"MJD-OBS": "x"}, "SPEC", FormatError),
    ],
)
def test_raw_data_without_a_time_are_an_error(
    cards: dict[str, Any], name: str, error: type[Exception], tmp_path: Path
) -> None:
    raw_file(tmp_path, 20210401, 7, cards, name)
    wrong = exposures(MJD=[0.0, 59306.2, 59307.3])
    with pytest.raises(error, match=r"desi-00000007\.fits\.fz"):
        patch_exposures(exposures()[2:], wrong, 20210101, spectro_data=tmp_path)


# Tiles


def test_tiles_tilera_and_tiledec_where_both_are_0() -> None:
    wrong = tiles(TILERA=[0.0, 0.0, 30.5], TILEDEC=[0.0, 5.5, 0.0])
    result = patch_tiles(tiles()[::-1], wrong, NOW)
    assert values(result, "TILERA") == [10.5, 0.0, 30.5]
    assert values(result, "TILEDEC") == [-1.5, 5.5, 0.0]


@pytest.mark.parametrize("column", ["FAPRGRM", "FAFLAVOR", "OBSSTATUS", "GOALTYPE"])
def test_tiles_unknown_text_comes_from_the_source(column: str) -> None:
    wrong = tiles()
    right = values(wrong, column)
    wrong[column] = ["unknown", right[1], "unknown"]
    assert values(patch_tiles(tiles(), wrong, NOW), column) == right


@pytest.mark.parametrize("bad", [NAN, float("inf"), float("-inf")])
@pytest.mark.parametrize("column", ["TILERA", "TILEDEC", "EFFTIME_SPEC", "MINTFRAC"])
def test_tiles_numbers_that_are_not_finite_come_from_the_source(column: str, bad: float) -> None:
    result = patch_tiles(tiles(**{column: [1.25, 2.25, 3.25]}), tiles(**{column: [bad, 9.25, bad]}), NOW)
    assert values(result, column) == [1.25, 9.25, 3.25]


def test_tiles_empty_cells_of_numbers_come_from_the_source() -> None:
    # Of whole numbers only, a column of CSV is one of integers; the value of the source need not be whole.
    wrong = tiles(GOALTIME=MaskedColumn([1000, 0, 180], mask=[False, True, False]))
    result = patch_tiles(tiles(GOALTIME=[1.0, 2.5, 3.0]), wrong, NOW)
    assert values(result, "GOALTIME") == [1000.0, 2.5, 180.0]


def test_tiles_a_column_of_empty_cells_takes_the_type_of_the_source() -> None:
    wrong = tiles(FAPRGRM=MaskedColumn([0, 0, 0], mask=True), MINTFRAC=MaskedColumn([0, 0, 0], mask=True))
    result = patch_tiles(tiles(MINTFRAC=[0.85, 0.9, 0.7]), wrong, NOW)
    assert values(result, "MINTFRAC") == [0.85, 0.9, 0.7]
    assert result["FAPRGRM"].mask.all()


def test_tiles_program_is_derived_from_the_patched_flavor() -> None:
    wrong = tiles(FAFLAVOR=["unknown", "mainbright1b", "sv1bgsmws"], PROGRAM=["other", "other", "other"])
    result = patch_tiles(tiles(), wrong, NOW)
    assert values(result, "PROGRAM") == ["dark", "bright1b", "bright"]


def test_tiles_survey_unknown_is_cmx() -> None:
    result = patch_tiles(tiles(), tiles(SURVEY=["unknown", "sv3", "special"]), NOW)
    assert values(result, "SURVEY") == ["cmx", "sv3", "special"]


def test_tiles_goaltype_unknown_is_other_but_for_two_tiles() -> None:
    wrong = tiles(TILEID=[83004, 83024, 300], GOALTYPE=["unknown", "unknown", "unknown"])
    assert values(patch_tiles(tiles()[:0], wrong, NOW), "GOALTYPE") == ["dark", "bright", "other"]


def test_tiles_goaltype_of_the_source_goes_before_other() -> None:
    wrong = tiles(GOALTYPE=["unknown"] * 3)
    assert values(patch_tiles(tiles()[1:2], wrong, NOW), "GOALTYPE") == ["other", "bright", "other"]


def test_tiles_two_have_no_effective_time() -> None:
    wrong = tiles(TILEID=[1825, 21273, 300])
    assert values(patch_tiles(tiles(), wrong, NOW), "EFFTIME_SPEC") == [0.0, 0.0, 90.0]


def test_tiles_updated_is_the_time_of_the_patch_and_its_zone() -> None:
    result = patch_tiles(tiles(), tiles(), NOW)
    assert values(result, "UPDATED") == ["2024-10-31T12:30:15-0700"] * 3
    assert result.colnames == [*tiles().colnames, "UPDATED"]
    again = patch_tiles(tiles(), result, NOW + datetime.timedelta(days=1))
    assert again.colnames == result.colnames
    assert values(again, "UPDATED") == ["2024-11-01T12:30:15-0700"] * 3


def test_tiles_a_time_without_zone_is_an_error() -> None:
    with pytest.raises(ValueRejectedError, match="time zone"):
        patch_tiles(tiles(), tiles(), NOW.replace(tzinfo=None))


def test_tiles_unknown_survey_is_an_error_that_names_rows() -> None:
    with pytest.raises(ValueRejectedError, match=r"sv9 .*row 1 \(200\)"):
        patch_tiles(tiles(), tiles(SURVEY=["main", "sv9", "main"]), NOW)


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_tiles_number_that_stays_not_finite_is_an_error_that_names_rows(bad: float) -> None:
    with pytest.raises(ValueRejectedError, match=r"MINTFRAC, row 2.*row 2 \(300\)"):
        patch_tiles(tiles(MINTFRAC=[1.0, 1.0, 1.0])[:2], tiles(MINTFRAC=[0.5, 0.5, bad]), NOW)


# From tiles back


@pytest.mark.parametrize("column", ["SURVEY", "PROGRAM", "FAPRGRM", "FAFLAVOR", "GOALTYPE"])
def test_back_from_tiles_to_exposures_to_frames(column: str) -> None:
    text = {"SURVEY": "special"}.get(column, "a longer text")
    frame = frames(**{column: np.array([b"x", b"y", b"z"])}) if column != "PROGRAM" else frames()
    patched = {
        "tiles": tiles(**{column: [text, "sv1", "sv1"]}),
        "exposures": exposures(**{column: np.array([b"x", b"y", b"z"])}),
        "frames": frame,
    }
    result = back_patch_inconsistent_values(patched)
    assert values(result["exposures"], column) == [text, text, "sv1"]
    if column != "PROGRAM":
        assert values(result["frames"], column) == [text, text, text]
        assert values(patched["frames"], column) == ["x", "y", "z"]
    assert values(patched["exposures"], column) == ["x", "y", "z"]


def test_back_exposures_of_no_tile_and_frames_of_no_exposure_stay() -> None:
    patched = {
        "tiles": tiles()[2:],
        "exposures": exposures()[1:],
        "frames": frames(SURVEY=np.array([b"cmx", b"cmx", b"cmx"])),
    }
    result = back_patch_inconsistent_values(patched)
    assert values(result["exposures"], "SURVEY") == ["sv3", "special"]
    assert values(result["frames"], "SURVEY") == ["cmx", "cmx", "sv3"]


# Effective time at last


def efftime(lastnight: int = 20210401, tile: float = 500.0, first: float = 0.0, second: float = 0.0) -> list[float]:
    of = exposures(EFFTIME_SPEC=[first, second, 0.0])
    summary = tiles(LASTNIGHT=[lastnight] * 3, EFFTIME_SPEC=[tile, 0.0, 0.0])
    return values(
        patch_exposures_efftime_spec(exposures(EFFTIME_SPEC=[300.5, 200.5, 77.5]), of, summary), "EFFTIME_SPEC"
    )


def test_efftime_spec_of_exposures_of_a_tile_that_has_one() -> None:
    assert efftime() == [300.5, 200.5, 0.0]


def test_efftime_spec_from_20201214_on() -> None:
    assert efftime(lastnight=20201214) == [300.5, 200.5, 0.0]
    assert efftime(lastnight=20201213) == [0.0, 0.0, 0.0]


def test_efftime_spec_not_of_a_tile_without_one() -> None:
    assert efftime(tile=0.0) == [0.0, 0.0, 0.0]


def test_efftime_spec_only_if_all_exposures_of_the_tile_lack_it() -> None:
    assert efftime(second=0.25) == [0.0, 0.25, 0.0]


def test_efftime_spec_says_what_is_fully_partly_or_not_patchable(caplog: pytest.LogCaptureFixture) -> None:
    of = exposures(TILEID=[100, 200, 200], EFFTIME_SPEC=[0.0] * 3)
    report = Report()
    with caplog.at_level(logging.INFO, "specprod"):
        result = patch_exposures_efftime_spec(exposures(EFFTIME_SPEC=[9.5, 8.5, 7.5])[:2], of, tiles(), report=report)
    assert values(result, "EFFTIME_SPEC") == [9.5, 8.5, 0.0]
    assert [left.rows.tolist() for left in report.unpatched] == [[2]]
    assert "of 1 tiles is fully patchable: row 0 (100)" in caplog.text
    assert "of 1 tiles is partly patchable: row 1 (200)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "specprod"):
        patch_exposures_efftime_spec(exposures()[:0], of, tiles())
    assert "of 2 tiles is not patchable: row 0 (100), row 1 (200)" in caplog.text


def test_efftime_spec_of_an_exposure_that_came_to_nothing_is_known_to_be_0(caplog: pytest.LogCaptureFixture) -> None:
    of = exposures(TILEID=[100, 100, 200], EFFTIME_SPEC=[0.0] * 3)
    report = Report()
    source = exposures(EFFTIME_SPEC=[0.0, 8.5, 0.0])
    with caplog.at_level(logging.INFO, "specprod"):
        result = patch_exposures_efftime_spec(source, of, tiles(), report=report)
    assert values(result, "EFFTIME_SPEC") == [0.0, 8.5, 0.0]
    assert "of 1 tiles is fully patchable: row 0 (100)" in caplog.text
    assert "of 1 tiles is not patchable: row 1 (200)" in caplog.text
    assert [left.rows.tolist() for left in report.unpatched] == [[2]]


# What holds for all


def test_no_input_is_changed() -> None:
    wrong_frames = frames(EBV=[NAN] * 3, MJD=[0.0] * 3, GOALTYPE=np.array([b"", b"a", b""]))
    wrong_exposures = exposures(MJD=[0.0] * 3, SURVEY=np.array([b"", b"unknown", b"main"]), EFFTIME_SPEC=[0.0] * 3)
    wrong_tiles = tiles(SURVEY=["unknown"] * 3, GOALTYPE=["unknown"] * 3, TILERA=[0.0] * 3, TILEDEC=[0.0] * 3)
    source = (frames(EBV=[1.0, NAN, 1.0], GOALTYPE=np.array([b"longer"] * 3)), exposures(), tiles())
    inputs = (wrong_frames, wrong_exposures, wrong_tiles, *source)
    before = [table.copy() for table in inputs]
    new_frames = patch_frames(source[0], wrong_frames)
    new_exposures = patch_exposures(source[1], wrong_exposures, 20300101)
    new_tiles = patch_tiles(source[2], wrong_tiles, NOW)
    patched = [new_frames, new_exposures, new_tiles]
    middle = [table.copy() for table in patched]
    patch_missing_frames_mjd(new_exposures, new_frames)
    back_patch_inconsistent_values({"tiles": new_tiles, "exposures": new_exposures, "frames": new_frames})
    patch_exposures_efftime_spec(source[1], new_exposures, new_tiles)
    assert all(same(one, two) for one, two in zip(inputs, before, strict=True))
    assert all(same(one, two) for one, two in zip(patched, middle, strict=True))
    # The copies share no memory with the inputs.
    for copy, original in zip(patched, inputs, strict=False):
        assert not any(np.shares_memory(copy[name], original[name]) for name in original.colnames)


def test_good_tables_stay_as_they_are_and_nothing_is_reported() -> None:
    report = Report()
    assert same(patch_frames(frames(), frames(), report=report), frames())
    assert same(patch_exposures(exposures(), exposures(), report=report), exposures())
    with_updated = patch_tiles(tiles(), tiles(PROGRAM=["dark", "bright", "other"]), NOW, report=report)
    with_updated.remove_column("UPDATED")
    assert same(with_updated, tiles())
    assert report == Report()


def test_text_of_the_source_is_not_cut() -> None:
    wrong = frames(GOALTYPE=np.array([b"", b"dark", b"dark"]), FAPRGRM=np.array([b"", b"a", b"b"], dtype="S1"))
    source = frames(GOALTYPE=np.array(["bright1b", "dark", "dark"]), FAPRGRM=np.array([b"tertiary41"] * 3))
    wrong["GOALTYPE"].unit, wrong["GOALTYPE"].description = "none", "what for"
    result = patch_frames(source, wrong)
    assert values(result, "GOALTYPE") == ["bright1b", "dark", "dark"]
    assert values(result, "FAPRGRM") == ["tertiary41", "a", "b"]
    assert (result["GOALTYPE"].dtype, str(result["GOALTYPE"].unit)) == (np.dtype("S8"), "none")
    assert result["GOALTYPE"].description == "what for"


def test_report_holds_table_column_row_key_old_and_new() -> None:
    report = Report()
    patch_frames(frames(EBV=[0.25, 0.5, 0.75]), frames(EBV=np.array([1.5, NAN, NAN], np.float32)), report=report)
    (change,) = report.changes
    assert (change.table, change.column, change.rule) == ("frames", "EBV", "masked")
    found = change.values()
    assert str(found.pop("old")) == "[nan, nan]"
    assert found == {
        "row": [1, 2], "expid": [7, 8], "camera": ["z9", "r3"], "tileid": [None, None], "new": [0.5, 0.75],
    }  # fmt: skip


def test_a_value_that_rounds_to_what_is_there_is_no_change() -> None:
    report = Report()
    single = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    wrong = exposures(TILERA=np.zeros(3, np.float32), TILEDEC=np.zeros(3, np.float32))
    result = patch_exposures(exposures(TILERA=[1e-60, 0.1, 0.2]), wrong, report=report)
    assert values(result, "TILERA") == [0.0, float(single[0]), float(single[1])]
    assert ("exposures", "TILERA", 0) not in [change[:3] for change in changed(report)]


def test_a_number_that_the_column_cannot_hold_is_an_error() -> None:
    wrong = frames(X=MaskedColumn(np.zeros(3, np.int16), mask=[False, True, False]))
    with pytest.raises(ValueRejectedError, match=r"column X, row 1: cannot hold 70000"):
        patch_frames(frames(X=[1, 70000, 3]), wrong)
    with pytest.raises(ValueRejectedError, match=r"cannot hold 2\.5"):
        patch_frames(frames(X=[1.5, 2.5, 3.5]), wrong)
    wrong = frames(X=np.array([1, NAN, 1], np.float32))
    with pytest.raises(ValueRejectedError, match="cannot hold 1e"):
        patch_frames(frames(X=[1.0, 1e300, 1.0]), wrong)
    with pytest.raises(ValueRejectedError, match="not a number"):
        patch_frames(frames(X=["a", "b", "c"]), wrong)


@pytest.mark.parametrize("column", ["EXPID", "CAMERA"])
def test_frames_without_a_key_column(column: str) -> None:
    broken = frames()
    broken.remove_column(column)
    for arguments in ((broken, frames()), (frames(), broken)):
        with pytest.raises(MissingColumnError, match=f"column {column}: .*frames"):
            patch_frames(*arguments)


@pytest.mark.parametrize("column", ["NIGHT", "EXPID", "TILEID", "TILERA", "TILEDEC", "MJD", "SURVEY", "EFFTIME_SPEC"])
def test_exposures_without_a_column(column: str) -> None:
    broken = exposures()
    broken.remove_column(column)
    with pytest.raises(MissingColumnError, match=f"column {column}: .*exposures"):
        patch_exposures(exposures(), broken)


@pytest.mark.parametrize("column", ["TILEID", "SURVEY", "PROGRAM", "FAFLAVOR", "GOALTYPE", "EFFTIME_SPEC"])
def test_tiles_without_a_column(column: str) -> None:
    broken = tiles()
    broken.remove_column(column)
    with pytest.raises(MissingColumnError, match=f"column {column}: .*tiles"):
        patch_tiles(tiles(), broken, NOW)


def test_duplicate_keys_are_errors_that_name_rows() -> None:
    with pytest.raises(ValueRejectedError, match=r"row 0 \(700\), row 2 \(700\)"):
        patch_frames(frames(), frames(EXPID=[7, 7, 7], CAMERA=[b"b0", b"b1", b"b0"]))
    with pytest.raises(ValueRejectedError, match=r"source exposures: duplicate keys, in row 1 \(8\), row 2 \(8\)"):
        patch_exposures(exposures(EXPID=[7, 8, 8]), exposures())
    with pytest.raises(ValueRejectedError, match=r"row 0 \(100\), row 1 \(100\), row 2 \(100\)"):
        patch_tiles(tiles(), tiles(TILEID=[100] * 3), NOW)


def test_unknown_camera_is_an_error() -> None:
    with pytest.raises(ValueRejectedError, match="q7"):
        patch_frames(frames(), frames(CAMERA=[b"b0", b"q7", b"b1"]))


# Programs

DARK_TERTIARY = [1, 2, 4, 5, 7, 9, 11, 14, 15, 16, 17, 18, 21, 23, 25, 26, 27, 31, 35, 37, 38, 40, 41]
BRIGHT_TERTIARY = [3, 6, 8, 10, 12, 13, 19, 20, 22, 24, 28, 29, 30, 32, 33, 34, 36, 39]
PROGRAMS = {
    "dark": "cmxelg cmxlrgqso sv1elg sv1elgqso sv1lrgqso sv1lrgqso2 maindark sv2dark sv3dark specialdark specialm31 "
    "specialodin " + " ".join(f"specialtertiary{number}" for number in DARK_TERTIARY),
    "bright": "sv1bgsmws mainbright sv3bright " + " ".join(f"specialtertiary{number}" for number in BRIGHT_TERTIARY),
    "backup": "sv1backup1 mainbackup sv3backup",
    "dark1b": "maindark1b",
    "bright1b": "mainbright1b",
    "other": "unknown sv1unwisebluebright sv1m31 cmxm33 specialtertiary0 specialtertiary42 specialtertiary100 "
    "tertiary1 m31 odin sv1scndhetdex sv1backup2 mainDARK maindark2",
}


@pytest.mark.parametrize(("flavor", "program"), [(f, p) for p, flavors in PROGRAMS.items() for f in flavors.split()])
def test_program_of_a_flavor(flavor: str, program: str) -> None:
    assert faflavor2program(flavor) == program
    assert faflavor2program(flavor.encode()) == program


def test_programs_of_arrays() -> None:
    assert sorted(DARK_TERTIARY + BRIGHT_TERTIARY) == list(range(1, 42))
    grid = np.array([[b"maindark ", b"", b"mainbright1b"], [b"maindark", b"sv1bgsmws", b"x"]])
    assert faflavor2program(grid).tolist() == [["dark", "other", "bright1b"], ["dark", "bright", "other"]]
    assert faflavor2program(["maindark"]).tolist() == ["dark"]
    assert faflavor2program(np.array([], dtype="U5")).tolist() == []
    masked = np.ma.MaskedArray(["maindark", "maindark"], [True, False])
    assert faflavor2program(masked).tolist() == ["other", "dark"]
