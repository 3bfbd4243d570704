"""Follows a planted fault from `tuner tune` to a right server, and writes docs/evidence/ladder-story.json.

    .venv/bin/python -m tools.evidence.make_ladder_story [--python PYTHON] [--fault FAULT] [-- VLLM ARGS]
    .venv/bin/python -m tools.evidence.make_ladder page      # shows it

Real servers answer a prompt three times: without the fault, with it, and with it under `tuner serve` after
`tuner tune`. The model is a checkpoint of `examples/tiny_checkpoint.py`, with its own weights and tokenizer. On a CPU
the fault is one of compiled code; a GPU has those of CUDA graphs, too. Ends with 1 if the parts tell different stories.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from planted_faults.planted_faults import FAULTS
from vllm_server import SERVER_ENVIRONMENT, running_server

from tools.evidence.page import PAGES, TUNER, bare, python_of, split_words
from tools.evidence.run_ladders import ROOT, python_path

STORY = PAGES / "ladder-story.json"
ARGS = ("--max-model-len", "128", "--max-num-batched-tokens", "64", "--max-num-seqs", "4")
MODEL = "model"
"""The folder of the checkpoint."""
IN_FOLDER = re.compile(rf"{re.escape(tempfile.gettempdir())}/\S*")
PROMPT = "the river carries the old"
TUNED_WRONG, FINE, CONTRADICTS = 5, 0, 5
LONGEST = 6000
"""Characters of an output that are kept."""
Step = dict[str, Any]


class Stage:
    """The place of the story: a folder, a model, a store, and a fault in every process of vLLM.

    Args:
        folder: an empty folder.
        python: the interpreter of the serving environment.
        fault: what is planted.
        args: the arguments of `vllm serve` behind the model.
    """

    def __init__(self, folder: Path, python: str, fault: str, args: list[str]) -> None:
        self._folder, self._python, self._args = folder, python, args
        self._where = ["--python", python, "--store", "verdicts.sqlite"]
        self._plugins = {"PYTHONPATH": python_path()}
        self.environment: dict[str, str] = {}
        self._faulty = {**self._plugins, "PLANTED": fault}
        script = str(ROOT / "examples" / "tiny_checkpoint.py")
        subprocess.run([python, script, MODEL], check=True, cwd=folder, capture_output=True)

    def tuner(self, title: str, *words: str, code: int, out: Path | None = None) -> Step:
        """Run a command of the tool, and keep its output."""
        environ = {**os.environ, **SERVER_ENVIRONMENT, **self._faulty}
        command = [TUNER, *words]
        process = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, env=environ)
        if out is not None:
            out.write_text(process.stdout, encoding="utf-8")
        text = "" if out is not None else process.stdout
        own = [word for word in words if word not in self._where]
        return self._step(title, ["tuner", *own], text, process.returncode, code)

    def ask_server(self, title: str, command: list[str], name: str, *, faulty: bool) -> Step:
        """Start a real server, and ask it one prompt. `NAME.log` is its log while it runs."""
        extra = self._faulty if faulty else self._plugins
        with running_server(command, self._folder / name, extra, workplace=self._folder) as server:
            answer = server.complete(PROMPT)
            (self._folder / f"{name}.log").write_text(server.log_text(), encoding="utf-8")
        words = [Path(command[0]).name, *(word for word in command[1:] if word not in self._where)]
        return self._step(title, words, answer.strip(), FINE, FINE)

    def _step(self, title: str, words: list[str], output: str, code: int, expected: int) -> Step:
        home = str(Path.home())
        text = IN_FOLDER.sub("FOLDER", bare(output)).replace(home, "~")
        command = " ".join(words)
        sys.stderr.write(f"{title}: exit code {code}\n")
        return {"title": title, "command": command, "output": text[:LONGEST], "code": code, "expected": expected}

    def all_steps(self) -> list[Step]:
        """All steps of the story."""
        vllm = str(Path(self._python).with_name("vllm"))
        plain = [vllm, "serve", MODEL, *self._args]
        plan, image = self._folder / "plan.json", self._folder / "image.json"
        steps = [
            self.ask_server("A server without the fault", plain, "sound", faulty=False),
            self.ask_server("The same server with the fault", plain, "faulty", faulty=True),
            self.tuner("tune", "tune", *self._where, MODEL, "--", *self._args, code=TUNED_WRONG),
            self.tuner("plan", "plan", *self._where, MODEL, "--", *self._args, code=FINE),
        ]
        self.tuner("plan for confirm", "plan", "--json", *self._where, MODEL, "--", *self._args, code=FINE, out=plan)
        self.tuner("environment", "env", "--json", "--python", self._python, code=FINE, out=image)
        self.environment = environment_of(image)
        under = [TUNER, "serve", *self._where, MODEL, *self._args]
        steps.append(self.ask_server("serve", under, "tuned", faulty=True))
        for title, name, code in (
            ("confirm: the tuned server", "tuned", FINE),
            ("confirm: the server as it stood", "faulty", CONTRADICTS),
        ):
            steps.append(self.tuner(title, "confirm", f"{name}.log", "--decision", plan.name, code=code))
        for title, file, args, code in (
            ("check: the launch as it stood", "as-it-stood.sh", self._args, CONTRADICTS),
            ("check: the launch that is written", "as-written.sh", planned_arguments(plan), FINE),
        ):
            (self._folder / file).write_text(f"vllm serve {MODEL} {' '.join(args)}\n", encoding="utf-8")
            words = ("check", *self._where[2:], "--environment", image.name, file)
            steps.append(self.tuner(title, *words, code=code))
        return steps


def environment_of(image: Path) -> dict[str, str]:
    """The release of vLLM and the device in a saved environment."""
    environment = json.loads(image.read_text(encoding="utf-8"))["environment"]
    return {"vllm": environment["vllm"], "device": environment["gpu"] or environment["platform"]}


def planned_arguments(plan: Path) -> list[str]:
    """The arguments behind the model in a plan."""
    words: list[str] = json.loads(plan.read_text(encoding="utf-8"))["launch"]["args"]
    return words[1:]


def contradictions(steps: list[Step]) -> list[str]:
    """Where the parts tell different stories: exit codes that are not as they should be, and answers."""
    wrong = [f"{step['title']}: exit code {step['code']}" for step in steps if step["code"] != step["expected"]]
    answers = {step["title"]: step["output"] for step in steps}
    if answers["The same server with the fault"] == answers["A server without the fault"]:
        wrong.append("the fault does not move the answer")
    if answers["serve"] != answers["A server without the fault"]:
        wrong.append("the tuned server does not answer as the sound one")
    return wrong


def main(words: list[str]) -> None:
    """What the docstring of the module says."""
    own, args = split_words(words)
    parser = argparse.ArgumentParser(description="Tell the story of one planted fault.")
    parser.add_argument("--python", default=str(ROOT / python_of("current")), help="of the serving environment")
    parser.add_argument("--fault", default="compiled", choices=sorted(FAULTS))
    options = parser.parse_args(own)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), str(Path(options.python).absolute()), options.fault, args or list(ARGS))
        steps = stage.all_steps()
    story = {"fault": options.fault, **stage.environment, "steps": steps}
    STORY.write_text(json.dumps(story, indent=1) + "\n", encoding="utf-8")
    wrong = contradictions(steps)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
