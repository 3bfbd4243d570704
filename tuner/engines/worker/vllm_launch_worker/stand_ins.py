"""Observes a launch for its proof, with stand-ins for what this machine or the model's folder lacks."""

import json
from pathlib import Path
from typing import Any

from shared_worker.build_stand_ins import BuildStandIns, Note
from shared_worker.control import read_json
from shared_worker.plain_config import ensure_config_class
from vllm_launch_worker import launch
from vllm_launch_worker.proof import observe as proof

CACHED = "--enable-prefix-caching"
"""Part of the message with which vLLM refuses prefix caching."""
UNCACHED = "--no-enable-prefix-caching"
"""The argument that turns prefix caching off."""


def observe(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Observe a launch with stand-ins. The arguments and the result are those of `observe` in `proof/observe.py`.

    Each stand-in that acted is an assumption of every rank. A rank runs in a process of its own, so the notes go
    through a file.
    """
    notes = folder / "stand-ins.jsonl"

    def note(kind: str, detail: str) -> None:
        with notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "detail": detail}) + "\n")

    note_plain_config(request["args"], note)
    with BuildStandIns(note).installed():
        answer = proof.observe(request, folder)
        if is_refused_for_caching(answer):
            note("prefix_caching_off", UNCACHED)
            (folder / "uncached").mkdir()
            answer = proof.observe({**request, "args": [*request["args"], UNCACHED]}, folder / "uncached")
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    assumptions = [json.loads(line) for line in dict.fromkeys(lines)]
    for rank in answer["ranks"]:
        rank["assumptions"] = [*rank["assumptions"], *assumptions]
    return answer


def is_refused_for_caching(answer: dict[str, Any]) -> bool:
    """Whether vLLM refused the launch because of prefix caching. It does so only for some models and platforms.

    For example, vLLM 0.32.0 refuses each launch of Kimi Linear on a CPU (config/vllm.py, validate_mamba_block_size).
    """
    for rank in answer["ranks"]:
        for failure in rank["failures"]:
            if failure["code"] == "not_built" and CACHED in failure["fields"]["error"]:
                return True
    return False


def note_plain_config(args: list[str], note: Note) -> None:
    """Register a plain config class if neither vLLM nor transformers has one for the config.

    A launch that lets the model's own code run takes the class that `auto_map` names.

    Args:
        args: the arguments of `vllm serve`. The first one is the model, unless it is an option.
        note: takes the kind and detail of an assumption.
    """
    file = Path(args[0]) / "config.json" if args else Path()
    if not file.is_file():
        return
    config = read_json(file)
    if "auto_map" in config and launch.parse(args).trust_remote_code:
        return
    if ensure_config_class(config):
        note("plain_config", f"model_type {config['model_type']}")
