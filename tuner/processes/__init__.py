"""Processes that we start: their control folders, limits, signals, answers and logs."""
