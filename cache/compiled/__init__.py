"""The compile caches that vLLM keeps: what lies there, what was made, what may go."""
