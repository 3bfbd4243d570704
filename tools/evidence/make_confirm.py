"""Writes confirm.md: decisions of `tuner plan --json` against the logs of real servers.

.venv/bin/python -m tools.evidence.make_confirm      # about three minutes on two cores

The logs are those of `tests/server_logs`, which holds the script that makes them. The decisions are made here, by the
same arguments in the same serving environments, for a model of the same kind. No verdict of it is stored.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fake_environment import tuner
from log_shapes import SHAPES
from server_logs.make_server_logs import STARTS, Start

from tools.evidence import ROOT
from tools.evidence.page import PAGES, TUNER, footer, python_of, run, shell_block, table, write

LOGS = ROOT / "tests" / "server_logs"
CROSSED = (
    ("0.19.1-false-colour", "0.19.1-true"),
    ("0.19.1-true", "0.19.1-false-colour"),
    ("0.19.1-ngram-failed", "0.19.1-true"),
)
"""Log -> the launch whose decision it is compared with: a server that was not started as decided."""
GPU = ("0.26.0-compiled", "0.26.0-loaded")
HEADS = ("log", "arguments of the server", "written", "the log says", "differs or is not said", "result", "exit code")

INTRODUCTION = """\
The logs are of real starts (`tests/server_logs`, made by `make_server_logs.py`), the decisions of the real
environments, for a thin Qwen3-MoE of which no verdict is stored. A written `true` is not kept where vLLM forces it off;
speculative decoding does not start on this CPU build."""
SHAPED = """\
The lines of the same logs as other programs hand them on, and as the lines of several starts and servers mix
(`tests/support/log_shapes.py`). The command ended with the exit code that is right for each shape."""


def main() -> None:
    """Make the page."""
    with tempfile.TemporaryDirectory() as folder:
        decisions = {name: decision(name, start, Path(folder)) for name, start in STARTS.items()}
        rows = [row(name, name, decisions, Path(folder)) for name in STARTS]
        crossed = [row(log, decided, decisions, Path(folder)) for log, decided in CROSSED]
        cut_rows = [row_of_cut(lines, decisions["0.19.1-true"], Path(folder)) for lines in cuts("0.19.1-true")]
        shapes = [row_of_shape(name, Path(folder)) for name in SHAPES]
    write(
        "confirm.md",
        "# `tuner confirm` against real servers",
        shell_block("tuner", "plan", "--json", "--python", "PYTHON", "MODEL", "--", "ARGUMENTS"),
        shell_block("tuner", "confirm", "LOG", "--decision", "FILE"),
        INTRODUCTION,
        table(HEADS, rows),
        "## A server that was not started as decided",
        table(HEADS, crossed),
        "## A compile cache, made and then loaded",
        "A first and a second start of one launch on a GPU (vLLM 0.26.0), without a decision to compare with.",
        table(("log", "start", "flag", "mode", "cache"), [row_of_gpu(name) for name in GPU]),
        "## A log that is cut",
        "The log of `0.19.1-true`, its first lines only.",
        table(("lines", "not said", "result", "exit code"), cut_rows),
        f"## {len(shapes)} shapes of a log",
        SHAPED,
        table(("shape", "result", "exit code"), shapes),
        footer("evidence"),
    )


def decision(name: str, start: Start, folder: Path) -> dict[str, Any]:
    """The document of a launch, with the folders of model and cache named as in the logs."""
    python = python_of(start.environment)
    model, store = folder / start.environment, folder / "verdicts.sqlite"
    if not model.exists():
        subprocess.run([ROOT / python, ROOT / "examples" / "tiny_checkpoint.py", model], cwd=folder, check=True)
    cache = ("--cache-root", f"/srv/{name}/cache")
    options = ("--python", python, "--store", str(store), *cache)
    planning = run(TUNER, "plan", "--json", *options, str(model), "--", "--max-model-len", "256", *start.args)
    document: dict[str, Any] = json.loads(planning.stdout.replace(str(folder), "/srv"))
    return document


def confirm(log: Path, document: dict[str, Any], folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of `tuner confirm`."""
    path = folder / "plan.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    confirming = run(TUNER, "confirm", str(log), "--decision", str(path), "--json")
    return confirming.returncode, json.loads(confirming.stdout)


def row(name: str, decided: str, decisions: dict[str, dict[str, Any]], folder: Path) -> tuple[str, ...]:
    """One log against one decision."""
    code, document = confirm(LOGS / f"{name}.log", decisions[decided], folder)
    start = STARTS[name]
    launch = " ".join([*start.args, *(f"{key}={value}" for key, value in start.variables.items())])
    return (
        name,
        f"`{launch}`",
        ", ".join(pairs(document, "written")),
        ", ".join(pairs(document, "effective")),
        ", ".join(doubts(document)) or "nothing",
        document["result"],
        str(code),
    )


def row_of_gpu(name: str) -> tuple[str, ...]:
    """The row of a log from a GPU, which is not compared with a decision."""
    document = json.loads(run(TUNER, "confirm", str(LOGS / f"{name}.log"), "--json").stdout)
    facts = {fact["name"]: fact["effective"] for fact in document["facts"]}
    return name, *(str(facts[fact]) for fact in ("start", "flag", "mode", "cache"))


def pairs(document: dict[str, Any], which: str) -> Iterator[str]:
    """The written or the effective values, without those that are the same in every row."""
    facts = {fact["name"]: fact for fact in document["facts"]}
    for name in ("start", "flag", "mode", "speculative", "cache"):
        if not (which == "written" and name == "start"):
            yield f"{name} {facts[name][which]}"


def doubts(document: dict[str, Any]) -> Iterator[str]:
    """The facts that keep a log from being confirmed, with their notes, and with the reason of the flag's value."""
    for fact in document["facts"]:
        if fact["outcome"] in {"differs", "not_said"}:
            reasons = "; ".join(reason for reason in (fact["note"], fact["why"]) if reason)
            note = f" ({reasons})" if reasons else ""
            yield f"{fact['name']} {fact['outcome'].replace('_', ' ')}{note}"


def cuts(name: str) -> Iterator[list[str]]:
    """The lines of a log: those before the engine's first line, those before the engine is ready, and all."""
    lines = (LOGS / f"{name}.log").read_bytes().decode().split("\n")
    for sign in ("Initializing a V1 LLM engine", "init engine (profile"):
        end = next(index for index, line in enumerate(lines) if sign in line)
        yield lines[:end]
    yield lines


def row_of_shape(name: str, folder: Path) -> tuple[str, str, str]:
    """The row of a shape of a log.

    Raises:
        ValueError: the command ends with another code than the shape must have.
    """
    shape = SHAPES[name]
    log, decision_file = folder / "shape.log", folder / "shape.json"
    log.write_bytes(shape.encode("\n".join(shape.lines) + "\n"))
    decision_file.write_text(json.dumps(shape.decision), encoding="utf-8")
    answer = tuner("confirm", log, "--decision", decision_file, "--json")
    if answer.code != shape.code:
        raise ValueError(f"{name}: exit code {answer.code}, and {shape.code} is right")
    return name, answer.document["result"], str(answer.code)


def row_of_cut(lines: list[str], document: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """The row of the first lines of a log."""
    log = folder / "cut.log"
    log.write_bytes("\n".join(lines).encode())
    code, confirmation = confirm(log, document, folder)
    unsaid = ", ".join(fact["name"] for fact in confirmation["facts"] if fact["outcome"] == "not_said")
    return str(len(lines)), unsaid or "nothing", confirmation["result"], str(code)


if __name__ == "__main__":
    sys.stderr.write(f"making {PAGES / 'confirm.md'}\n")
    main()
