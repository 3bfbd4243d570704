"""The proof of one launch: does every compiled pass call every MoE layer once, in the registered order?

To compile a class, vLLM traces its `forward` once with Dynamo, as one graph, and drops the guards. From then on every
compiled pass makes the calls of that trace. The proof builds the model of the launch on the meta device, traces it in
the same way, and reads the graph. It does not run the model, so it does not need weights, kernels or a KV cache.

The modules return failures, each a dictionary with `code`, `condition` and `fields` (see `failure.py`). The host turns
them into a decision.
"""
