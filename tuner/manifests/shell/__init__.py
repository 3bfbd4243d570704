"""Launches in shell text: its words, its variables, and the programs that start vLLM."""
