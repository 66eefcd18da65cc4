"""Digests of whole tables, computed by the databases' own means or from their rows as text."""

from __future__ import annotations

import hashlib
import sqlite3

import psycopg

TABLES = ("tile", "exposure", "frame", "photometry", "target", "ztile", "zpix", "fiberassign", "potential")
KEYS = {"tile": "tileid", "exposure": "expid", "frame": "frameid", "photometry": "targetid"}


def digests(target: str, schema: str = "sample") -> dict[str, tuple[int, str]]:
    """Number of rows and digest of all values of each table, in the order of its key."""
    if target.startswith("postgresql"):
        with psycopg.connect(target, options="-c timezone=UTC") as connection:
            return {
                table: connection.execute(
                    f'SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY "{KEYS.get(table, "id")}")) '
                    f'FROM "{schema}"."{table}" AS t'
                ).fetchone()
                for table in TABLES
            }
    connection = sqlite3.connect(target)
    result = {}
    for table in TABLES:
        digest, count = hashlib.md5(), 0
        for row in connection.execute(f'SELECT * FROM "{table}" ORDER BY "{KEYS.get(table, "id")}"'):
            digest.update(repr(row).encode())
            count += 1
        result[table] = (count, digest.hexdigest())
    connection.close()
    return result
