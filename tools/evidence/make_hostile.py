"""Runs models that test the proof in real engines, and compares the layers that ran with the tuner's decisions.

    .venv/bin/python -m tools.evidence.make_hostile engines ENGINES.json [--python PYTHON] [--jobs N] [--only NAME...]
    .venv/bin/python -m tools.evidence.make_hostile decisions DECISIONS.json [--python PYTHON] [--only NAME...]
    .venv/bin/python -m tools.evidence.make_hostile page ENGINES.json [DECISIONS.json]      # writes hostile.md

`make evidence-hostile` does all three. The models are in tests/hostile_models, and what is true of them is in
hostile_truth.py there; the page cannot be written while an engine contradicts it, or while a wrong `true` is decided.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hostile_models.hostile_truth import ALLOWED, TRUTH, Launch, Word
from hostile_samples import PLUGIN, Asked, findings, hostile_model, own_reasons

from rules.proof_finding import ProofFinding, ProofWord
from tools.evidence import ROOT
from tools.evidence.page import footer, python_of, table, write

ENGINES = ROOT / "tools" / "evidence" / "hostile_engines.py"
TRACED = {"mode": 2, "backend": "eager"}
"""The mode that vLLM takes on a CPU, without Inductor. Inductor takes a minute more, and keeps these models' calls."""
COMPILED = {"mode": 2, "backend": "inductor"}
"""For models of which a compiler may drop a call."""
TO_COMPILE = (
    "Chain",
    "DeadResult",
    "DeadTail",
    "TimesZero",
    "TimesZeroAlpha",
    "TimesZeroBuffer",
    "EmptySlice",
    "ZerosLike",
    "ZeroedInPlace",
    "PowerZero",
    "Dropped",
    "SideBySide",
)
PROMPTS = (7, 300, 7, 40, 41, 550)
"""Lengths in tokens. The last is longer than a batch, so vLLM splits it."""
BATCH = 512
PLAIN = Launch()
HEADS = ("model", "launch", "an engine with the flag on", "`true`", "why", "the traces alone", "decided")
PAST_THE_END = "past the end"
SHARED = "MaxNumSeqsInside"
"""The model that is launched several times on one cache root."""
CACHED = {"mode": 3, "cudagraph_mode": "NONE", "compile_sizes": []}
"""With vLLM's own backend, whose compiled code is cached."""
STARTS = ((3, "one"), (8, "one"), (8, "another"))
"""`--max-num-seqs`, and which cache root."""


def main() -> None:
    """Run the engines, ask the tuner, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["engines", "decisions", "page"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--python", type=Path, default=ROOT / python_of("flag-live"))
    parser.add_argument("--jobs", type=int, default=2, help="engines at once")
    parser.add_argument("--only", nargs="+", default=list(TRUTH), help="names of models")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        if options.what == "engines":
            save(options.files[0], engines(options, Path(folder)))
        elif options.what == "decisions":
            save(options.files[0], decisions(options, Path(folder)))
        else:
            write_page(*(json.loads(file.read_text(encoding="utf-8")) for file in options.files))


def save(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows to a file."""
    file.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def launches_of(name: str) -> list[Launch]:
    """The plain launch of a model, and the one in which it is unsafe."""
    other = TRUTH[name].launch
    return [PLAIN] if other is None else [PLAIN, other]


def launch_words(launch: Launch) -> tuple[str, ...]:
    """Variables and arguments of a launch, as one list of words."""
    return (*(f"{name}={value}" for name, value in launch.variables.items()), *launch.arguments)


# ---- engines


def engines(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row for each model and launch: the layers that were meant and that ran in its engine."""
    jobs = []
    for name in options.only:
        model = hostile_model(folder / "models", name)
        jobs += [engine_job(model, launch) for launch in launches_of(name) if launch.options is not None]
    rows = with_names(jobs, run_engines(jobs, options.python, options.jobs, folder))
    if SHARED in options.only:
        starts = [cached_job(hostile_model(folder / "models", SHARED), *start, folder) for start in STARTS]
        rows += with_names(starts, run_engines(starts, options.python, 1, folder))
    return rows


def with_names(jobs: list[dict[str, Any]], answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each answer with the model and launch of its job."""
    return [{"name": job["name"], "launch": job["launch"], **answer} for job, answer in zip(jobs, answers, strict=True)]


def cached_job(model: Path, sequences: int, root: str, folder: Path) -> dict[str, Any]:
    """A launch that reads and fills a cache of compiled code."""
    options = {"max_num_seqs": sequences}
    job = engine_job(model, Launch(("--max-num-seqs", str(sequences), f"{root} cache root"), options=options))
    return {**job, "compilation": CACHED, "cached": str(folder / root)}


def engine_job(model: Path, launch: Launch) -> dict[str, Any]:
    """The job of a launch, as `hostile_engines.py` reads it."""
    return {
        "name": model.name,
        "launch": list(launch_words(launch)),
        "folder": str(model),
        "flag": True,
        "options": {"max_num_batched_tokens": BATCH, **(launch.options or {})},
        "variables": launch.variables,
        "cached": None,
        "compilation": COMPILED if model.name in TO_COMPILE else TRACED,
        "prompts": [length for length in PROMPTS if length < (launch.options or {}).get("max_model_len", 600)],
    }


def run_engines(jobs: list[dict[str, Any]], python: Path, processes: int, folder: Path) -> list[dict[str, Any]]:
    """The answers, in the order of the jobs."""
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    command = [python, ENGINES, folder / "jobs.json", folder / "answers.json", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN), "VLLM_CACHE_ROOT": str(folder / "cache")}
    subprocess.run(command, check=True, env=environment, cwd=folder, stdout=sys.stderr)
    answers: list[dict[str, Any]] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return answers


def layers(calls: list[list[str]], place: int) -> str:
    """The short names of a pass's layers: those that were meant (place 0), or those that ran (place 1)."""
    return " ".join(short(call[place]) for call in calls) or "nothing"


def short(layer: str) -> str:
    """`model.layers.2.mlp.experts` -> `2`; a layer of another part keeps the part's name."""
    if layer == PAST_THE_END:
        return layer
    part, _, number = layer.removesuffix(".mlp.experts").partition(".layers.")
    return number if part == "model" else f"{part} {number}"


def is_wrong(row: dict[str, Any]) -> bool:
    """Whether a pass of an engine ran another layer than was meant."""
    return any(map(differs, row.get("passes", {}).values()))


def differs(calls: list[list[str]]) -> bool:
    """Whether a call of a pass ran another layer than it meant."""
    return any(meant != ran for meant, ran in calls)


def engine_cell(row: dict[str, Any] | None) -> str:
    """What an engine did, in a cell of the table."""
    if row is None:
        return "not run"
    if "failed" in row:
        return f"does not start: {first_words(row['failed'])}"
    if "stopped" in row:
        return f"stops: {first_words(row['stopped'])}"
    passes = list(row["passes"].items())
    wrong = [(length, calls) for length, calls in passes if differs(calls)]
    if not wrong:
        _, calls = passes[0]
        return f"{layers(calls, 0)} in every pass, as meant"
    length, calls = wrong[0]
    which = "every pass" if len(wrong) == len(passes) else f"a pass of {length} tokens"
    return f"{which}: {layers(calls, 0)} meant, {layers(calls, 1)} ran"


def first_words(text: str) -> str:
    """An error's beginning."""
    return text.partition("\n")[0].replace("`", "'")[:90]


# ---- decisions


def decisions(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row for each model and launch: what the trace proves, and the flag that is decided."""
    groups: dict[tuple[tuple[str, str], ...], list[Asked]] = {}
    for name in options.only:
        for launch in launches_of(name):
            groups.setdefault(tuple(launch.variables.items()), []).append(Asked(name, launch.arguments))
    rows = []
    for variables, launches in groups.items():
        finding_of = findings(options.python, folder, launches, dict(variables))
        rows += [decision(question, dict(variables), finding) for question, finding in finding_of.items()]
    return rows


def decision(question: Asked, variables: dict[str, str], finding: ProofFinding) -> dict[str, Any]:
    """What the proof of a launch decides."""
    return {
        "name": question.name,
        "launch": [*(f"{name}={value}" for name, value in variables.items()), *question.arguments],
        "word": finding.word.value,
        "reasons": [reason.code for reason in finding.reasons],
        "own": own_reasons(finding),
    }


# ---- the page


def write_page(engines: list[dict[str, Any]], decided: list[dict[str, Any]] | None = None) -> None:
    """Write hostile.md."""
    engine = {(row["name"], tuple(row["launch"])): row for row in engines}
    answers = {(row["name"], tuple(row["launch"])): row for row in decided or []}
    rows = []
    for name, truth in TRUTH.items():
        for launch in launches_of(name):
            words = launch_words(launch)
            word = truth.word if launch is PLAIN else Word.WRONG
            answer = answers.get((name, words))
            check(name, word, engine.get((name, words)), answer)
            label = " ".join(words) or "plain"
            trace, flag = cells(answer)
            rows.append((name, label, engine_cell(engine.get((name, words))), word.value, truth.why, trace, flag))
    cached = [(*start_of(row), engine_cell(row)) for row in engines if is_cached(row)]
    parts = (INTRODUCTION, table(HEADS, rows), CACHE_HEAD, table(CACHE_HEADS, cached))
    write("hostile.md", "# Models that test the proof", *parts, footer("evidence-hostile"))


def is_cached(row: dict[str, Any]) -> bool:
    """Whether a launch is one on a cache."""
    return bool(row["launch"]) and row["launch"][-1].endswith(" cache root")


def start_of(row: dict[str, Any]) -> tuple[str, str]:
    """Arguments and cache root of a launch on a cache."""
    *arguments, root = row["launch"]
    return " ".join(arguments), root


CACHE_HEADS = ("launch", "cache", "an engine with the flag on")
CACHE_HEAD = (
    "## Compiled code of another launch\n\n"
    "`MaxNumSeqsInside` leaves out layer 1 where `--max-num-seqs` is 3.\n"
    "It was launched with 3, then with 8 on the same cache root, then with 8 on another one.\n"
    "vLLM's key is the same for the first two, so the second ran what the first had traced.\n"
    "So a `true` is written together with a cache root of its own.\n"
    "These engines have the mode of a GPU, with its cache."
)


INTRODUCTION = (
    "Each branch stands once in a compiled region (`Inside`) and once around one (`Outside`); the others are planted "
    "faults and safe models.\n"
    "`tests/hostile_models` holds them, and `hostile_truth.py` there says what is true of each.\n\n"
    "An engine of vLLM 0.19.1 ran each with the flag on, and with the MoE operator that a GPU calls.\n"
    "Each call carries the name of its own layer, so one engine shows what was meant and what ran.\n"
    "`the traces alone` is the result of the proof without the reasons that hold for every plugin.\n"
    "`decided` is the flag that the tuner writes."
)


def cells(answer: dict[str, Any] | None) -> tuple[str, str]:
    """What the traces alone prove, and the flag that is decided; both empty if there is no decision."""
    if answer is None:
        return "", ""
    alone = ", ".join(dict.fromkeys(answer["own"])) or "proved"
    return alone, "true" if answer["word"] == ProofWord.PROVED else "false"


def check(name: str, word: Word, row: dict[str, Any] | None, answer: dict[str, Any] | None) -> None:
    """Refuse a row that contradicts itself.

    Raises:
        SystemExit: an engine shows something else than is called true, or a wrong `true` was decided.
    """
    if row is not None and not agrees(word, row):
        raise SystemExit(f"{name}: {word} does not fit what an engine showed: {engine_cell(row)}")
    if answer is not None and word not in ALLOWED and not answer["reasons"]:
        raise SystemExit(f"{name}: `true` was decided, and it is {word}")


def agrees(word: Word, row: dict[str, Any]) -> bool:
    """Whether an engine fits the word. Not every start shows a wrong layer, so each engine that starts fits `WRONG`."""
    if word is Word.BROKEN:
        return "failed" in row
    if word is Word.LOUD:
        return "failed" in row or "stopped" in row
    if word is Word.WRONG:
        return "failed" not in row
    return "failed" not in row and "stopped" not in row and not is_wrong(row)


if __name__ == "__main__":
    main()
