"""The vLLM MoE launch tuner: the application around the rules and the memory."""

__version__ = "0.2.0"
