"""``python -m specprod``: the command specprod-load."""

from __future__ import annotations

import sys

from specprod.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
