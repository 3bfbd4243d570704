"""The proof of one launch: do compiled passes call every MoE layer once, in the registered order?

vLLM compiles a class by tracing its `forward` once with Dynamo, as one graph, and drops the guards. From then on every
compiled pass makes the calls of that one trace. The proof builds the launch's own model on the meta device, traces it
in the same way, and reads the graph. It runs nothing, so it needs neither weights nor kernels nor a KV cache.

Each module collects failures: `{"code", "condition", "fields"}`. The host decides what they mean.
"""
