"""Load time of a production with its ledger over that without it, in alternating rounds.

python bench/ledger.py --database URL-or-file --root SAMPLE [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from specprod.configuration import load_configuration
from specprod.database import connect
from specprod.files.tree import ProductionTree
from specprod.load import setup_db
from specprod.loading.execution import Execution, opened
from specprod.loading.interfaces import NoLedger
from specprod.loading.loader import Loader
from specprod.production.job import load_production


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True)
    parser.add_argument("--root", type=Path, required=True, help="a sample, of 30 tiles or so")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tree = ProductionTree(options.root, load_configuration().production("sample"))
    ratios = []
    with connect(options.database, schema="bench_ledger") as database:
        for number in range(options.rounds):
            seconds = []
            # The order changes from round to round, as the machine's speed may.
            for kept in ((False, True), (True, False))[number % 2]:
                setup_db(database=database, overwrite=True)
                start = time.perf_counter()
                if kept:
                    with opened(database, Execution(name="bench", root=options.root)) as ledger:
                        tables = load_production(database, tree, Loader(database, ledger=ledger))
                else:
                    tables = load_production(database, tree, Loader(database, ledger=NoLedger()))
                seconds.append((kept, time.perf_counter() - start))
                rows = sum(item.rows for item in tables)
            times = dict(seconds)
            ratios.append(times[True] / times[False])
            print(
                f"round {number + 1}: {rows} rows; {times[True]:.2f} s with, {times[False]:.2f} s without; "
                f"ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(f"ratio with over without: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
