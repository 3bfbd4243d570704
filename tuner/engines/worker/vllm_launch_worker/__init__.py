"""Runs inside a serving environment and answers questions on launches: cache keys, proofs and replays."""
