"""The engine of all loads."""
