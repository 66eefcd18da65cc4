"""What tests need besides pytest: servers, trees, processes."""
