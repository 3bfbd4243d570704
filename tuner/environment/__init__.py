"""The serving environment: its packages, plugins, platform and GPUs, read without starting vLLM."""
