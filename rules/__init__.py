"""Pure knowledge: report -> verdict -> decision, and the table of vLLM releases."""
