"""The store of verdicts: one SQLite file."""
