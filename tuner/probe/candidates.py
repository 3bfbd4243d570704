"""Which registered MoE architectures can be probed, and with which configuration.

The worker lists what the environment's vLLM registers (`registry.py` there). Configurations of the user's win; for the
others the defaults of a config class are written to disk, so that they become model folders too.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rules.errors import ErrorKind, TunerError
from tuner.model.model import CONFIG, read_config
from tuner.model.shrink import declares_experts

TEXT = "text generation"
DRAFT = "speculative decoding"
WITHOUT = (DRAFT, "transformers backend")
"""For these categories the worker does not look for a configuration, and says why."""
MAX_DEPTH = 4
"""Levels of sub-folders that are searched for configurations; a hub cache keeps them in the third."""
BY_CONFIG = "its language model is chosen by the config; give one with --configs"


@dataclass(frozen=True)
class Candidate:
    """One registered MoE architecture, with one configuration or none.

    Attributes:
        architecture: as registered.
        category: vLLM's: `text generation`, `multimodal`, `speculative decoding`, …; `plugin` for what a plugin adds.
        moe: how it gets MoE layers: `static`, `literal`, `config`; `none` where only the user's config says so.
        folder: the folder of a `config.json`; None if the user must give one.
        source: `folder` for the user's, else the config class and what was asked of it; empty without a folder.
        reason: why there is no folder; empty if there is one.
    """

    architecture: str
    category: str
    moe: str
    folder: str | None
    source: str
    reason: str


def candidates(
    listing: Mapping[str, Any], configs: Path | None, home: Path, *, text_only: bool, match: str | None
) -> list[Candidate]:
    """Every registered MoE architecture in vLLM's order, once for each configuration that the user has for it.

    Args:
        listing: what `list_registry` returned.
        configs: folder with `config.json` files, in it or below; None: the user has none.
        home: configurations that the worker made go to `configs/<vLLM version>/<architecture>` below it.
        text_only: only architectures that vLLM files under text generation.
        match: only names that match this pattern, as in a shell; case counts.

    Raises:
        TunerError: kind `usage`: `configs` is not a folder; kind `store`: a configuration cannot be written.
    """
    users_configs = _users_configs(configs) if configs is not None else {}
    place = home / "configs" / quote(str(listing["environment"]["vllm"]), safe="+")
    chosen: list[Candidate] = []
    for entry in listing["architectures"]:
        name = entry["architecture"]
        if (match is None or fnmatchcase(name, match)) and (not text_only or entry["category"] == TEXT):
            chosen += _with_users(entry, users_configs.get(name, [])) or _with_default(entry, place)
    return chosen


def _with_users(entry: Mapping[str, Any], configs: list[tuple[Path, dict[str, Any]]]) -> list[Candidate]:
    """A candidate for each of the user's configurations; where the class may lack MoE layers, those with experts."""
    if entry["category"] == DRAFT:
        return []
    has_moe_layers = entry["moe"] in ("static", "literal")
    folders = [folder for folder, config in configs if has_moe_layers or declares_experts(config)]
    return [_candidate(entry, str(folder), "folder", "") for folder in folders]


def _with_default(entry: Mapping[str, Any], place: Path) -> list[Candidate]:
    """The candidate with the configuration that the worker made, if it made one; none without a MoE layer."""
    if entry["moe"] == "none":
        return []
    reason = _why_not(entry)
    if reason:
        return [_candidate(entry, None, "", reason)]
    folder = place / quote(entry["architecture"], safe="")
    _write(folder, entry["config"])
    return [_candidate(entry, str(folder), entry["source"], "")]


def _why_not(entry: Mapping[str, Any]) -> str:
    """Why the architecture cannot be probed with what the worker made; empty if it can."""
    config = entry["config"]
    if entry["category"] in WITHOUT:
        return str(entry["reason"])
    if entry["error"]:
        return f"its class cannot be imported in this environment: {entry['error']}"
    if config is not None and declares_experts(config):
        return ""
    if entry["moe"] == "config":
        return BY_CONFIG
    if config is not None:
        return f"the defaults of {entry['source']} declare no experts; give a config with --configs"
    return f"{entry['reason']}; give a config with --configs"


def _candidate(entry: Mapping[str, Any], folder: str | None, source: str, reason: str) -> Candidate:
    return Candidate(entry["architecture"], entry["category"], entry["moe"], folder, source, reason)


def _users_configs(configs: Path) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """Architecture -> folders and their configurations, by path; other kinds of `config.json` are skipped."""
    by_architecture: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder in config_folders(configs):
        with suppress(TunerError):
            config = read_config(folder)
            names = config.get("architectures")
            if isinstance(names, list) and names and isinstance(names[0], str):
                by_architecture.setdefault(names[0], []).append((folder.absolute(), config))
    return by_architecture


def config_folders(root: Path) -> Iterator[Path]:
    """The folder and the folders below it that hold a `config.json`; a link counts only if it leads inside."""
    if not os.path.isdir(root):  # noqa: PTH112  the method raises for a name that is too long
        raise TunerError(
            f"There is no folder {root}.",
            hint="--configs names a folder with config.json files, in it or below.",
            kind=ErrorKind.USAGE,
        )
    inside = root.resolve()
    for name, folders, files in os.walk(root):
        folder = Path(name)
        depth = len(folder.relative_to(root).parts)
        folders[:] = sorted(folders) if depth < MAX_DEPTH else []
        if CONFIG in files and (depth == 0 or (folder / CONFIG).resolve().is_relative_to(inside)):
            yield folder


def _write(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the `config.json`, whole or not at all, unless it is there already."""
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    file = folder / CONFIG
    with suppress(OSError, UnicodeDecodeError):
        if file.read_text(encoding="utf-8") == text:
            return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as draft:
            draft.write(text)
        Path(draft.name).replace(file)
    except OSError as error:
        raise TunerError(
            f"{file} cannot be written: {error.strerror}.",
            hint="Free some space there, or keep the store elsewhere with --store.",
            kind=ErrorKind.STORE,
        ) from error
