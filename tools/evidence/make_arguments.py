"""Compares how argument lists are read with the parsers of seven vLLM releases, and writes arguments.md.

.venv/bin/python -m tools.evidence.make_arguments    # after `make setup setup-flag-live setup-parsers`
"""

import argparse
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from argument_lists import FILE, Composed, composed
from argument_promises import PROMISES, Case, case_of
from hypothesis import HealthCheck, Phase, given, settings
from real_parsers import RELEASES, WHOLE, RealParser, missing, real_parser

from tools.evidence.page import footer, table, write
from tuner.arguments.vllm_options import scan

LISTS = 2000


@dataclass
class Tally:
    """Counts of the lists that one release was asked about, and of their outcomes."""

    counts: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    mismatches: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def main() -> None:
    """Ask every release, and write the page; end with 1 if the tuner reads a list otherwise than vLLM."""
    parser = argparse.ArgumentParser(description="Argument lists against the real parsers.")
    parser.add_argument("--lists", type=int, default=LISTS)
    parser.add_argument("--release", action="append", choices=list(RELEASES))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="releases at once")
    options = parser.parse_args()
    reasons = set(filter(None, map(missing, RELEASES)))
    if reasons:
        sys.exit(" ".join(sorted(reasons)))
    versions = options.release or list(RELEASES)
    with ProcessPoolExecutor(options.workers) as pool:
        tallies = dict(zip(versions, pool.map(tally_of, versions, [options.lists] * len(versions)), strict=True))
    for version, tally in tallies.items():
        for promise, lists in tally.mismatches.items():
            print(version, promise, len(lists), *lists[:5], sep="\n    ")
    if not options.release:
        write("arguments.md", *page(tallies, options.lists))
    if any(tally.mismatches for tally in tallies.values()):
        sys.exit("some lists are read otherwise than vLLM reads them")


def tally_of(version: str, lists: int) -> Tally:
    """Ask one release about so many lists."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, real_parser(version, Path(folder)) as real:
        checks = list(HealthCheck)
        plain = settings(max_examples=lists, derandomize=True, database=None, deadline=None, phases=[Phase.generate])

        @settings(plain, suppress_health_check=checks)
        @given(composed())
        def ask(composed_list: Composed) -> None:
            if composed_list.file is not None:
                (real.folder / FILE).write_text(composed_list.file, encoding="utf-8")
            count(tally, case_of(composed_list.args, real, composed_list.file), composed_list, real)

        ask()
    return tally


def count(tally: Tally, case: Case, composed_list: Composed, real: RealParser) -> None:
    """Count the outcome of one list."""
    tally.counts.update(["lists", kind_of(case)])
    for promise in PROMISES:
        try:
            promise(case)
        except AssertionError as broken:
            tally.mismatches[promise.__name__].append(f"{real.version} {composed_list} {str(broken)[:200]}")
    if case.accepted and case.ours:
        if case.ours.dropped:
            tally.counts["keys dropped"] += 1
            tally.drops[forms(composed_list)] += 1
        for option in ("--hf-overrides", "--speculative-config"):
            tally.drops[f"{option}: several"] += any(f"several {option} " in warning for warning in case.ours.warnings)
        tally.drops["a false in the --config file"] += any(": false` of" in warning for warning in case.ours.warnings)
        tally.drops["--config=FILE"] += any("vLLM ignores --config=" in warning for warning in case.ours.warnings)


def kind_of(case: Case) -> str:
    """Who refuses a list."""
    if case.accepted:
        return "accepted"
    return "refused by both" if case.ours is None else "refused by vLLM alone"


def forms(composed_list: Composed) -> str:
    """In which forms a list states its compilation config."""
    uses = [use for use in scan(composed_list.args)[0] if use.option.field == "compilation_config"]
    plain, dotted = sum(not use.path for use in uses), {use.spelling for use in uses if use.path}
    there = []
    if composed_list.file and "compilation" in composed_list.file:
        there.append("the --config file")
    if plain:
        there.append("several JSON values" if plain > 1 else "JSON")
    if dotted:
        there.append("dotted keys of two spellings" if len(dotted) > 1 else "dotted keys")
    return "compilation config: " + " + ".join(there)


def drops_of(name: str, tallies: Mapping[str, Tally]) -> Iterator[str]:
    """How often each release drops what is given in one way."""
    for tally in tallies.values():
        yield str(tally.drops[name])


def page(tallies: dict[str, Tally], lists: int) -> list[str]:
    """The parts of the page."""
    kinds = ("lists", "accepted", "refused by both", "refused by vLLM alone", "keys dropped")
    rows = []
    for version, tally in tallies.items():
        run = "as installed" if version in WHOLE else f"its Python files on the torch of .envs/{RELEASES[version]}"
        mismatches = sum(map(len, tally.mismatches.values()))
        rows.append((version, run, *(str(tally.counts[kind]) for kind in kinds), str(mismatches)))
    total = sum(tally.counts["lists"] for tally in tallies.values())
    names = sorted(set[str]().union(*(+tally.drops for tally in tallies.values())))
    drops = [(name, *drops_of(name, tallies)) for name in names]
    question = (
        f"{total} lists, {lists} for each of {len(tallies)} releases, made by hypothesis "
        "(`tests/support/argument_lists.py`). "
        "Each is given to the release's own `vllm serve` parser, and again with one "
        "key merged in by the tuner. "
        f"What must hold of each ({len(PROMISES)} promises) stands in `tests/support/argument_promises.py`: "
        "the same compilation config, facts, model and exit code of a refusal, and a merge that changes no other value."
    )
    lost = (
        "The lists above that vLLM accepts and of which it loses keys, by the forms in which the keys were given. The "
        "tuner keeps every key of a compilation config, in one merged value, and names each on stderr. It does not "
        "change the other options, and says which keys are lost."
    )
    return [
        "# Argument lists, read by the tuner and by vLLM's own parsers",
        question,
        table(("release", "run as", *kinds, "mismatches"), rows),
        "## What vLLM itself drops silently",
        lost,
        table(("given as", *tallies), drops),
        footer("evidence-arguments"),
    ]


if __name__ == "__main__":
    main()
