"""How vLLM inspects model classes."""


def inspect_in_process() -> None:
    """Let vLLM inspect model classes in this process. Otherwise it starts a subprocess for each, which takes 10 s."""
    from vllm.model_executor.models import registry

    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = lambda inspect_class: inspect_class()
