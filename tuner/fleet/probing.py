"""Runs the probe of one launch in a serving environment of this machine; its verdict comes as the line of a bundle."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.arguments.serve_arguments import ServeArguments, parse
from tuner.engines.engines import EngineLaunch, Supervision
from tuner.environment.environment import Environment
from tuner.exchange.sent_line import sent_lines
from tuner.exchange.transfer import exported_line, import_lines
from tuner.ladder.climb import Climb, climbed
from tuner.launch.plan import Options, make_plan
from tuner.launch.requested import accepted_arguments
from tuner.model.model import CONFIG, Model, identify
from tuner.probe.models import Request, probe_subjects, prove
from tuner.service.queued import ARMS, Launch, answers
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import current_report, look_up, remember_ladder

LOADING_LIMIT = 600.0
"""Seconds more than for a model: weights, and code that is compiled."""


class Bounds(Struct, frozen=True):
    """What a probe may take.

    Attributes:
        seconds: for each model, vLLM's import excluded.
        memory: bytes; None: as much as suits this machine.
    """

    seconds: float = 300.0
    memory: int | None = None


def probed_line(
    launch: Launch, stored: str | None, environment: Environment, bounds: Bounds, say: Callable[[str], None]
) -> str:
    """Probe a launch, and give its verdict as the line of a bundle.

    What is stored already is not run again: a launch of a model that was probed needs no more than its proof.

    Args:
        launch: what to probe.
        stored: the line of a bundle with what is stored on the model, as it is sent; None: nothing is.
        environment: where it runs.
        bounds: what it may take.
        say: gets a sentence about what is under way.

    Raises:
        TunerError: the model is not here, the probe failed, or the environment is at fault.
    """
    with tempfile.TemporaryDirectory(prefix="tuner-worker-") as folder:
        store = VerdictStore(Path(folder, "verdicts.sqlite"))
        if stored is not None:
            import_lines(store, sent_lines(stored.encode()), "the service")
        model = _model_here(launch, Path(folder, "models"))
        arguments = parse([model.folder, *launch.arguments], vllm=environment.vllm)
        accepted_arguments(arguments, environment)
        subject = Subject(model, environment, launch.read.serving.model_impl)
        run = _Run(launch, subject, arguments, store, bounds, say)
        entry = run.arms_tried() if launch.question == ARMS else run.proved()
        return exported_line(store, entry)


def _model_here(launch: Launch, folder: Path) -> Model:
    """The launch's model in a folder: its config written there or, where it has other small files, the model itself.

    Raises:
        TunerError: it has other files, and a model with the same ones is not here.
    """
    if not launch.side_files:
        place = folder / "model"
        place.mkdir(parents=True)
        (place / CONFIG).write_text(json.dumps(launch.config), encoding="utf-8")
        return replace(identify(str(place)), name=launch.model, revision=launch.revision)
    model = identify(launch.model, revision=launch.revision)
    if model.fingerprint != launch.described.fingerprint:
        raise TunerError(
            f"The model {launch.model} is here with another configuration, or with other files beside it.",
            hint="Name the revision, or run `tuner probe` where the model is and send its bundle.",
            kind=ErrorKind.MODEL,
        )
    return model


class _Run(Struct, frozen=True):
    """The probe of one launch; the fields are as for `probed_line`."""

    launch: Launch
    subject: Subject
    arguments: ServeArguments
    store: VerdictStore
    bounds: Bounds
    say: Callable[[str], None]

    @property
    def request(self) -> Request:
        """The bounds, as a probe takes them."""
        return Request([], time_limit=self.bounds.seconds, workers=1, memory_limit=self.bounds.memory)

    def proved(self) -> Entry:
        """The verdict, with a proof of the launch beside it."""
        entry = self._entry()
        if answers(self.launch, *current_report(self.store, entry)):
            return entry
        self.say("tracing the launch's whole model")
        return prove(self.subject, self.arguments, entry, self.request, self.store)[0]

    def arms_tried(self) -> Entry:
        """The verdict, with the ladder of the launch beside it."""
        entry = self._entry()
        options = Options(False, False, None, False, os.environ)
        plan = make_plan(self.store, self.subject, self.arguments, options)
        climb = Climb(
            launch=EngineLaunch(plan, self.arguments, os.environ),
            supervision=Supervision(self.say, self.bounds.seconds + LOADING_LIMIT, self.bounds.memory),
            seats=1,
            prefer="",
            finished=lambda arm: self.say(f"{arm.name.replace('_', ' ')}: {arm.status}"),
        )
        return remember_ladder(self.store, entry, climbed(climb))[0]

    def _entry(self) -> Entry:
        """What is stored on the model for the files that are here, else what a probe of it gives."""
        entry = look_up(self.store, self.subject).entry
        if entry is not None:
            return entry
        self.say("probing the model")
        name = self.subject.model.name
        probed = probe_subjects([(name, self.subject)], self.request, self.subject.environment, self.store, _unwatched)
        (outcome,) = list(probed)
        if outcome.failure is not None:
            raise outcome.failure
        if outcome.entry is None:
            raise ValueError("a probe without a failure has an entry")
        return outcome.entry


def _unwatched(_worker: int, _stage: str, _name: str) -> None:
    """Nobody watches: one model is probed at a time."""
