"""Test support: what `tuner export` writes for real models in environments of several releases.

Each bench is an environment described as one with eight GPUs and a store with a real report in it. The model is a hub
id in a local hub cache, as a cluster would name it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fake_environment import (
    ERNIE,
    INERT,
    MIXTRAL,
    SETTABLE,
    Answer,
    also_proved,
    described,
    sample,
    sample_in,
    serving_in,
    tuner,
)

from tuner.environment.document import environment_document
from tuner.exports.choices import Wrap
from tuner.exports.formats import Format

UNIFORM, CONDITIONAL = "mistralai/Mixtral-8x7B-v0.1", "baidu/ERNIE-4.5-VL-28B-A3B-PT"
RELEASES = {"flag-live": SETTABLE, "current": INERT}
"""Serving environment under `.envs/` -> the versions in it."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PATCHES = ["patch", *(f"patch --wrap {wrap}" for wrap in Wrap)]
"""The patch, plain and in every wrapping."""
FORMS = [form for form in Format if form is not Format.PATCH] + PATCHES
"""Every value of `--format`, with the options that choose another file."""
CLUSTER = [form for form in FORMS if form not in {Format.JSON, Format.VLLM_YAML, Format.ENV, Format.DOCKERFILE}]
"""The forms that are YAML for a cluster or a chart."""
NEEDED = {Format.WARM_JOB: {"--cache-root": "/cache", "--image": "registry:5000/vllm-and-tuner:1"}}
"""What a format does not do without."""
NASTY = [
    "--served-model-name",
    'it\'s a "name"',
    "$HOME $(HF_TOKEN) $$(X) ${X} `id` $",
    "a\\b \\$ * ? [x] {a,b} ~ # ! | & ; < >",
    "ünï → 模型 \U0001f600",
    "two\nlines\n",
    " leading and  double ",
    "",
    "--chat-template",
    "{% for m in messages %}{{ m['content'] }}{{- '\\n' -}}{% endfor %}",
    "--override-generation-config",
    '{"a": "it\'s $HOME", "b": {"c": ["\\"x\\"", "{{ y }}"]}}',
    "--hf-overrides",
    '{"note": "yes: no, #1"}',
    "-cc.cudagraph_mode=PIECEWISE",
    "-cc.custom_ops+",
    "none,+rms_norm",
    "--tokenizer-revision=1e3",
]
"""Arguments with everything that shells, YAML and templates read otherwise than written."""
PROVED: list[list[str]] = [
    NASTY,
    ["-tp", "2"],
    ["-tp", "4", "-pp", "2"],
    ["-tp", "2", "--compilation-config", '{"mode": 3}'],
    ["-tp", "2", "-pp", "2", "--compilation-config", '{"mode": 3}'],
]
"""Launches of the uniform model that are proved beside the plain one."""


@dataclass(frozen=True)
class Bench:
    """One environment and one store, with what is needed to ask there."""

    folder: Path
    environment: Path
    store: Path

    def ask(self, form: str, *args: object, model: str = UNIFORM, code: int = 0, **env: str) -> Answer:
        """Export in a format; arguments of vLLM's behind `--`."""
        where = ("--environment", self.environment, "--store", self.store, "--format", *form.split())
        needed = {name: value for name, value in NEEDED.get(form, {}).items() if name not in args}
        where += tuple(word for pair in needed.items() for word in pair)
        variables = {"HOME": "/home/somebody", "HF_HOME": str(self.folder / "hub"), **env}
        return tuner("export", model, *where, *args, code=code, env=variables)

    def text(self, form: str, *args: object, model: str = UNIFORM) -> str:
        """What an export writes."""
        return self.ask(form, *args, model=model).out

    def launch(self, *args: object, model: str = UNIFORM) -> dict[str, Any]:
        """The launch of the plan behind every format."""
        found: dict[str, Any] = self.ask("json", *args, model=model).document["launch"]
        return found

    def documents(self, form: str, *args: object, model: str = UNIFORM) -> list[dict[str, Any]]:
        """The documents of a YAML format."""
        return list(yaml.safe_load_all(self.text(form, *args, model=model)))


def bench_in(folder: Path, release: str, platform: str = "cuda") -> Bench:
    """An environment of a release, with verdicts on two models stored."""
    here = serving_in(folder / "env", RELEASES[release]).read()
    gpus = {"gpu": "NVIDIA H100 80GB HBM3", "gpu_count": 8} if platform == "cuda" else {}
    environment = described(here, python="/opt/vllm/bin/python", site=(), platform=platform, **gpus)
    store = folder / "verdicts.sqlite"
    for name, model in ((UNIFORM, MIXTRAL), (CONDITIONAL, ERNIE)):
        hub_model(folder / "hub", name, model)
        report = sample(model, release)
        sample_in(store, environment, model, also_proved(report, *PROVED) if model == MIXTRAL else report)
    saved = folder / "environment.json"
    saved.write_text(json.dumps(environment_document(environment)), encoding="utf-8")
    return Bench(folder, saved, store)


def hub_model(home: Path, name: str, model: Path) -> None:
    """Lay a model's config into a local hub cache."""
    cached = home / "hub" / ("models--" + name.replace("/", "--"))
    snapshot = cached / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    (snapshot / "config.json").write_bytes((model / "config.json").read_bytes())
