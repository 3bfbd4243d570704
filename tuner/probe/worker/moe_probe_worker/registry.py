"""Lists every architecture that this vLLM registers: whether it can have a MoE layer, and a config for it."""

import inspect
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from moe_probe_worker import default_configs, references
from moe_probe_worker.references import BY_CONFIG, LAYERS, MODELS, Reach
from shared_worker.vllm_types import Json

CATEGORIES = (
    "text_generation",
    "embedding",
    "late_interaction",
    "reward",
    "token_classification",
    "sequence_classification",
    "multimodal",
    "speculative_decoding",
    "transformers_supported",
    "transformers_backend",
)
"""The dicts in vLLM's registry: `_TEXT_GENERATION_MODELS` and so on, in vLLM 0.19.1 and 0.32.0."""
SUPPORTED = "transformers supported"
"""The category of models that vLLM runs through transformers."""
NO_CONFIG = {
    "speculative decoding": "runs only beside its target",
    "transformers backend": "stands for any model of transformers; no config.json names it",
}
"""Category -> why its architectures do not get a config."""


def listing() -> list[Json]:
    """One entry for each registered architecture, in the order of the registry.

    Returns:
        For each: `architecture`; `module`; `class`; `category`: the registry's dict, or `plugin`; `moe`: as from
        `Reach.moe`; `error`: why the class could not be imported, or empty (after an error `moe` comes from the
        module's source text); `config`: a dict or None; `source`: where it comes from; `reason`: why there is none.
    """
    from vllm import ModelRegistry

    classes, errors = load(ModelRegistry.models)
    category_of = categories(ModelRegistry.models, classes)
    reach = Reach(classes, plugin_packages(classes, category_of))
    finder = default_configs.Finder(reach.modules)
    entries = []
    for name, registered in ModelRegistry.models.items():
        module, kind = place(registered)
        entry = {
            "architecture": name,
            "module": module,
            "class": kind,
            "category": category_of.get(name, "plugin"),
            "moe": reach.moe(name) if name in classes else moe_of_text(module),
            "error": errors.get(name, ""),
        }
        entries.append(entry | config_for(entry, reach, finder))
    return entries


def config_for(entry: Json, reach: references.Reach, finder: default_configs.Finder) -> Json:
    """The fields `config`, `source` and `reason` of an entry."""
    reason = NO_CONFIG.get(entry["category"], "") if entry["moe"] != "none" else "it has no MoE layer"
    if reason:
        return {"config": None, "source": "", "reason": reason}
    return finder.find(target_of(entry, reach))


def target_of(entry: Json, reach: references.Reach) -> default_configs.Target:
    """What the search for a config needs to know of an entry. The class may be unknown, if it cannot be imported."""
    name = entry["architecture"]
    target = default_configs.Target(
        architecture=name,
        relatives=[],
        parts=[],
        module=entry["module"],
        multimodal=entry["category"] == "multimodal",
        modules=reach.modules(name),
        by_config=entry["moe"] == "config",
    )
    cls = reach.classes.get(name)
    if cls is None:
        return target
    parts: list[str] = []
    if entry["moe"] == "static":
        parts = [item.__name__ for item in reach.reachable(name) if isinstance(item, type)]
    return target._replace(
        relatives=relatives(cls, reach.classes),
        parts=parts,
        module=cls.__module__,
        multimodal=is_multimodal(cls),
    )


def relatives(cls: type, classes: dict[str, type]) -> list[str]:
    """The name of a class, the architectures that it is registered for, and the names of its bases."""
    architectures = [name for name, registered in classes.items() if registered is cls]
    bases = [base.__name__ for base in cls.__mro__[1:] if base.__module__.startswith(MODELS)]
    return [cls.__name__, *architectures, *bases]


def is_multimodal(cls: type | None) -> bool:
    """Whether vLLM feeds the class more than text."""
    return bool(getattr(cls, "supports_multimodal", False))


def load(models: Any) -> tuple[dict[str, type], dict[str, str]]:
    """Import every registered class.

    Returns:
        Architecture -> class, and architecture -> error for classes that cannot be imported.
    """
    classes, errors = {}, {}
    for name, registered in models.items():
        try:
            classes[name] = registered.load_model_cls()
        except (Exception, SystemExit) as error:
            message = " ".join(str(error).split())[:200]
            errors[name] = f"{type(error).__name__}: {message}"
    return classes, errors


def place(registered: Any) -> tuple[str, str]:
    """Module and class name of a registered model. The class is not imported."""
    cls = getattr(registered, "model_cls", None)
    if cls is not None:
        return cls.__module__, cls.__qualname__
    return registered.module_name, registered.class_name


def categories(models: Any, classes: dict[str, type]) -> dict[str, str]:
    """Architecture -> category, from the dicts in vLLM's registry. If several have it, the first one counts.

    One dict has all models that vLLM runs through transformers. Their class decides between multimodal and text.
    """
    from vllm.model_executor.models import registry

    category_of: dict[str, str] = {}
    for category in CATEGORIES:
        for name, (module, _) in getattr(registry, f"_{category.upper()}_MODELS", {}).items():
            owner = place(models[name])[0] if name in models else ""
            if owner in (module, f"{MODELS[0]}.{module}"):  # else a plugin registered the name again
                category_of.setdefault(name, category.replace("_", " "))
    for name, category in category_of.items():
        if category == SUPPORTED:
            category_of[name] = "multimodal" if is_multimodal(classes.get(name)) else "text generation"
    return category_of


def plugin_packages(classes: dict[str, type], category_of: dict[str, str]) -> set[str]:
    """Top-level packages of the classes that plugins registered."""
    return {cls.__module__.partition(".")[0] for name, cls in classes.items() if name not in category_of} - {"vllm"}


def moe_of_text(module: str) -> str:
    """`Reach.moe` for a module that cannot be imported, from words in its source text: `static`, `config` or `none`."""
    path = Path(inspect.getfile(sys.modules["vllm"])).parents[1].joinpath(*module.split("."))
    files = [*path.rglob("*.py")] if path.is_dir() else [path.with_suffix(".py")]
    text = ""
    with suppress(OSError):
        text = "".join(file.read_text(encoding="utf-8") for file in files)
    if LAYERS in text:
        return "static"
    return "config" if BY_CONFIG in text else "none"
