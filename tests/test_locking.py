"""The lock of a schema or file: one loader at a time, whatever becomes of the file that is locked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from specprod.cli.main import main
from specprod.database import connect
from specprod.errors import ConnectionFailedError, LockedError
from specprod.load import setup_db


def test_a_lock_file_that_lost_its_name_is_no_lock(sqlite_file: Path) -> None:
    """B opens the lock file, A removes it, C makes a new one: B and C must not both hold the file."""
    lock = Path(f"{sqlite_file}.lock")
    script = (
        "import fcntl, os, sys, time\n"
        "from pathlib import Path\n"
        "from specprod.database import connect\n"
        "real = fcntl.flock\n"
        "def late(*arguments):\n"
        "    # Between the opening of the file and its lock.\n"
        "    fcntl.flock = real\n"
        "    print('opened', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    return real(*arguments)\n"
        "fcntl.flock = late\n"
        "with connect(sys.argv[1], create=True) as database, database.locked():\n"
        "    print('locked', os.stat(sys.argv[1] + '.lock').st_ino, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with connect(sqlite_file, create=True) as database:
        setup_db(database=database)
        with database.locked():
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(sqlite_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "opened\n"
        assert not lock.exists()
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"locked {lock.stat().st_ino}\n"
        with pytest.raises(LockedError, match=f"process {process.pid} of user"), database.locked():
            pass
        process.communicate("end\n", timeout=20)
        with database.locked():
            assert lock.read_text().startswith(f"specprod: process {os.getpid()} ")
        assert not lock.exists()


def test_many_loaders_take_turns(sqlite_file: Path) -> None:
    """Loaders that come and go all the time, and remove the lock file, never hold the file together."""
    with connect(sqlite_file, create=True) as database:
        setup_db(database=database)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from specprod.database import connect\n"
        "from specprod.errors import LockedError\n"
        "held, inside = 0, Path(sys.argv[1] + '.inside')\n"
        "with connect(sys.argv[1], create=True) as database:\n"
        "    while held < 150:\n"
        "        try:\n"
        "            with database.locked():\n"
        "                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))\n"
        "                inside.unlink()\n"
        "                held += 1\n"
        "        except LockedError:\n"
        "            pass\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(sqlite_file)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]


def test_shared_and_alone(sqlite_file: Path) -> None:
    with connect(sqlite_file, create=True) as one, connect(sqlite_file) as other:
        setup_db(database=one)
        with one.locked(shared=True):
            with other.locked(shared=True), pytest.raises(LockedError), other.locked():
                pass
            assert Path(f"{sqlite_file}.lock").exists()
            with pytest.raises(LockedError), other.locked():
                pass
        assert not Path(f"{sqlite_file}.lock").exists()


def test_a_link_in_the_place_of_the_lock(sqlite_file: Path, tmp_path: Path) -> None:
    """What stands there and is not ours is neither followed, nor written, nor removed."""
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    lock = Path(f"{sqlite_file}.lock")
    with connect(sqlite_file, create=True) as database:
        setup_db(database=database)
        lock.symlink_to(precious)
        with pytest.raises(ConnectionFailedError, match="is a link"), database.locked():
            pass
        assert lock.is_symlink()
        assert precious.read_text() == "precious"
        lock.unlink()
        lock.write_text("mine")
        with pytest.raises(ConnectionFailedError, match="something else"), database.locked():
            pass
        assert lock.read_text() == "mine"
        lock.unlink()
        os.mkfifo(lock)
        with pytest.raises(ConnectionFailedError), database.locked():
            pass


def test_one_lock_whatever_link_leads_to_the_database(sqlite_file: Path, tmp_path: Path) -> None:
    with connect(sqlite_file, create=True) as one:
        setup_db(database=one)
        link = tmp_path / "link.db"
        link.symlink_to(sqlite_file)
        with connect(link) as other, one.locked(), pytest.raises(LockedError), other.locked():
            pass


@pytest.mark.parametrize("words", [["index"], ["primary"]])
def test_index_and_primary_wait_for_no_load(
    database_target: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys that appear in the middle of a load would make its rows an error."""
    with connect(database_target, schema="s", create=True) as database:
        setup_db(database=database, keys=False)
        where = ["--database", database_target, "--schema", "s"]
        with database.locked():
            assert main([*words, *where]) == 1
        assert "is being loaded by another process" in capsys.readouterr().err
        with database.connect() as connection:
            assert not {"zpix_pkey", "ztile_pkey"} & database.keys(connection).names
        assert main([*words, *where]) == 0
