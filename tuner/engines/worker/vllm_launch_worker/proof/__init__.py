"""The proof of one launch: do compiled passes call every MoE layer once, in the registered order?

vLLM compiles a class by tracing its `forward` once with Dynamo, as one graph, and drops the guards. From then on every
compiled pass makes the calls of that one trace. Here the launch's own model is built on the meta device and traced in
the same way, and the graph is read. Nothing is run, so neither weights nor kernels nor a KV cache are needed.

Each module collects failures: `{"code", "condition", "fields"}`. What they mean is decided by the host.
"""
