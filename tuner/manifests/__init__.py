"""Launches of vLLM in the files that start it."""
