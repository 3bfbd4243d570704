"""Code that all workers use. It runs inside the serving environment, so the rules for workers hold for it, too.

It needs Python 3.10 or later and the standard library. It imports vllm and transformers only inside functions. Each
worker puts the folder of this package on the path when it starts, and imports it as `shared_worker`.
"""
