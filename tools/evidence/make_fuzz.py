"""Gives the tuner hostile and damaged input by the thousand, and writes fuzz.md.

    .venv/bin/python -m tools.evidence.make_fuzz                       # 10,000 cases a target, about half an hour
    .venv/bin/python -m tools.evidence.make_fuzz --configs FOLDER      # of the configs in a folder, too

The targets are those of `tests/fuzz/`, which the tests run with some hundred cases each. Cases are drawn twice: by
hypothesis, and by atheris, where it is installed, which goes by the branches that a case reached.
"""

import argparse
import importlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fuzz.running import Tally, counting, run

from tools.evidence import ROOT
from tools.evidence.fuzz_faults import FAULTS
from tools.evidence.page import footer, table, write

CASES = {"hypothesis": 10_000, "atheris": 2_000}
"""Way to draw cases -> cases of each target. Atheris counts branches, and takes twice as long."""
TARGETS = {
    "config": "config.json -> shrink -> request",
    "report": "report -> judge",
    "row": "stored row -> look-up, list, export",
    "arguments": "argument list -> plan, export",
    "manifest": "manifest -> check, apply",
    "unit": "systemd unit, Quadlet -> check, apply",
    "recipe": "recipe of srt-slurm, graph of Dynamo -> check, apply",
    "ray": "configuration of Ray Serve LLM, RayService -> check, apply",
    "settings": "`tuner.toml`, `[tool.tuner]` -> check, serve",
    "archive": "archive -> unpack",
    "folder": "folder of graphs, record -> explain",
    "tree": "tree of autotune -> list, explain",
    "service": "request -> service",
}
"""Target in `tests/fuzz/` -> where its input goes."""
EXAMPLES = ROOT / "examples" / "models"
INSTRUMENTED = ["tuner", "rules", "cache"]
SEEDS, SEED_BYTES = 64, 4096
"""How many random inputs atheris begins with, and their size. A shorter input ends within a case."""
ABOUT_FAULTS = (
    "These faults were found while the targets were made: by a case, or by a look at what a case pointed at. "
    "Each has a test."
)
WRITTEN_EVERY = 250  # cases: libFuzzer ends the process without telling Python


def main() -> None:
    """Run all parts, each in a process of this script, and write the page; or run one part."""
    parser = argparse.ArgumentParser(description="Hostile input by the thousand.")
    parser.add_argument("--cases", type=int, help="of each target, in place of 10,000 and, by atheris, 2,000")
    parser.add_argument("--configs", type=Path, default=EXAMPLES, help="a folder of folders with a config.json each")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="targets at once")
    parser.add_argument("--part", nargs=3, metavar=("WAY", "TARGET", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        way, target, file = options.part
        PARTS[way](target, options.cases, options.configs, Path(file))
        return
    ways = [way for way in PARTS if way != "atheris" or find_spec("atheris")]
    with ThreadPoolExecutor(options.workers) as pool:
        parts = list(itertools.product(ways, TARGETS))
        tallies = dict(zip(parts, pool.map(lambda part: tally_of(*part, options), parts), strict=True))
    for (way, target), tally in tallies.items():
        for name, (times, trace) in tally.findings.items():
            print(way, target, times, name, trace, sep="\n")
    write("fuzz.md", *page(tallies, ways))
    if any(tally.findings for tally in tallies.values()):
        sys.exit("some cases broke a promise")


def tally_of(way: str, target: str, options: argparse.Namespace) -> Tally:
    """Run a part in a process of its own, so that a crash of the interpreter ends this part alone."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tally.json"
        cases = options.cases or CASES[way]
        command = [
            sys.executable,
            "-m",
            "tools.evidence.make_fuzz",
            "--cases",
            str(cases),
            "--configs",
            str(options.configs.resolve()),
        ]
        command += ["--part", way, target, str(file)]
        home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR"), folder)
        process = subprocess.run(
            command, cwd=folder, env={**os.environ, **home, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False
        )
        tally = read_tally(file) if file.exists() else Tally()
        if process.returncode or not tally.cases:
            output = process.stderr.decode(errors="replace")[-3000:]
            tally.findings[f"the run of {way} on {target} ended with {process.returncode}"] = (1, output)
    tally.seconds = time.monotonic() - begin
    print(way, target, tally.cases, f"{tally.seconds:.0f} s", len(tally.findings), flush=True)
    return tally


def run_hypothesis(target: str, cases: int, configs: Path, file: Path) -> None:
    """A part whose cases hypothesis draws."""
    module = importlib.import_module(f"fuzz.fuzz_{target}")
    with tempfile.TemporaryDirectory() as folder:
        keep(run(module.case, ground(module, Path(folder), configs), cases), file)


def run_atheris(target: str, cases: int, configs: Path, file: Path) -> None:
    """A part whose cases atheris draws: it varies those that reached new branches. libFuzzer ends the process."""
    import atheris  # noqa: PLC0415  only where it is installed

    with atheris.instrument_imports(include=INSTRUMENTED):
        module = importlib.import_module(f"fuzz.fuzz_{target}")
    tally, begin = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number in range(SEEDS):
            (corpus / str(number)).write_bytes(random.Random(number).randbytes(SEED_BYTES))  # noqa: S311  no secret
        (Path(folder) / "ground").mkdir()
        test: Any = counting(tally, module.case, ground(module, Path(folder) / "ground", configs), cases)

        def run_input(data: bytes) -> None:
            test.hypothesis.fuzz_one_input(data)
            if tally.cases % WRITTEN_EVERY == 0 or tally.cases >= cases:
                tally.seconds = time.monotonic() - begin
                keep(tally, file)
            if tally.cases >= cases:
                os._exit(0)  # libFuzzer would also count inputs that end within a case

        limits = ["-timeout=0", "-handle_alrm=0", "-rss_limit_mb=0", f"-max_len={2 * SEED_BYTES}"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], run_input)
        atheris.Fuzz()


PARTS: dict[str, Callable[[str, int, Path, Path], None]] = {"hypothesis": run_hypothesis, "atheris": run_atheris}


def ground(module: Any, folder: Path, configs: Path) -> Any:
    """The state that all cases of a target share."""
    return module.ground(folder, configs) if module.__name__.endswith("config") else module.ground(folder)


def keep(tally: Tally, file: Path) -> None:
    """Write a tally where the process that asked for it reads it."""
    draft = file.with_suffix(".tmp")
    document = {"words": tally.words, "findings": tally.findings, "seconds": tally.seconds}
    draft.write_text(json.dumps(document), encoding="utf-8")
    draft.replace(file)


def read_tally(file: Path) -> Tally:
    """The tally in a file."""
    document = json.loads(file.read_text(encoding="utf-8"))
    findings = {name: (times, trace) for name, (times, trace) in document["findings"].items()}
    return Tally(Counter(document["words"]), findings, document["seconds"])


def page(tallies: dict[tuple[str, str], Tally], ways: list[str]) -> list[str]:
    """The parts of the page."""
    rows = [
        (TARGETS[target], way, str(tally.cases), outcomes(tally), f"{tally.seconds:.0f}", str(len(tally.findings)))
        for (way, target), tally in tallies.items()
    ]
    total = sum(tally.cases for tally in tallies.values())
    drawn_by = "hypothesis and, fewer, by atheris, which goes by coverage" if "atheris" in ways else "hypothesis alone"
    introduction = (
        f"{total} cases, drawn by {drawn_by}. Each is a real input, damaged: configs, reports of the samples and the "
        "catalogue, stored verdicts, argument lists, published manifests, units, recipes, settings, an archive. Each "
        "must keep three promises: it raises only the tool's own exceptions, with a sentence; it ends within 30 s; and "
        "it keeps what the target's file in `tests/fuzz/` promises, above all that lost or damaged input makes no "
        "verdict safe. `tests/test_fuzz.py` runs some hundred of each."
    )
    heads = ("input", "drawn by", "cases", "outcomes", "s", "promises broken")
    faults = [(fault.target, fault.input_class, fault.symptom, fault.mend, f"`{fault.test}`") for fault in FAULTS]
    return [
        "# Hostile and damaged input",
        introduction,
        table(heads, rows),
        "## What was found, and mended",
        ABOUT_FAULTS,
        table(("input", "such as", "what happened", "what happens now", "test"), faults),
        footer("evidence-fuzz"),
    ]


def outcomes(tally: Tally) -> str:
    """The outcomes of a tally, the most frequent first."""
    return "; ".join(f"{word} {times}" for word, times in tally.words.most_common(6))


if __name__ == "__main__":
    main()
