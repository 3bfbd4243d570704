"""The half of the probe that runs inside the serving environment.

Floor: Python 3.10, the standard library, and the environment's own torch,
transformers and vllm, imported inside functions. Of the project it imports only
`shared_worker`, and nobody imports it: the host starts `__main__` by path, writes
`request.json` into a control folder and reads the JSON files that appear there.
stdout and stderr belong to vLLM.

It observes: names, orders, counts, versions. What they mean is decided elsewhere.
"""
