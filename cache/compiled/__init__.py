"""vLLM's compile caches: their entries, the records of warm-ups, and what is removed."""
