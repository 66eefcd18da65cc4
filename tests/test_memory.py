"""Memory of a load: bounded, and the same for a file ten times as large."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from specprod.sample import write_sample

# A process inherits the ru_maxrss of the one that started it; what the kernel shows as VmHWM begins with the program.
CODE = (
    "import sys; from specprod.cli.main import main; code = main(sys.argv[1:]); "
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))); sys.exit(code)"
)


def peak(root: Path, target: str) -> float:
    """Peak memory in MB of a process that loads a production."""
    # Chunks of this size are reached by both trees, as those of the default size are by real productions.
    words = ["run", str(root), "--specprod", "sample", "--database", target, "--chunksize", "500", "--quiet"]
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    small, large = (tmp_path_factory.mktemp(name) / "tree" for name in ("small", "large"))
    write_sample(small, tiles=2, targets_per_tile=1500, potentials_per_tile=3000)
    write_sample(large, tiles=20, targets_per_tile=1500, potentials_per_tile=3000)
    return small, large


def test_ten_times_the_rows(trees: tuple[Path, Path], database_target: str) -> None:
    sizes = [sum(path.stat().st_size for path in root.rglob("*.fits")) for root in trees]
    assert sizes[1] > 8 * sizes[0]
    first = peak(trees[0], database_target)
    other = database_target if database_target.startswith("postgresql") else f"{database_target}.large"
    if other == database_target:
        import psycopg

        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute("DROP SCHEMA sample CASCADE")
    second = peak(trees[1], other)
    # SQLite fills a cache of 24 MB, which the small database does not.
    cache = 0 if database_target.startswith("postgresql") else 24
    print(f"peak memory {first:.0f} MB and {second:.0f} MB for files ten times as large")
    assert second < 400
    assert second < 1.1 * first + cache
