"""The processes that the tool starts: their control folders, limits, signals, answers and logs."""
