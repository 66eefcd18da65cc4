"""Fixtures that many tests share: real databases, sample productions, the real survey files."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support.server import Server, why_not

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
SHARED = Path(__file__).resolve().parents[2] / "shared"
_numbers = count()

# A run in the background ignores SIGINT, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def unavailable(reason: str, *, required: bool) -> None:
    """Skip a test with its reason; where everything ought to be installed, fail instead."""
    if required:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Undo what --quiet and --verbose of the commands of other tests, and of their fixtures, mean for this one."""
    logger = logging.getLogger("specprod")
    logger.setLevel(logging.NOTSET)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A throw-away PostgreSQL server with q3c."""
    reason = why_not()
    if reason:
        unavailable(reason, required=IN_CI)
    running = Server()
    yield running
    running.remove()


@pytest.fixture
def postgres_url(server: Server) -> Iterator[str]:
    """A fresh database with q3c."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """Name of an SQLite file that does not exist yet."""
    return tmp_path / "specprod.db"


@pytest.fixture(params=["postgresql", "sqlite"])
def database_target(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind in turn, as `specprod.connect` takes it."""
    return str(request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_file"))


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic production named sample."""
    from specprod.sample import write_sample

    root = tmp_path_factory.mktemp("sample") / "tree"
    write_sample(root, tiles=3, targets_per_tile=60, potentials_per_tile=150, seed=7)
    return root


@pytest.fixture(scope="module")
def catalogues(sample_root: Path) -> dict[str, np.ndarray]:
    """Rows of the redshift catalogues of the sample."""
    from support.coeff import read_catalogues

    return read_catalogues(sample_root)


@pytest.fixture(scope="module")
def patch_files(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of a patch made of these."""
    from support.coeff import extract

    return extract(sample_root, tmp_path_factory.mktemp("patches") / "new")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Directory of real survey files, which are not part of the project."""
    place = Path(os.environ.get("SPECPROD_REALDATA", SHARED / "realdata"))
    if not place.is_dir():
        unavailable(f"real survey files are not at {place}; set SPECPROD_REALDATA", required=IN_CI and SHARED.is_dir())
    return place


@pytest.fixture(scope="session")
def contract() -> Path:
    """Directory of the lists of tables, indexes and keys that a loaded schema must have."""
    place = SHARED / "schema"
    if not place.is_dir():
        unavailable(f"the lists of the contract are not at {place}", required=IN_CI and SHARED.is_dir())
    return place
