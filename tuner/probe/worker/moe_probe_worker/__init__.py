"""The part of the probe that runs inside the serving environment.

It needs Python 3.10 or later, the standard library, and the environment's torch,
transformers and vllm, which it imports inside functions. From the project it
imports only `shared_worker`. Other packages of the project do not import it.

The host starts `__main__` by path, writes `request.json` into a control folder
and reads the JSON files that this worker writes there. stdout and stderr get the
output of vLLM.

The worker observes names, orders, counts and versions. The host decides what
they mean.
"""
