"""What both workers need. It runs inside the serving environment and follows their rules.

Floor: Python 3.10 and the standard library; vllm and transformers are imported inside functions. The workers import it
by its own name: each puts its folder on the path when it starts.
"""
