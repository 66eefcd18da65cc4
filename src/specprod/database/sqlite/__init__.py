"""All that is peculiar to SQLite."""
