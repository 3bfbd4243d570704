"""Runs inside a serving environment: what vLLM's compile-cache keys are made of, for one launch."""
