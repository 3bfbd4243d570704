"""The log of a vLLM server, read line by line."""
