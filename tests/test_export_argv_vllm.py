"""What a server of each real release reads in the argument lists that exported files lead to."""

import json
import os
import subprocess
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from exported import CONDITIONAL, NASTY, RELEASES, UNIFORM, bench_in
from manifest_argv import LWS, argv_of, container_argv

from tuner.export import Format

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[1]
PARSER = Path(__file__).with_name("vllm_parser.py")
MAKE_TARGETS = {"current": "setup", "flag-live": "setup-flag-live"}
PARSE_LIMIT_S = 300
MODELS = (UNIFORM, CONDITIONAL)
LAUNCHES: dict[str, list[str]] = {
    "none": [],
    "plain": ["--max-model-len", "4096", "-tp", "2", "-pp", "2", "--compilation-config", '{"mode": 3}'],
    "nasty": [word for word in NASTY if word != "--max-num-seqs=1e3"],
    "inert": ["--enforce-eager", "-cc.fast_moe_cold_start=false", "-cc.mode=0"],
}
FORMATS = [form for form in Format if form is not Format.JSON]
PLACE = {"nnodes", "node_rank", "master_addr", "distributed_executor_backend"}
GIVEN: dict[Format, set[str]] = {
    Format.KSERVE_LLMINFERENCESERVICE: {"model_tag", "model"},
    Format.HELM_PRODUCTION_STACK: {"host", "enable_prefix_caching"},
    Format.LEADERWORKERSET: PLACE,
    Format.VLLM_YAML: {"config", "model_tag", "model"},
    Format.CONFIGMAP: {"config", "model_tag", "model"},
}
"""What a format's template or file gives the server otherwise than the plan's own list: everything else is equal."""


@dataclass(frozen=True)
class Case:
    """One exported file: the plan's launch, what vLLM reads in its list, and what it reads in the file's."""

    form: Format
    launch: dict[str, Any]
    planned: dict[str, Any]
    exported: dict[str, Any]
    name: str


@pytest.fixture(scope="module", params=sorted(RELEASES))
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Every format of every launch, read by one vLLM, which starts once."""
    release = str(request.param)
    python = ROOT / ".envs" / release / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{release}; `make {MAKE_TARGETS[release]}` creates it.")
    folder = tmp_path_factory.mktemp(release)
    bench = bench_in(folder / "bench", release)
    asked, lists = [], []
    for model, name, form in product(MODELS, LAUNCHES, FORMATS):
        words = words_of(form, name)
        place = folder / f"{len(asked)}"
        place.mkdir()
        launch = bench.launch("--", *words, model=model)
        asked.append((form, launch, f"{model} {name}"))
        lists += [launch["args"], argv_of(form, bench.text(form, "--", *words, model=model), place)]
    answers = ask(python, folder, lists)
    return [
        Case(form, launch, answers[2 * index], answers[2 * index + 1], name)
        for index, (form, launch, name) in enumerate(asked)
    ]


def words_of(form: Format, name: str) -> list[str]:
    """The arguments of a launch; the head of a `--config` file cannot show those that a line of comment would change."""
    words = LAUNCHES[name]
    in_head = form in {Format.VLLM_YAML, Format.CONFIGMAP}
    return [word for word in words if word == "" or not in_head or " ".join(word.split()) == word]


def ask(python: Path, folder: Path, lists: list[list[str]]) -> list[dict[str, Any]]:
    """The answers of the vLLM behind `python`."""
    output = folder / "answer.json"
    with (folder / "log.txt").open("wb") as log:
        done = subprocess.run(
            [python, PARSER, output],
            input="\n".join(map(json.dumps, lists)).encode(),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            timeout=PARSE_LIMIT_S,
            check=False,
        )
    assert done.returncode == 0, (folder / "log.txt").read_text(errors="replace")[-2000:]
    answers: list[dict[str, Any]] = json.loads(output.read_text(encoding="utf-8"))["cases"]
    return answers


def test_every_list_is_taken(cases: list[Case]) -> None:
    """No exported launch is refused by the parser of the release it was made for."""
    assert len(cases) == len(MODELS) * len(LAUNCHES) * len(FORMATS)
    assert [(case.form, case.name) for case in cases if "refused" in case.exported or "refused" in case.planned] == []


def test_the_compilation_config_is_the_plans(cases: list[Case]) -> None:
    """What vLLM stores is what the plan says, and nothing where it says nothing."""
    found = [(case.form, case.name, case.exported["compilation_config"] or {}) for case in cases]
    assert found == [(case.form, case.name, case.launch["compilation_config"]) for case in cases]


def test_no_other_value_changes(cases: list[Case]) -> None:
    """Every other option has the value that the plan's own list gives it, but for what the format itself gives."""
    for case in cases:
        given = GIVEN.get(case.form, set())
        changed = {
            key
            for part in ("values", "others")
            for key in case.planned[part]
            if case.planned[part][key] != case.exported[part].get(key)
        }
        assert changed <= given, (case.form, case.name)


def test_the_served_model_is_the_plans(cases: list[Case]) -> None:
    """Named as the plan names it; KServe's template has a folder of its own in its place."""
    for case in cases:
        values = case.exported["values"]
        if case.form is not Format.KSERVE_LLMINFERENCESERVICE:
            model = case.name.split(" ")[0]
            assert model in {values["model"], values["model_tag"]}, (case.form, case.name)


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_a_workers_list_is_taken_too(release: str, tmp_path: Path) -> None:
    """With its rank, and without a server for requests."""
    python = ROOT / ".envs" / release / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{release}; `make {MAKE_TARGETS[release]}` creates it.")
    bench = bench_in(tmp_path / "bench", release)
    spec = bench.documents("leaderworkerset", "--", "-pp", "2")[0]["spec"]["leaderWorkerTemplate"]
    words = container_argv(spec["workerTemplate"]["spec"]["containers"][0], LWS)
    others = ask(python, tmp_path, [words])[0]["others"]
    assert (others["nnodes"], others["node_rank"], others["headless"]) == ("2", "1", "True")
