"""What `tuner tune` does once its options are read: the arms of one launch are tried, stored, and shown."""

import os
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from rules.ladder_finding import ArmWord
from rules.report import ArmRun
from tuner.cli.choices import Prefer
from tuner.cli.inputs import Inputs
from tuner.cli.output import failures, keeping, print_json, refuse, result, say, stop_on_signals, written_to
from tuner.cli.probe_engines import LOADING_LIMIT, order_first, own_entry, planned_launch
from tuner.cli.progress import working
from tuner.engines.engines import EngineLaunch, Supervision
from tuner.engines.stand_ins import stand_ins
from tuner.errors import ExitCode
from tuner.ladder.climb import Climb, climbed
from tuner.ladder.text import ladder_text
from tuner.launch.document import plan_document
from tuner.verdicts.ladders import stored_ladder
from tuner.verdicts.lookup import opened_store, remember_ladder
from tuner.verdicts.proofs import launch_identity

if TYPE_CHECKING:
    from tuner.arguments.serve_arguments import ServeArguments
    from tuner.launch.plan import Plan
    from tuner.probe.models import Request

KEPT = "the verdict on the model's order is kept, the arms are not; the same command starts them anew"
SEATS = 4
"""Arms at once on a GPU, where a small model stands for the real one."""
SHOWN_DETAIL = 300
"""Characters of a failure in a line of progress; `--json` has more."""


class Tuning(Struct, frozen=True):
    """How arms are tried.

    Attributes:
        prefer: what right arms are chosen by; None changes a launch only if it is wrong.
        workers: arms at once; None: as many as suit the device.
    """

    prefer: Prefer | None
    workers: int | None


def run(request: "Request", tuning: Tuning, python: str | None, store: str | None, *, as_json: bool) -> NoReturn:
    """Try the arms of a launch, store what they show, print it, and end with an exit code.

    The request's names are the model, then arguments of `vllm serve`.
    """
    words = list(request.names)
    with failures(as_json, words[0] if words else None):
        _require_comparable_times(tuning)
        stop_on_signals()
        inputs = Inputs(python, store=store)
        verdicts = written_to(opened_store(store, os.environ))
        plan, arguments = planned_launch(words, request, inputs)
        with keeping(KEPT), working() as under_way:
            plan = order_first(plan, request, inputs, verdicts, under_way)
            entry = own_entry(plan)
            refuse(plan)  # no setting of its engines helps such a launch
            climb = Climb(
                launch=EngineLaunch(plan, arguments, os.environ),
                supervision=Supervision(
                    under_way, request.time_limit + LOADING_LIMIT, request.memory_limit, under_way.log_line
                ),
                seats=_seats(tuning, plan, arguments),
                prefer=tuning.prefer.value if tuning.prefer else "",
                finished=lambda arm: under_way(_finished(arm)),
            )
            under_way(f"starting the arms of the launch, {climb.seats} at a time (a minute each, or more)")
            remember_ladder(verdicts, entry, climbed(climb))
        plan = planned_launch(words, request, inputs)[0]
        _present(plan, arguments, as_json=as_json)
    raise SystemExit(_exit_code(plan))


def _require_comparable_times(tuning: Tuning) -> None:
    if tuning.prefer is not None and tuning.workers not in {None, 1}:
        raise TunerError(
            f"--prefer {tuning.prefer} compares times, and engines that run side by side slow each other down.",
            hint="Leave out --workers: then they run one after another.",
            kind=ErrorKind.USAGE,
        )


def _seats(tuning: Tuning, plan: "Plan", arguments: "ServeArguments") -> int:
    """How many arms run at once: one where weights are real, where times are compared, and without a GPU."""
    if tuning.workers is not None:
        return tuning.workers
    has_gpu = plan.subject.environment.platform in {"cuda", "rocm"}
    is_thin = "dummy" in stand_ins(plan, arguments)
    return SEATS if has_gpu and is_thin and tuning.prefer is None else 1


def _finished(arm: ArmRun) -> str:
    name = arm.name.replace("_", " ")
    if arm.status != "ran":
        return f"{name} did not start: {arm.detail[:SHOWN_DETAIL]}"
    seconds = f" in {arm.seconds['ready']:.0f} s" if "ready" in arm.seconds else ""
    return f"{name} started{seconds}"


def _present(plan: "Plan", arguments: "ServeArguments", *, as_json: bool) -> None:
    """Print the ladder that was stored."""
    if as_json:
        print_json(plan_document(plan))
        return
    report, verdict = plan.lookup.report, plan.lookup.verdict
    key = launch_identity(arguments).key
    ladder = stored_ladder(report, key) if report else None
    if ladder is not None and verdict is not None:
        result(ladder_text(plan, ladder, verdict.ladders[key]))
    for warning in plan.warnings:
        say(f"tuner: {warning}")


def _exit_code(plan: "Plan") -> ExitCode:
    """5 for a launch that is wrong as it stands, 3 for one that could not be judged."""
    word = plan.ladder.finding.word if plan.ladder.finding else ArmWord.UNKNOWN
    if word is ArmWord.RIGHT:
        return ExitCode.FINE
    return ExitCode.UNKNOWN if word is ArmWord.UNKNOWN else ExitCode.CONTRADICTION
