"""Drafts of speculative decoding: by what a config is known as that of a draft, and how one is judged.

Most classes of drafts ask the engine for its target while they are built, so vLLM cannot build one alone.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

DRAFT_NAME = re.compile(r"[Ee]agle(?!2)|DFlash|DSpark|Draft|Medusa|MTP|NextN|Speculat")
"""Part of the names of vLLM's drafts (vLLM 0.16.0 to 0.32.0, models/registry.py). Eagle2 and Eagle2_5_VL are models for
images."""
DRAFT_FIELDS = ("draft_vocab_size", "eagle_config", "dflash_config", "speculators_config", "target_hidden_size")
"""Fields that only the config of a draft has (vLLM 0.16.0 to 0.32.0, transformers_utils/configs and
config/speculative.py)."""
METHODS = (("Eagle3", "eagle3"), ("Eagle", "eagle"))
"""Start of an architecture -> its method, which vLLM else takes from the name of the model's folder alone
(vLLM 0.16.0 to 0.32.0, config/speculative.py)."""
TARGET = "TARGET"
"""Stands for the target in a command where the draft's config does not name it."""


def sign_of_draft(config: Mapping[str, Any]) -> str:
    """What in a config.json says that the model is a draft: `its architecture X` or `its field X`; else empty."""
    architecture = _architecture(config)
    if DRAFT_NAME.search(architecture):
        return f"its architecture {architecture:.200}"
    for field in DRAFT_FIELDS:
        if config.get(field) is not None:
            return f"its field {field}"
    return ""


def target_of(config: Mapping[str, Any]) -> str:
    """Which model the target of a draft is: its name, its width, or just the words for it, as far as the config says.

    Such as `TARGET, a model whose hidden_size is 4096`: the first word stands in the command that judges the draft.
    """
    name = _target_name(config)
    if name:
        return name
    width = config.get("target_hidden_size")
    words = f"a model whose hidden_size is {width}" if isinstance(width, int) else "the model that it drafts for"
    return f"{TARGET}, {words}"


def probing_beside_target(
    name: str, revision: str | None, config: Mapping[str, Any], tool_options: Sequence[str]
) -> tuple[str, ...]:
    """The command that judges a draft beside its target, as words.

    Args:
        name: the draft, as the user wrote it.
        revision: its commit on the hub; None for a folder.
        config: its config.json.
        tool_options: options of this tool that the command needs as well, such as `--python PATH`.
    """
    speculative: dict[str, Any] = {"model": name}
    if revision:
        speculative["revision"] = revision
    for start, method in METHODS:
        if "method" not in speculative and _architecture(config).startswith(start):
            speculative["method"] = method
    speculative["num_speculative_tokens"] = 1  # vLLM asks for it, unless the config has a number of its own
    target = _target_name(config) or TARGET
    return ("tuner", "probe", *tool_options, target, "--", "--speculative-config", json.dumps(speculative))


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _target_name(config: Mapping[str, Any]) -> str:
    """The target, which a config in the format of the library speculators names as its verifier; else empty."""
    speculators = config.get("speculators_config")
    verifier = speculators.get("verifier") if isinstance(speculators, Mapping) else None
    name = verifier.get("name_or_path") if isinstance(verifier, Mapping) else None
    return name[:200] if isinstance(name, str) else ""
