"""All that is peculiar to PostgreSQL."""
