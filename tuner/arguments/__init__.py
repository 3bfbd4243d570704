"""The argument list of `vllm serve`: read, and written again with one compilation config."""
