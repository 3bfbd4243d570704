"""Ladders: engines of one launch with other settings, held against each other."""
