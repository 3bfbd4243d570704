"""A sweep on a Ray cluster: one task a probe, each with its devices and with the Python of its release by path.

The only module that knows Ray. Only texts go to a task and come back, and no environment is made on a node
(`runtime_env`): a release is a Python that lies there already. The tuner must be importable on every node.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
from msgspec import Struct
from msgspec.json import decode, encode
from ray.exceptions import RayError

from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from rules.releases import public_version
from tuner.environment.saved import serving_environment
from tuner.exchange.bundle import line_in
from tuner.exchange.sent_line import SentLine
from tuner.exchange.transfer import exported_line, import_lines
from tuner.fleet.probing import Bounds, probed_line
from tuner.service.queued import Launch, giving_way_to, is_answered, stored_entry
from tuner.text import visible

RETRIES = 2
"""Times that a task is tried again whose process or node died."""


class OnRay(Struct, frozen=True):
    """How probes run on a cluster.

    Attributes:
        address: of the cluster, as `ray.init` takes it.
        pythons: release of vLLM -> the path of its Python on every node.
        devices: `num_gpus` of each task.
        bounds: what a probe may take.
        say: gets a sentence about each probe that ended.
    """

    address: str
    pythons: Mapping[str, str]
    devices: float
    bounds: Bounds
    say: Callable[[str], None]


class Failed(Struct, frozen=True):
    """A launch without a verdict, and why."""

    launch: Launch
    reason: str


class Outcome(Struct, frozen=True):
    """What came of a sweep.

    Attributes:
        answered: launches whose verdict is stored now.
        failed: the others.
    """

    answered: int
    failed: tuple[Failed, ...]


def swept(launches: Sequence[Launch], store: VerdictStore, on_ray: OnRay) -> Outcome:
    """Probe the launches that have no verdict, and store each verdict as soon as it comes.

    Launches of one model run one after another: their verdicts are one entry of the store.

    Raises:
        TunerError: a release has no Python, the cluster cannot be used, or the store cannot be written.
    """
    missing = sorted({launch.vllm for launch in launches} - set(on_ray.pythons))
    if missing:
        problem = f"No Python is named for vLLM {missing[0]}."
        raise TunerError(problem, hint=f"Add --node-python {missing[0]}=PATH.", kind=ErrorKind.USAGE)
    open_launches = [launch for launch in launches if not is_answered(store, launch)]
    failed = [failure for failure in _run(open_launches, store, on_ray) if failure is not None]
    return Outcome(len(launches) - len(failed), tuple(failed))


def _run(launches: Sequence[Launch], store: VerdictStore, on_ray: OnRay) -> Iterator[Failed | None]:
    """What came of each launch: nothing, or why it has no verdict."""
    if not launches:
        return
    _connect(on_ray.address)
    try:
        yield from _Tasks(launches, store, on_ray).outcomes()
    except RayError as error:
        raise _unusable(on_ray.address, error) from None
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise _unusable(address, error) from None


def _unusable(address: str, error: Exception) -> TunerError:
    reason = visible(str(error).strip().partition("\n")[0])
    return TunerError(
        f"The Ray cluster {address} cannot be used: {reason:.300}",
        hint="Name it as `ray start --head` shows it; RAY_AUTH_MODE and the token must be the cluster's.",
        kind=ErrorKind.SERVICE,
    )


class _Tasks:
    """The tasks of a sweep: one at a time for each model, release and platform.

    Args:
        launches: what to probe.
        store: gets the verdicts.
        on_ray: how.
    """

    def __init__(self, launches: Sequence[Launch], store: VerdictStore, on_ray: OnRay) -> None:
        self._store = store
        self._on_ray = on_ray
        self._task = ray.remote(num_cpus=1, num_gpus=on_ray.devices, max_retries=RETRIES)(probe_here)
        self._waiting: dict[tuple[str, ...], list[Launch]] = {}
        for launch in launches:
            self._waiting.setdefault(_subject(launch), []).append(launch)
        self._running: dict[Any, Launch] = {}

    def outcomes(self) -> Iterator[Failed | None]:
        """What came of each launch, as it comes."""
        for subject in self._waiting:
            self._begin_next(subject)
        while self._running:
            (done, *_), _ = ray.wait(list(self._running), num_returns=1)
            launch = self._running.pop(done)
            failure = self._end(done, launch)
            self._on_ray.say(f"{visible(launch.summary)}: {failure.reason if failure else 'stored'}")
            yield failure
            self._begin_next(_subject(launch))

    def _begin_next(self, subject: tuple[str, ...]) -> None:
        """Begin the next launch of a subject."""
        waiting = self._waiting[subject]
        if not waiting:
            return
        launch = waiting.pop(0)
        entry = stored_entry(self._store, launch)
        stored = exported_line(self._store, entry) if entry else ""
        words = (
            encode(launch).decode(),
            stored,
            self._on_ray.pythons[launch.vllm],
            encode(self._on_ray.bounds).decode(),
        )
        self._running[self._task.remote(*words)] = launch

    def _end(self, done: Any, launch: Launch) -> Failed | None:
        try:
            answer = json.loads(ray.get(done))
        except RayError as error:
            return Failed(launch, f"the task died: {visible(str(error).strip().partition(chr(10))[0])}")
        if "message" in answer:
            return Failed(launch, visible(str(answer["message"])))
        line = SentLine(str(answer["line"]).encode())
        giving_way = giving_way_to(self._store, line_in(line.text).entry)
        import_lines(self._store, [line], "a node of Ray", giving_way=giving_way)
        return None if is_answered(self._store, launch) else Failed(launch, "its verdict does not answer the launch")


def _subject(launch: Launch) -> tuple[str, ...]:
    return (launch.described.fingerprint, launch.vllm, launch.platform)


def probe_here(launch_text: str, stored: str, python: str, bounds_text: str) -> str:
    """The task: probe a launch on this node.

    Args:
        launch_text: the launch, as JSON.
        stored: the line of a bundle with what is stored on the model; empty: nothing is.
        python: of the release.
        bounds_text: what the probe may take, as JSON.

    Returns:
        JSON: `line`, or `message` of a failure.
    """
    launch, bounds = decode(launch_text, type=Launch), decode(bounds_text, type=Bounds)
    try:
        environment, _ = serving_environment(python, None)
        here = (public_version(environment.vllm), environment.platform)
        if here != (launch.vllm, launch.platform):
            return json.dumps({"message": f"{python} on {os.uname().nodename} is vLLM {here[0]} on {here[1]}"})
        return json.dumps({"line": probed_line(launch, stored or None, environment, bounds, _unheard)})
    except TunerError as error:
        return json.dumps({"message": error.message})


def _unheard(_: str) -> None:
    """Nobody reads what a task says."""
