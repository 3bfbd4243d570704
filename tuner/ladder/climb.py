"""Tries the arms of a launch: starts their engines, compares their answers, and looks for the setting at fault."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Literal

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from rules.answers import Answers, distance, frozen_layers, noise, parting_texts, read_answers
from rules.arms import EAGER, LAUNCH, Arm, LaunchFacts, backend_arms, first_arms, not_compiled_arms, pass_arms
from rules.errors import ReportError, TunerError
from rules.ladder import judge_ladder
from rules.ladder_finding import ArmWord, LadderFinding
from rules.report import ArmRun, Ladder
from tuner.engines.engines import EngineLaunch, Supervision
from tuner.engines.question import NO_ANSWER, Answer, WorkerQuery, engine_variables, query_engines
from tuner.ladder.arm_arguments import KV_CACHE, ArmLaunch, arm_launch, launch_facts
from tuner.ladder.thin_arms import ThinArms, thin_arms, weight_limit
from tuner.processes.answers import checked
from tuner.processes.log_tail import ignored
from tuner.server_log.line import without_front
from tuner.verdicts.identity import ARM_WORKER
from tuner.verdicts.ladders import arm_workers_digest, computing_variables
from tuner.verdicts.proofs import launch_identity

RUNS_PASSES = "VLLM_COMPILE"
"""The compile mode in which vLLM's own passes run (`CompilationMode` in vllm/config/compilation.py)."""
ESTIMATED = 1.02
"""How many times the estimate weights may take before this is told: norms and scales are not estimated."""
MOST_ANSWERS = 4000
"""Prompts and inputs of one engine; the worker sends a few hundred."""


class ArmAnswer(Struct, frozen=True):
    """What the worker says of one arm; `rules.report.ArmRun` and `rules.answers` describe the fields."""

    prompts: list[Any]
    inputs: list[Any]
    engine: dict[str, Any]
    passes: dict[str, Any]
    backends: dict[str, Any]
    seconds: dict[str, Any]
    cache: int
    changed: list[Any]


class Climb(Struct, frozen=True):
    """How a ladder is climbed.

    Attributes:
        launch: the launch.
        supervision: how engines are supervised.
        seats: how many arms run at the same time.
        prefer: `start`, `step`, or empty (see `rules.report.Ladder`).
        finished: gets each arm as soon as it ran or failed.
    """

    launch: EngineLaunch
    supervision: Supervision
    seats: int
    prefer: Literal["", "start", "step"]
    finished: Callable[[ArmRun], None]


def climbed(climb: Climb) -> dict[str, Any]:
    """Try the arms of a launch, and more of them if the launch as it stands is wrong.

    Returns:
        The ladder, as JSON values (`rules.report.Ladder`).

    Raises:
        TunerError: the eager engine, with which all others are compared, cannot be started.
    """
    runs, facts = _first_runs(climb)
    for further in (_without_passes, _with_backends, _without_compiling):
        finding = judge_ladder(runs.ladder())
        if not _needs_more(finding):
            break
        arms = further(runs.launch_run(), facts)
        if arms:
            climb.supervision.say(f"the launch as it stands is {finding.word}; {len(arms)} more arms")
            runs.run(arms)
    ladder: dict[str, Any] = to_builtins(runs.ladder())
    return ladder


def _first_runs(climb: Climb) -> "tuple[_Runs, LaunchFacts]":
    """The first arms of a launch, with quantised weights if they are to be made up and if an engine takes them.

    Raises:
        TunerError: the eager engine cannot be started.
    """
    launch, supervision = climb.launch, climb.supervision
    limit = weight_limit(launch.plan, launch.arguments, climb.seats, supervision.memory_limit)
    thin = thin_arms(launch.plan, launch.arguments, limit)
    try:
        return _run_first(climb, thin)
    except TunerError as failure:
        if thin.request is None or not thin.is_quantised:
            raise
        supervision.say("no engine starts with made-up quantised weights; once more without the quantisation")
        plain = thin_arms(launch.plan, launch.arguments, limit, keeps_quantization=False)
        refused = f"no engine started with made-up quantised weights: {failure.message}"
        return _run_first(climb, replace(plain, changed=(*plain.changed, refused)))


def _run_first(climb: Climb, thin: ThinArms) -> "tuple[_Runs, LaunchFacts]":
    facts = launch_facts(climb.launch.plan, climb.launch.arguments, is_quantised=thin.is_quantised)
    runs = _Runs(climb, thin)
    runs.run(first_arms(facts))
    return runs, facts


def _needs_more(finding: LadderFinding) -> bool:
    """Whether no change is known that leaves CUDA graphs and compiling on."""
    if finding.word not in {ArmWord.WRONG, ArmWord.NOT_STARTED}:
        return False
    return finding.remedy is None or finding.remedy.arm in {"compiled", EAGER}


def _without_passes(launch: ArmRun | None, facts: LaunchFacts) -> list[Arm]:
    """Arms without one compiler pass each, where the launch compiles in the mode that runs passes."""
    if launch is None or launch.engine.get("mode") != RUNS_PASSES:
        return []
    return pass_arms([name for name, is_on in launch.passes.items() if is_on], facts)


def _with_backends(launch: ArmRun | None, facts: LaunchFacts) -> list[Arm]:
    """Arms with another MoE backend each, of those that vLLM's oracle allows."""
    if launch is None:
        return []
    return backend_arms([name for name in launch.candidates if name.lower() not in _lower(launch.backends)], facts)


def _without_compiling(launch: ArmRun | None, facts: LaunchFacts) -> list[Arm]:
    """Arms that keep CUDA graphs and compile nothing."""
    return [] if launch is None or facts.eager else not_compiled_arms(facts)


def _lower(names: Sequence[str]) -> set[str]:
    return {name.lower().replace(" ", "_") for name in names}


class _Runs:
    """The arms that ran so far, with their answers."""

    def __init__(self, climb: Climb, thin: ThinArms) -> None:
        self._climb, self._thin = climb, thin
        self._order: list[str] = []
        self._runs: dict[str, ArmRun] = {}
        self._answers: dict[str, Answers] = {}
        self._failures: dict[str, TunerError] = {}
        self._cuts = list(thin.changed)
        if climb.seats > 1:
            self._cuts.insert(0, f"the KV cache has {KV_CACHE >> 20} MiB, so that several engines fit one GPU")

    def run(self, arms: Sequence[Arm]) -> None:
        """Start the engines of arms, some at the same time, and compare each with the arm below it.

        Raises:
            TunerError: the eager engine cannot be started. No further arm is tried then.
        """
        climb = self._climb
        seats = max(1, min(climb.seats, len(arms)))
        launches = {
            arm.name: arm_launch(arm, climb.launch.plan, climb.launch.arguments, seats=climb.seats) for arm in arms
        }
        self._order += [arm.name for arm in arms]
        self._in_threads([arms[seat::seats] for seat in range(seats)], launches)
        if seats > 1:
            self._try_alone([arm for arm in arms if self._may_lack_room(arm.name)])
        self._require_eager()
        for arm in arms:
            self._runs[arm.name] = self._compared(self._runs[arm.name])

    def _may_lack_room(self, name: str) -> bool:
        """Whether an arm failed while others ran, and in another way than by its time limit."""
        return name in self._failures and not self._failures[name].message.startswith(NO_ANSWER)

    def _try_alone(self, arms: Sequence[Arm]) -> None:
        """Start arms again that failed beside others, which may have taken their memory.

        The eager engine comes first. Without it no other arm can be compared.
        """
        for arm in sorted(arms, key=lambda arm: arm.name != EAGER):
            self._climb.supervision.say(f"{arm.name.replace('_', ' ')} once more, with no other engine beside it")
            del self._failures[arm.name]
            launch = arm_launch(arm, self._climb.launch.plan, self._climb.launch.arguments, seats=1)
            self._in_threads([[arm]], {arm.name: launch})

    def _in_threads(self, shares: Sequence[Sequence[Arm]], launches: Mapping[str, ArmLaunch]) -> None:
        """Start the engines of each share in a thread of its own. No engine is left when this returns or raises.

        Raises:
            TunerError: a share could not be run at all, as where no worker could be started.
        """
        stop = Event()
        ended: SimpleQueue[BaseException | None] = SimpleQueue()

        def run(share: Sequence[Arm]) -> None:
            failure: BaseException | None = None
            try:
                self._run_share(share, launches, stop, is_alone=len(shares) == 1)
            except BaseException as error:  # noqa: BLE001  raised by the thread that waits
                failure = error
                stop.set()
            ended.put(failure)

        threads = [Thread(target=run, args=(share,)) for share in shares]
        try:
            for thread in threads:
                thread.start()
            # Not by `join`: if a signal interrupts it, Python 3.11 takes the thread for ended while it still runs.
            failures = [ended.get() for _ in threads]
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:  # it was started
                    thread.join()
        for failure in failures:
            if failure is not None:
                raise failure

    def _run_share(
        self, arms: Sequence[Arm], launches: Mapping[str, ArmLaunch], stop: Event, *, is_alone: bool
    ) -> None:
        """Start the engines of some arms one after another.

        Args:
            arms: the arms.
            launches: their launches.
            stop: set when they are to end.
            is_alone: whether no other share runs beside this one. If the eager engine fails then, this
                ends the ladder with an error.

        Raises:
            TunerError: no worker could be started, or the eager engine cannot be started.
        """
        plan, supervision = self._climb.launch.plan, self._climb.supervision
        waiting = [arm.name for arm in arms]
        query = WorkerQuery(
            "arm",
            plan.launch.args,
            supervision.limit,
            supervision.memory_limit,
            more={"thin": self._thin.request, "flag": None, "eager": False},
            engines=[{"args": list(launches[arm.name].arguments)} for arm in arms],
            worker=ARM_WORKER,
            hear=_telling_which(waiting, supervision.hear),
        )
        variables = engine_variables(self._climb.launch.environ, plan.launch.env)
        engines = query_engines(query, plan.subject.environment.python, lambda _control: variables, stop)
        with closing(engines) as answers:  # else the worker of the last answer would live on
            for arm, answer in zip(arms, answers, strict=False):
                waiting.pop(0)
                self._note(arm, launches[arm.name], answer)
                if is_alone and arm.name == EAGER:
                    self._require_eager()

    def _note(self, arm: Arm, launch: ArmLaunch, answer: Answer | TunerError) -> None:
        try:
            run = self._ran(arm, launch, answer)
        except TunerError as failure:
            self._failures[arm.name] = failure
            run = _run(arm, launch, {"status": "failed", "detail": failure.message})
        self._runs[arm.name] = run
        self._climb.finished(run)

    def _ran(self, arm: Arm, launch: ArmLaunch, answer: Answer | TunerError) -> ArmRun:
        """The run of an arm that answered.

        Raises:
            TunerError: it did not, or its answer is damaged.
        """
        if isinstance(answer, TunerError):
            raise answer
        read = checked("result.json", answer, ArmAnswer)
        if max(len(read.prompts), len(read.inputs)) > MOST_ANSWERS:
            raise ReportError(f"an engine gave more than {MOST_ANSWERS} answers")
        answers = read_answers({"prompts": read.prompts, "inputs": read.inputs})
        self._answers[arm.name] = answers
        return _run(
            arm,
            launch,
            {
                "status": "ran",
                "engine": read.engine,
                "passes": read.passes,
                "backends": read.backends.get("chosen", []),
                "candidates": read.backends.get("candidates", []),
                "seconds": read.seconds,
                "cache": read.cache,
                "changed": [*read.changed, *self._cuts, *_larger(read.engine.get("weights"), self._thin.estimate)],
                "broken": answers.is_broken,
                "noise": to_builtins(noise(answers)),
            },
        )

    def _compared(self, run: ArmRun) -> ArmRun:
        """The run with its distance to the arm below it."""
        own, below = self._answers.get(run.name), self._answers.get(run.against)
        if own is None or below is None:
            return run
        apart = {
            "distance": to_builtins(distance(own, below)),
            "frozen": frozen_layers(own, below),
            "texts": to_builtins(parting_texts(own, below)),
        }
        return convert({**to_builtins(run), **apart}, ArmRun)

    def _require_eager(self) -> None:
        """Raise what kept the eager engine from answering."""
        if EAGER in self._failures:
            raise self._failures[EAGER]

    def launch_run(self) -> ArmRun | None:
        """The arm with the launch as it stands; an arm beside it where that did not start; None without any."""
        ran = [run for run in self._runs.values() if run.status == "ran" and not run.engine.get("enforce_eager")]
        launch = self._runs.get(LAUNCH)
        return launch if launch is not None and launch.status == "ran" else next(iter(ran), None)

    def ladder(self) -> Ladder:
        """The ladder as far as it was climbed."""
        launch = self._climb.launch
        environment = launch.plan.subject.environment
        identity = launch_identity(launch.arguments)
        return Ladder(
            key=identity.key,
            arguments=identity.arguments,
            platform=environment.platform,
            gpu=environment.gpu or "",
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            worker=arm_workers_digest(),
            prefer=self._climb.prefer,
            variables=computing_variables(launch.environ),
            arms=tuple(self._runs[name] for name in self._order),
        )


def _telling_which(waiting: Sequence[str], hear: Callable[[str], None]) -> Callable[[str], None]:
    """What hears a line of the log, and passes it on with the name of the first arm that has not answered yet."""

    def heard(line: str) -> None:
        name = waiting[0].replace("_", " ") if waiting else ""
        hear(f"{name}: {without_front(line)}" if name else line)

    return ignored if hear is ignored else heard


def _larger(weights: Any, estimate: int) -> list[str]:
    """A sentence about made-up weights that take more memory than was estimated."""
    if type(weights) is not int or not estimate or weights <= estimate * ESTIMATED:
        return []
    return [f"the weights take {weights / 2**30:.1f} GiB, more than the {estimate / 2**30:.1f} GiB that were estimated"]


def _run(arm: Arm, launch: ArmLaunch, observed: Mapping[str, Any]) -> ArmRun:
    """The run of an arm, with what was seen of it."""
    empty: dict[str, Any] = {
        "detail": "",
        "engine": {},
        "passes": {},
        "backends": [],
        "candidates": [],
        "seconds": {},
        "cache": 0,
        "changed": [],
        "broken": False,
        "noise": None,
        "distance": None,
        "frozen": [],
    }
    return convert({**to_builtins(arm), "users": launch.users, **empty, **observed}, ArmRun)
