"""A whole production: its load, its state, its comparison with the files."""
