"""Load spectroscopic survey productions into PostgreSQL or SQLite."""
