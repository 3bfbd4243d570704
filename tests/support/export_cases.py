"""Test support: launches exported in every format, and what the vLLM they are for reads in the resulting lists."""

import json
import os
import subprocess
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from exported import CONDITIONAL, FORMS, NASTY, UNIFORM, Bench, bench_in
from manifest_argv import LWS, argv_of, container_argv

from tuner.exports.formats import Format

ROOT = Path(__file__).parents[2]
PARSER = Path(__file__).with_name("vllm_parser.py")
PARSE_LIMIT_S = 900
"""Only a parser that hangs takes longer, on the busiest machine."""
MODELS = (UNIFORM, CONDITIONAL)
LAUNCHES: dict[str, list[str]] = {
    "none": [],
    "plain": ["--max-model-len", "4096", "-tp", "2", "-pp", "2", "--compilation-config", '{"mode": 3}'],
    "nasty": NASTY,
    "own flag": ["--enforce-eager", "-cc.fast_moe_cold_start=false", "-cc.mode=0"],
}
MANIFESTS = [form for form in FORMS if form != Format.JSON]
FILES = {Format.VLLM_YAML, Format.CONFIGMAP}
"""Formats that hold the model and the compilation config alone."""
GIVEN: dict[str, set[str]] = {
    Format.KSERVE_LLMINFERENCESERVICE: {"model_tag", "model"},
    Format.HELM_PRODUCTION_STACK: {"host", "enable_prefix_caching"},
    Format.LEADERWORKERSET: {"nnodes", "node_rank", "master_addr", "distributed_executor_backend"},
    Format.VLLM_YAML: {"config", "model_tag", "model"},
    Format.CONFIGMAP: {"config", "model_tag", "model"},
}
"""What a format's template or file gives the server otherwise than the plan's own list: everything else is equal."""


@dataclass(frozen=True)
class Case:
    """One exported file.

    Attributes:
        form: its format.
        model: whose launch it is.
        name: which of `LAUNCHES`.
        launch: the plan's.
        planned: what vLLM reads in the plan's own list.
        exported: what it reads in the list that the file leads to.
    """

    form: str
    model: str
    name: str
    launch: dict[str, Any]
    planned: dict[str, Any]
    exported: dict[str, Any]

    def changed(self) -> set[str]:
        """The options that have another value than in the plan's own list."""
        pairs = [(self.planned[part], self.exported[part]) for part in ("values", "others")]
        return {key for ours, theirs in pairs for key in ours if ours[key] != theirs.get(key)}

    def holds(self) -> bool:
        """Whether the file starts what the plan says, as that vLLM reads both."""
        if "refused" in self.planned or "refused" in self.exported:
            return False
        same = (self.exported["compilation_config"] or {}) == self.launch["compilation_config"]
        return same and self.changed() <= GIVEN.get(self.form, set())


def read_cases(release: str, folder: Path) -> tuple[list[Case], dict[str, Any]]:
    """Every format of every launch, and the list of a set's worker, read by a release's vLLM, which starts once."""
    bench = bench_in(folder / "bench", release)
    asked, lists = [], []
    for model, name, form in product(MODELS, LAUNCHES, MANIFESTS):
        place = folder / f"{len(asked)}"
        place.mkdir()
        launch, found = exported_case(bench, model, name, form, place)
        asked.append((form, model, name, launch))
        lists += [launch["args"], found]
    *answers, worker = ask(python_of(release), folder, [*lists, worker_list(bench)])
    return [Case(*one, answers[2 * index], answers[2 * index + 1]) for index, one in enumerate(asked)], worker


def worker_list(bench: Bench) -> list[str]:
    """What a worker of a LeaderWorkerSet starts with."""
    spec = bench.documents("leaderworkerset", "--", "-pp", "2")[0]["spec"]["leaderWorkerTemplate"]
    return container_argv(spec["workerTemplate"]["spec"]["containers"][0], LWS)


def exported_case(bench: Bench, model: str, name: str, form: str, place: Path) -> tuple[dict[str, Any], list[str]]:
    """The plan's launch, and the list that the exported file leads to.

    The head of a `--config` file cannot show arguments that a line of comment would change; those are left out there.
    """
    words = [one for one in LAUNCHES[name] if not one or form not in FILES or " ".join(one.split()) == one]
    text = bench.text(form, "--", *words, model=model)
    return bench.launch("--", *words, model=model), argv_of(form, text, place)


def python_of(release: str) -> Path:
    """The interpreter of a real serving environment."""
    return ROOT / ".envs" / release / "bin" / "python"


def ask(python: Path, folder: Path, lists: list[list[str]]) -> list[dict[str, Any]]:
    """The answers of the vLLM behind `python`."""
    output = folder / "answer.json"
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.run(
            [python, PARSER, output],
            input="\n".join(map(json.dumps, lists)).encode(),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            timeout=PARSE_LIMIT_S,
            check=False,
        )
    assert process.returncode == 0, (folder / "log.txt").read_text(errors="replace")[-2000:]
    answers: list[dict[str, Any]] = json.loads(output.read_text(encoding="utf-8"))["cases"]
    return answers
