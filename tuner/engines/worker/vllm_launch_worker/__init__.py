"""Runs inside a serving environment and answers questions on launches: cache keys, proofs, replays and outputs."""
