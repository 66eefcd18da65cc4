"""The small functions for scripts."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import psycopg
import pytest
from astropy.table import Table
from sqlalchemy import create_engine, make_url, text

from specprod import util
from support.server import PASSWORD, Server


def test_codes_and_ids() -> None:
    """The check values of the survey's documentation."""
    assert (util.cameraid("b0"), util.cameraid("r3"), util.cameraid("z9")) == (0, 13, 29)
    assert util.frameid(12345, "z9") == 1234529
    assert [util.surveyid(name) for name in ("cmx", "special", "sv1", "sv2", "sv3", "main")] == [1, 2, 3, 4, 5, 6]
    assert [util.programid(name) for name in ("backup", "bright", "dark", "other")] == [1, 2, 3, 4]
    names = ("1x_depth", "4x_depth", "cumulative", "lowspeed", "perexp", "pernight", "healpix")
    assert [util.spgrpid(name) for name in names] == [1, 2, 3, 4, 5, 6, 7]
    assert util.targetphotid(123456789, 1234, "main") == 475368997848868212518973852949
    assert util.zpixid(123456789, "main", "dark") == 237684487653473477223012617493
    assert util.fiberassignid(123456789, 1234, 1234) == 97767552565365474777390944865557


def test_checkgzip(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.fits", tmp_path / "a.fits.gz"
    with pytest.raises(FileNotFoundError, match=r"a\.fits: no such file, nor a\.fits\.gz"):
        util.checkgzip(str(plain))
    packed.touch()
    assert util.checkgzip(str(plain)) == util.checkgzip(str(packed)) == str(packed)
    plain.touch()
    assert util.checkgzip(plain) == str(plain)
    packed.unlink()
    assert util.checkgzip(packed) == str(plain)


def test_convert_dateobs() -> None:
    assert util.convert_dateobs("2021-03-24T05:06:07.250000123") == datetime(2021, 3, 24, 5, 6, 7, 250000)
    mountain = timezone(timedelta(hours=-7))
    assert util.convert_dateobs(" 2021-03-24T05:06:07", tzinfo=UTC) == datetime(2021, 3, 24, 5, 6, 7, tzinfo=UTC)
    found = util.convert_dateobs("2021-03-24T05:06:07Z", tzinfo=mountain)
    assert found.isoformat() == "2021-03-23T22:06:07-07:00"
    with pytest.raises(ValueError, match="expected a date and time, found 'tomorrow'"):
        util.convert_dateobs("tomorrow")


def test_no_sky() -> None:
    good = 39633345008634465
    values = [good, -7, 0, good | 1 << 59, 616089230757593610, 5, 1 << 59, (1 << 59) - 1]
    rows = util.no_sky(Table({"TARGETID": values}))
    assert rows.tolist() == [i for i, value in enumerate(values) if value > 0 and not value >> 59 & 1]
    assert util.no_sky({"TARGETID": np.zeros(0, dtype=np.int64)}).size == 0


@pytest.fixture
def pgpass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "passwords"
    path.touch(mode=0o600)
    monkeypatch.setenv("PGPASSFILE", str(path))
    return path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("host:5432:db:user:secret", (5432, "db", "secret")),
        ("host:*:*:user:secret", (None, None, "secret")),
        ("*:5433:*:*:secret", (5433, None, "secret")),
        (r"host:1:db:user:a\:b\\c", (1, "db", r"a:b\c")),
        ("host:1:db:user:a:b@c/d e%f", (1, "db", "a:b@c/d e%f")),
        (r"host:1:d\:b:user:x", (1, "d:b", "x")),
        ("# host:1:db:user:old\n\nnothing\nother:1:db:user:x\nhost:1:db:me:x\nhost:2:db:user:new", (2, "db", "new")),
        ("host:1:first:user:1\nhost:1:second:user:2", (1, "first", "1")),
        ("host:1:db:user:", (1, "db", "")),
        (r"\*:1:db:user:x", None),
        ("hos:1:db:user:x\nhost:1:db:use:x\nhost:1:user:x", None),
        ("", None),
    ],
)
def test_parse_pgpass(pgpass: Path, lines: str, expected: tuple[int | None, str | None, str] | None) -> None:
    pgpass.write_text(lines + "\n")
    found = util.parse_pgpass("host", "user")
    if expected is None:
        assert found is None
        return
    url = make_url(found)
    assert (url.host, url.username, url.drivername) == ("host", "user", "postgresql+psycopg")
    assert (url.port, url.database, url.password or "") == expected


def test_parse_pgpass_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pgpass: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pgpass.write_text("host:*:*:user:secret\n")
    pgpass.chmod(0o640)
    # The level of the package: a command that ran before in this process may have been told to be quiet.
    with caplog.at_level(logging.WARNING, "specprod"):
        assert util.parse_pgpass("host", "user") is None
    assert "chmod 600" in caplog.text
    assert "secret" not in caplog.text
    pgpass.unlink()
    assert util.parse_pgpass("host", "user") is None
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / ".pgpass"
    own.touch(mode=0o600)
    own.write_text("specprod-db.desi.lbl.gov:5432:desi:desi_admin:pass\n")
    assert util.parse_pgpass() == "postgresql+psycopg://desi_admin:pass@specprod-db.desi.lbl.gov:5432/desi"


def test_libpq_reads_the_file_in_the_same_way(pgpass: Path) -> None:
    """A password with a colon and a backslash opens a server, by the URL found here and by libpq alone."""
    own = Server(password=True)
    try:
        written = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        assert written != PASSWORD
        pgpass.write_text(f"127.0.0.1:1:*:other:wrong\n127.0.0.1:{own.port}:*:{own.superuser}:{written}\n")
        found = util.parse_pgpass("127.0.0.1", own.superuser)
        with psycopg.connect(f"postgresql://{own.superuser}@127.0.0.1:{own.port}/postgres") as connection:
            assert connection.execute("SELECT current_user").fetchone() == (own.superuser,)
        engine = create_engine(f"{found}/postgres")
        with engine.connect() as session:
            assert session.scalar(text("SELECT current_user")) == own.superuser
        engine.dispose()
        assert os.environ["PGPASSFILE"] == str(pgpass)
    finally:
        own.remove()
