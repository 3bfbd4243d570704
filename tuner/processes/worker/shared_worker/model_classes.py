"""How vLLM inspects model classes."""


def inspect_in_process() -> None:
    """Let vLLM inspect model classes here, not in a subprocess of 10 s each."""
    from vllm.model_executor.models import registry

    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = lambda inspect_class: inspect_class()
