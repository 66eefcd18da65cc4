"""A tile is in the ledger, in the transaction of its rows."""

from __future__ import annotations

from pathlib import Path

from astropy.table import Table

from specprod.cli.main import main
from specprod.database import connect
from specprod.results.orm import OrmPipelineResultsStorage


def test_tile_in_the_ledger(tmp_path: Path, database_target: str) -> None:
    root = tmp_path / "tree"
    assert main(["sample", str(root), "--specprod", "daily", "--tile-inputs", "--tiles", "2", "--assigned", "40"]) == 0
    tiles = Table.read(root / "spectro/redux/daily/tiles-daily.csv")
    tileid = int(tiles["TILEID"][tiles["EFFTIME_SPEC"] > 0][0])
    words = ["tile", str(root), str(tileid), "--specprod", "daily", "--database", database_target, "--schema", "s"]
    assert main(words) == 0
    with connect(database_target, schema="s") as database:
        storage = OrmPipelineResultsStorage(database)
        (result,) = storage.get_pipeline_results()
        assert (result.name, result.state) == (f"tile {tileid}", "done")
        assert any("redrock" in name or "zbest" in name for name in result.input_data["files"])
        tasks = {item.name: item.input_data for item in storage.get_task_executions(parent_id=result.id)}
        with database.session() as session:
            for table in ("ztile", "target", "potential"):
                cls = getattr(database.classes, table.capitalize())
                assert tasks[table]["inserted"] == session.query(cls).count() > 0
