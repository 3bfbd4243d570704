"""A planned launch as a file for other tools."""
