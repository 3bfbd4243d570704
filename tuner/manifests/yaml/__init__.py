"""Launches in YAML: one reader a file for each kind of document."""
