"""Arguments that stand in for files that a model folder lacks: a tokenizer, weights."""

from pathlib import Path

from tuner.arguments.serve_arguments import ServeArguments
from tuner.arguments.vllm_options import option_names
from tuner.launch.plan import Plan

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
TOKENIZERS = ("tokenizer*", "*.model", "tekken.json", "vocab.*", "*.tiktoken")
DUMMY_WEIGHTS = ("--load-format", "dummy")
NO_TOKENIZER = ("--skip-tokenizer-init",)


def stand_ins(plan: Plan, arguments: ServeArguments) -> tuple[str, ...]:
    """The arguments with which a folder that holds only a configuration starts. None counts in a key (vllm/config)."""
    folder = Path(plan.subject.model.folder)
    names = option_names(arguments.as_written)
    args: tuple[str, ...] = ()
    if "--load-format" not in names and not _has_any(folder, WEIGHTS):
        args += DUMMY_WEIGHTS
    if "--tokenizer" not in names and not _has_any(folder, TOKENIZERS):
        args += NO_TOKENIZER
    return args


def _has_any(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in patterns)
