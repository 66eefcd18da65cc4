"""The results storage: what was run, on what, when, by which version, and what became of it."""
