"""Time of ``verify`` over that of the load that it checks, in pairs: verifying must be no slower than loading.

    python bench/verify.py [--root SAMPLE] [--tiles 34] [--rounds 3] [--database URL] [--most 1.0]

Without a URL of PostgreSQL it is an SQLite file. The exit code is 1 if the median of the ratios is beyond the limit.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import load, measure, settle
from specprod.database import connect


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a sample that is there already")
    parser.add_argument("--tiles", type=int, default=34)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", help="URL of PostgreSQL")
    parser.add_argument("--most", type=float, default=1.0, help="limit of the ratio")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or Path(scratch) / "production"
        if options.root is None:
            size = ["--tiles", str(options.tiles), "--assigned", "4000", "--potential", "10000"]
            subprocess.run(["specprod-load", "sample", str(root), *size], check=True, stdout=sys.stderr)
        target = options.database or str(Path(scratch) / "loaded.db")
        schema = ["--schema", "bench_verify"] if options.database else []
        ratios = []
        for number in range(options.rounds):
            settle()
            loading, _ = load(root, target, *schema, "--overwrite", "--yes")
            settle()
            words = ["verify", str(root), "--specprod", "sample", "--database", target, *schema, "--quiet"]
            verifying, memory = measure(["specprod-load", *words])
            ratios.append(verifying / loading)
            times = f"run {loading:.1f} s, verify {verifying:.1f} s, peak {memory:.0f} MB"
            print(f"round {number + 1}: {times}, ratio {ratios[-1]:.2f}", flush=True)
        if options.database:
            with connect(options.database) as database, database.begin() as connection:
                connection.exec_driver_sql("DROP SCHEMA bench_verify CASCADE")
    middle = statistics.median(ratios)
    print(
        f"ratio of verify over run: median {middle:.2f}, {min(ratios):.2f} to {max(ratios):.2f}; limit {options.most}"
    )
    return 0 if middle <= options.most else 1


if __name__ == "__main__":
    sys.exit(main())
