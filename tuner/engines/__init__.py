"""Engines of one launch: the worker that starts them, the questions that it is asked, and their answers."""
