"""Compares the verdicts of the catalogues with a reading of vLLM's sources, and writes agreement.md.

.venv/bin/python -m tools.evidence.make_agreement    # after `make catalogue`
"""

import json
import sys
from collections import Counter

from tools.evidence.hand_read import SETTLED, SUSPICIOUS
from tools.evidence.make_registry import CATALOGUE
from tools.evidence.page import shell_block, table, write

UNSAFE = {"conditional", "reordered", "repeated"}
AGREES = {
    ("suspicious", "unsafe"): "agree: unsafe",
    ("in order", "safe"): "agree: in order",
    ("suspicious", "inconclusive"): "suspicious, not proved either way",
    ("in order", "inconclusive"): "read as in order, not proved",
    ("suspicious", "safe"): "suspicious, found uniform",
    ("in order", "unsafe"): "read as in order, found unsafe",
}


def main() -> None:
    """Write the page; end with 1 if a disagreement is not settled."""
    command = shell_block(".venv/bin/python", "-m", "tools.evidence.make_agreement")
    parts = ["# Verdicts of the probe, against a reading of the sources", INTRODUCTION, command]
    unsettled = []
    for file in sorted(CATALOGUE.glob("*.jsonl")):
        word_of = verdicts(file.read_text(encoding="utf-8"))
        version = file.name.split("-")[1]
        parts += [f"## {file.stem}", counts(version, word_of), differences(version, word_of)]
        unsettled += [(version, name) for name in disagreeing(version, word_of) if (version, name) not in SETTLED]
    write("agreement.md", *parts, "Made by the command above from the catalogues, which `make catalogue` makes.")
    if unsettled:
        sys.exit(f"not settled: {unsettled}")


INTRODUCTION = (
    "`tools/evidence/hand_read.py` names the architectures whose MoE layers a reader of the sources suspects of "
    "leaving the registered order; all others were read as in order. Where the two differ, the code decides: the last "
    "column says what the code does.\n\n"
    "Two of the suspicious have no line in a catalogue and were found unsafe as read. InternS2-Mobius, of which no "
    "config is published, is `repeated` in 0.32.0 with one that shares four blocks (`tests/test_probe_vllm.py`). The "
    "MTP draft of DeepSeek-V3 beside its target is `conditional` in 0.26.0 ([the GPU's page](registry-gpu.md))."
)


def verdicts(bundle: str) -> dict[str, str]:
    """The verdict of each architecture of a catalogue."""
    entries = [json.loads(line)["entry"] for line in bundle.splitlines()]
    return {entry["report"]["architecture"]: entry["verdict"]["word"] for entry in entries}


def case(version: str, name: str, word: str) -> str:
    """Whether a verdict agrees with the reading of the sources, as a row of the table."""
    reading = "suspicious" if name in SUSPICIOUS[version] else "in order"
    if word == "inconclusive":
        return AGREES[reading, word]
    return AGREES[reading, "unsafe" if word in UNSAFE else "safe"]


def disagreeing(version: str, word_of: dict[str, str]) -> list[str]:
    """Architectures whose verdict and reading are both sure, and differ."""
    sure = {AGREES["suspicious", "safe"], AGREES["in order", "unsafe"]}
    return [name for name, word in word_of.items() if case(version, name, word) in sure]


def counts(version: str, word_of: dict[str, str]) -> str:
    """How many architectures there are of each case, and the suspicious ones without a verdict."""
    number_of = Counter(case(version, name, word) for name, word in word_of.items())
    missing = sorted(set(SUSPICIOUS[version]) - set(word_of))
    rows = [(words, str(number_of[words])) for words in AGREES.values() if number_of[words]]
    return (
        table(("case", "architectures"), rows) + f"\n\nSuspicious and without a verdict: {', '.join(missing) or '-'}."
    )


def differences(version: str, word_of: dict[str, str]) -> str:
    """The architectures that are not both read as in order and found safe."""
    plain = AGREES["in order", "safe"]
    rows = [
        (name, word, SUSPICIOUS[version].get(name, "in order"), SETTLED.get((version, name), "-"))
        for name, word in sorted(word_of.items())
        if case(version, name, word) != plain
    ]
    return table(("architecture", "found", "read", "what the code of this release does"), rows)


if __name__ == "__main__":
    main()
