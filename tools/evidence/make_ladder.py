"""Writes ladder.md: the arms of launches on a GPU, and whether planted faults were found.

    .venv/bin/python -m tools.evidence.make_ladder collect RUN...   # adds runs to ladder-gpu.json
    .venv/bin/python -m tools.evidence.make_ladder page             # writes ladder.md

A RUN is a file with the document of `tuner tune --json`, or `FAULT=FILE` for an engine with a planted fault
(tests/planted_faults). Only the fields that the page shows are stored. A run of the same model, fault, device and
release replaces the one before.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import convert, to_builtins
from planted_faults.planted_faults import FAULTS

from rules.arms import LaunchFacts, first_arms
from rules.ladder import Limit, judge_ladder, limits
from rules.ladder_finding import LadderFinding
from rules.report import ArmRun, Distance, Ladder
from tools.evidence.page import PAGES, table, write
from tuner.ladder.thin_arms import SMALLER

NUMBERS, STORY = PAGES / "ladder-gpu.json", PAGES / "ladder-story.json"
PLAIN = ""
"""In place of a fault's name: nothing was planted."""
WHAT = {
    "frozen": "the input of one layer is zero in every CUDA graph",
    "frozen_one_token": "the same in graphs of one token",
    "frozen_full": "the same in full graphs",
    "stale": "the input of one layer is that of the capture",
    "inside": "the input is zero inside the MoE operator, in every CUDA graph",
    "nan": "one layer gives NaN in every CUDA graph",
    "noisy": "the input of one layer has noise",
    "compiled": "compiled code scales the input of one layer",
    "fusion": "the pass `eliminate_noops` scales the input of one layer",
    "hang": "the start hangs where full graphs are captured",
    "crash": "the start crashes where full graphs are captured",
    "copied": "sound: the input is copied, in graphs too",
    "quiet": "sound: the noise is multiplied by zero",
    "compiled_twin": "sound: compiled code scales by one",
    "fusion_twin": "sound: the pass scales by one",
}
TWINS = {
    "frozen": "copied",
    "frozen_one_token": "copied",
    "frozen_full": "copied",
    "stale": "copied",
    "inside": "copied",
    "nan": "copied",
    "noisy": "quiet",
    "compiled": "compiled_twin",
    "fusion": "fusion_twin",
    "hang": PLAIN,
    "crash": PLAIN,
}
"""Fault -> its sound twin. For faults that stop the start, the twin is the launch without a fault."""
HEALED_BY = {
    "frozen": "compiled",
    "frozen_one_token": "compiled",
    "frozen_full": "piecewise",
    "stale": "compiled",
    "inside": "compiled",
    "nan": "compiled",
    "compiled": "eager",
    "fusion": "without_eliminate_noops",
    "hang": "piecewise",
    "crash": "piecewise",
}
"""Fault -> the arm that must be written. With noise in every engine no arm is right, and nothing may be written."""
OF_VLLM = {
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": """The launch of Nemotron-3 is called wrong, and it is wrong.
Nothing was planted: the fault is vLLM's own.
Under full graphs the answer to a prompt of one token is unrelated to the right one.
The arms without graphs and with `PIECEWISE` agree, and `tuner plan` writes `PIECEWISE`.
Users of another hybrid model report the same (vllm 57720, open on the day of the run).""",
}
"""Published model -> the fault of vLLM that its launch has without a planted one."""
INTRODUCTION = """# Arms of launches on a GPU

`tuner tune` starts a launch with other engine settings, and compares each arm with a neighbour.
[ladder.md](../decisions/ladder.md) says why.
Distances, limits and noise are in nats; `counts` says which part of a distance is compared with the limit.
`s`: seconds until the engine was ready, without the import of vLLM.
`frozen`: MoE layers whose input was the same for different prompts.
Limits are those of the day of a run: the first runs had narrow models, and limits for these."""
SEPARATELY = "Arms ran side by side on one GPU, so their seconds do not rank the settings."
ABOUT_FAULTS = """Each fault is planted into one layer by a plugin (`tests/planted_faults`), and each has a sound twin.
`as it should be`: a fault is found, and the setting that avoids it is written; for a twin nothing is written."""
ABOUT_STORY = """Real servers get one prompt: without the fault, with it, and under `tuner serve` after `tuner tune`.
`tune`, `plan`, `serve`, `confirm` and `check` agree about the launch."""
ORDER = [arm.name for arm in first_arms(LaunchFacts(eager=False, graphs=True, float32=True, flag=True))]
Run = dict[str, Any]
"""The fields of a document that the page shows."""


def run_of(fault: str, document: dict[str, Any]) -> Run:
    """What the page shows of a document, as this release judges it.

    Args:
        fault: what was planted; `PLAIN` for nothing.
        document: as `tuner tune --json` prints it.
    """
    part, environment = document["ladder"], document["environment"]
    ladder = ladder_of(part)
    finding, limit_of = judge_ladder(ladder), limits(ladder)
    return {
        "model": Path(document["model"]["name"]).name,
        "architecture": document["model"]["architecture"],
        "fault": fault,
        "vllm": environment["vllm"],
        "torch": environment["torch"],
        "gpu": part["gpu"],
        "made_at": part["made_at"],
        "word": str(finding.word),
        "why": str(finding.reasons[0]),
        "remedy": to_builtins(finding.remedy),
        "changed": sorted(set[str]().union(*(arm.changed for arm in ladder.arms))),
        "arms": [arm_of(arm, finding, limit_of.get(arm.name)) for arm in in_order(ladder.arms)],
    }


def ladder_of(part: dict[str, Any]) -> Ladder:
    """The ladder in a document. Fields that the document leaves out are empty."""
    left_out = {"arguments": [], "worker": "", "variables": {}}
    return convert({**part, **left_out, "gpu": part["gpu"] or "", "prefer": part["prefer"] or ""}, Ladder)


def in_order(arms: Sequence[ArmRun]) -> list[ArmRun]:
    """Arms in the order of the ladder, each behind the one that it is compared with."""
    places = {name: index for index, name in enumerate(ORDER)}
    return sorted(arms, key=lambda arm: places.get(arm.name, len(places)))


def arm_of(arm: ArmRun, finding: LadderFinding, limit: Limit | None) -> dict[str, Any]:
    """What the page shows of an arm."""
    return {
        "name": arm.name,
        "against": arm.against,
        "word": str(finding.arms[arm.name]),
        **limit_part(limit, arm.distance),
        "noise": arm.noise.worst if arm.noise else None,
        "frozen": list(arm.frozen),
        "ready": arm.seconds.get("ready"),
        "detail": arm.detail[:200],
    }


def limit_part(limit: Limit | None, distance: Distance | None) -> dict[str, Any]:
    """How far an arm's answers are from those below it, in which prompt, and how far they may be."""
    part: dict[str, Any] = {"nats": None, "counts": "", "prompt": "", "limit": None}
    if limit is not None:
        part |= {"counts": limit.counts, "limit": limit.nats}
    if distance is not None and distance.worst:
        part["prompt"] = distance.prompt
    if limit is not None and distance is not None:
        part["nats"] = limit.counting(distance)
    return part


def identity(run: Run) -> tuple[str, ...]:
    """What a run is of."""
    return (run["fault"], run["model"], run["vllm"], run["gpu"])


def collect(names: list[str]) -> None:
    """Add runs to what is kept."""
    runs: list[Run] = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else []
    for name in names:
        fault, _, file = name.rpartition("=")
        if fault not in {PLAIN, *FAULTS}:
            raise SystemExit(f"{fault} is not a planted fault: {', '.join(FAULTS)}")
        run = run_of(fault, json.loads(Path(file).read_text(encoding="utf-8")))
        runs = [other for other in runs if identity(other) != identity(run)] + [run]
    runs.sort(key=identity)
    NUMBERS.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def page(runs: list[Run], story: dict[str, Any]) -> list[str]:
    """The parts of the page.

    Args:
        runs: as `run_of` makes them.
        story: as `make_ladder_story` writes it.
    """
    healthy = [run for run in runs if run["fault"] == PLAIN]
    faulty = [run for run in runs if run["fault"] != PLAIN]
    heads = ("planted", "what it does", "launch", "why", "written", "as it should be")
    return [
        INTRODUCTION,
        "## Without a fault",
        false_alarms(healthy),
        *(run_part(run["model"], run) for run in healthy),
        SEPARATELY,
        "## Planted faults, and sound twins",
        ABOUT_FAULTS,
        table(heads, [fault_row(run) for run in faulty]),
        *(run_part(f"Planted: `{run['fault']}`", run) for run in faulty),
        "## One fault from start to end",
        *story_parts(story),
        "## What is missing",
        missing(runs),
        "## How it was made",
        commands(runs),
    ]


def run_part(heading: str, run: Run) -> str:
    """A run under its own heading: its setting and its arms."""
    return f"### {heading}\n\n{setting(run)}\n\n{arms_table(run)}"


def false_alarms(healthy: list[Run]) -> str:
    """How many launches without a fault are right, and which of their arms are called wrong."""
    right = sum(is_right(run) for run in healthy)
    unknown = [run["model"] for run in healthy if run["word"] == "unknown"]
    called_wrong = [run["model"] for run in healthy if run["word"] not in ("right", "unknown")]
    wrong: list[str] = []
    for run in healthy:
        wrong += [f"`{arm['name']}` of {run['model']}" for arm in run["arms"] if arm["word"] == "wrong"]
    return "\n".join(
        [
            f"Launches that are called right, and are not changed: {right} of {len(healthy)}.",
            f"Launches that the tool cannot judge: {', '.join(unknown) or 'none'}.",
            f"Launches that are called wrong: {', '.join(called_wrong) or 'none'}.",
            f"Arms that are called wrong: {', '.join(wrong) or 'none'}.",
            *(f"\n{text}" for model, text in OF_VLLM.items() if model in called_wrong),
        ]
    )


def setting(run: Run) -> str:
    """The day of a run, how its model is smaller than the published one, and the finding on its launch."""
    smaller = [text.removeprefix(SMALLER) for text in run["changed"] if text.startswith(SMALLER)]
    return f"{run['made_at'][:10]}, {'; '.join(smaller) or 'fewer layers'}.\nThe launch: {run['word']}, {run['why']}."


def arms_table(run: Run) -> str:
    """The arms of a run."""
    heads = ("arm", "compared with", "answers", "nats", "counts", "limit", "worst prompt", "noise", "frozen", "s")
    return table(heads, [arm_row(arm) for arm in run["arms"]])


def arm_row(arm: dict[str, Any]) -> tuple[str, ...]:
    """An arm in the table."""
    return (
        f"`{arm['name']}`",
        f"`{arm['against']}`" if arm["against"] else "-",
        f"**{arm['word']}**" if arm["word"] != "right" else "right",
        number(arm["nats"], 4),
        arm["counts"] or "-",
        number(arm["limit"], 3),
        arm["prompt"] or "-",
        number(arm["noise"], 4),
        ", ".join(arm["frozen"]) or "-",
        number(arm["ready"], 1),
    )


def number(value: float | None, digits: int) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def fault_row(run: Run) -> tuple[str, ...]:
    """A planted fault in the table."""
    remedy = run["remedy"]
    remedy_text = "nothing" if remedy is None else f"`{' '.join([json.dumps(remedy['config']), *remedy['options']])}`"
    answer = "yes" if is_right(run) else "**no**"
    return (f"`{run['fault']}`", WHAT[run["fault"]], run["word"], run["why"], remedy_text, answer)


def is_right(run: Run) -> bool:
    """Whether a run is as it should be: a fault is found with its remedy, or a sound launch is called right."""
    remedy_arm = "" if run["remedy"] is None else run["remedy"]["arm"]
    if run["fault"] in TWINS:
        return run["word"] != "right" and remedy_arm == HEALED_BY.get(run["fault"], "")
    return run["word"] == "right" and remedy_arm == ""


def story_parts(story: dict[str, Any]) -> list[str]:
    """The steps of a story, each with its command and what it printed."""
    where = f"vLLM {story['vllm']} on {story['device']}, planted: `{story['fault']}` ({WHAT[story['fault']]})."
    parts = [f"{ABOUT_STORY}\n{where}"]
    for step in story["steps"]:
        session = f"$ {step['command']}\n{step['output']}".rstrip()
        parts += [f"{step['title']}, exit code {step['code']}:", f"```console\n{session}\n```"]
    return [*parts, "```sh\npython -m tools.evidence.make_ladder_story\n```"]


def missing(runs: list[Run]) -> str:
    """What these runs leave out."""
    tried_faults = {run["fault"] for run in runs}
    faults = [f"`{name}`" for name in FAULTS if name not in tried_faults]
    architectures = sorted({run["architecture"] for run in runs})
    items = [
        f"Architectures: only {', '.join(architectures)}.",
        "Kernels: neither FlashInfer nor FlashAttention nor DeepGEMM is on this machine, so no arm ran with them.",
        "Models with MLA attention, such as DeepSeek-V3: their prefill needs FlashAttention.",
        "Several GPUs, and real weights.",
    ]
    if faults:
        items.insert(1, f"Planted faults that were not tried on a GPU: {', '.join(faults)}.")
    return "\n".join(f"- {item}" for item in items)


def commands(runs: list[Run]) -> str:
    """The commands and dates behind the page."""
    devices = sorted({f"{run['gpu']}, vLLM {run['vllm']}, torch {run['torch']}" for run in runs})
    dates = sorted({run["made_at"][:10] for run in runs})
    changed = sorted(set[str]().union(*(run["changed"] for run in runs)))
    return "\n".join(
        [
            f"On {'; '.join(devices)}, on {', '.join(dates)}:",
            "",
            "```sh",
            "PLANTED=FAULT tuner tune --json MODEL -- VLLM ARGS >FILE   # without PLANTED: no fault",
            "python -m tools.evidence.make_ladder collect FAULT=FILE...",
            "python -m tools.evidence.make_ladder page",
            "```",
            "",
            "`python -m tools.evidence.run_ladders` runs many of these; behind `--` stood the backend `TRITON_ATTN`.",
            "fp8 models ran under `VLLM_USE_DEEP_GEMM=0`.",
            "",
            "Differences from a real launch:",
            "",
            *(f"- {text}" for text in changed),
        ]
    )


def main(words: list[str]) -> None:
    """What the docstring of the module says."""
    if words[:1] == ["collect"] and words[1:]:
        collect(words[1:])
    elif words == ["page"]:
        runs, story = (json.loads(file.read_text(encoding="utf-8")) for file in (NUMBERS, STORY))
        write("ladder.md", *page(runs, story))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
