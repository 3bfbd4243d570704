"""Places in a file that start vLLM in a form that is not read."""
