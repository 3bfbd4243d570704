"""Ladders: engines of one launch with other settings, compared with each other."""
