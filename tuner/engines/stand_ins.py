"""What stands in for files that a model folder lacks: a tokenizer, weights."""

from pathlib import Path

from tuner.arguments.serve_arguments import ServeArguments
from tuner.launch.plan import Plan

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")


TOKENIZERS = ("tokenizer*", "*.model", "tekken.json", "vocab.*", "*.tiktoken")


def stand_ins(plan: Plan, arguments: ServeArguments) -> tuple[str, ...]:
    """What lets a model start whose folder holds a configuration alone. Neither counts in a key (vllm/config)."""
    folder = Path(plan.subject.model.folder)
    given = {arg.partition("=")[0].replace("_", "-") for arg in arguments.given}
    weights = () if _any(folder, WEIGHTS) or "--load-format" in given else ("--load-format", "dummy")
    words = () if _any(folder, TOKENIZERS) or "--tokenizer" in given else ("--skip-tokenizer-init",)
    return (*weights, *words)


def _any(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in patterns)
