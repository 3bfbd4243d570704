"""Memory: the verdict store. Knows nothing of vLLM."""
