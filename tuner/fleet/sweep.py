"""A sweep: every model of a folder in every release and setting, as launches for a queue, and how far they are."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.environment.document import SCHEMA_VERSION
from tuner.fleet.queue_client import RemoteQueue, Row
from tuner.model.model import Model, identify
from tuner.probe.candidates import config_folders
from tuner.service.queued import ANSWERED, ARMS, PROOF, Launch, new_probe
from tuner.text import brief, columns, visible

POLL_S = 5.0
"""Seconds between two looks at the queue."""
OPEN = ("waiting", "running")
_RELEASE = re.compile(r"\d+(\.\d+)+[\w.]*")


class Sweep(Struct, frozen=True):
    """What to probe: the product of all that is named.

    Attributes:
        configs: folder with a config.json for each model, in it or below.
        releases: of vLLM.
        platform: such as `cuda`.
        settings: arguments behind the model; an empty list is the plain launch.
        arms: also ask which arms of each launch answer rightly.
    """

    configs: Path
    releases: tuple[str, ...]
    platform: str
    settings: tuple[tuple[str, ...], ...]
    arms: bool = False


def launches_of(sweep: Sweep) -> list[Launch]:
    """Each launch once, by release, then by model, then by setting.

    Raises:
        TunerError: there is no model in the folder, one of them cannot be read, or a launch cannot be queued.
    """
    for release in sweep.releases:
        if not _RELEASE.fullmatch(release):
            hint = "Name it as in `vllm --version`, such as 0.19.1."
            raise TunerError(f"{brief(release)} is no release of vLLM.", hint=hint, kind=ErrorKind.USAGE)
    models = list(_models(sweep.configs))
    if not models:
        hint = "--configs names a folder with a config.json for each model, in it or below."
        raise TunerError(f"There is no model in {sweep.configs}.", hint=hint, kind=ErrorKind.USAGE)
    launches: dict[str, Launch] = {}
    for release in sweep.releases:
        for model in models:
            for launch in _of_model(sweep, release, model):
                launches.setdefault(new_probe(launch).id, launch.plain_words)
    return list(launches.values())


def _models(configs: Path) -> Iterator[Model]:
    """The models in the folder, by path, each with the name that its folder stands for."""
    for folder in config_folders(configs):
        yield identify(str(folder.absolute()))


def _of_model(sweep: Sweep, release: str, model: Model) -> Iterator[Launch]:
    for question in (PROOF, ARMS) if sweep.arms else (PROOF,):
        for setting in sweep.settings:
            yield Launch(
                model=Path(model.folder).name.replace("--", "/", 1),
                config=model.config,
                vllm=release,
                platform=sweep.platform,
                arguments=list(setting),
                side_files=dict(model.side.digests),
                question="arms" if question == ARMS else "proof",
            )


class Progress(Struct, frozen=True):
    """How far a sweep is.

    Attributes:
        states: how many launches are in each state.
        resting: the rows of those that rest.
    """

    states: Counter[str]
    resting: tuple[Row, ...]

    @property
    def is_over(self) -> bool:
        """Whether nothing waits or runs."""
        return not any(self.states[state] for state in OPEN)

    def text(self) -> str:
        """On one line."""
        total = self.states.total()
        parts = [f"{self.states[state]} {state}" for state in (*OPEN, "resting") if self.states[state]]
        return ", ".join([f"{self.states[ANSWERED]} of {total} answered", *parts])

    def document(self) -> dict[str, Any]:
        """For JSON."""
        resting = [{"id": row.id, "model": row.model, "vllm": row.vllm, "reason": row.reason} for row in self.resting]
        return {"schema_version": SCHEMA_VERSION, "states": dict(self.states), "resting": resting}


def progress_of(rows: Sequence[Row]) -> Progress:
    """How far a sweep is by the answers of the queue to its launches."""
    resting = [row for row in rows if row.state == "resting"]
    return Progress(Counter(row.state for row in rows), tuple(resting))


def followed(queue: RemoteQueue, rows: Sequence[Row], say: Callable[[str], None]) -> Progress:
    """Wait until nothing of a sweep waits or runs.

    Args:
        queue: of the service.
        rows: the launches, as the queue answered when they were put there.
        say: gets a sentence whenever something changed.

    Raises:
        TunerError: the service cannot be used.
    """
    last_text = ""
    while True:
        progress = _progress(queue, rows)
        if progress.text() != last_text:
            last_text = progress.text()
            say(last_text)
        if progress.is_over:
            return progress
        time.sleep(POLL_S)


def _progress(queue: RemoteQueue, rows: Sequence[Row]) -> Progress:
    listed = {row.id: row for row in queue.rows()}
    return progress_of([listed.get(row.id, Row(row.id, ANSWERED)) for row in rows])


def resting_text(rows: Sequence[Row]) -> str:
    """A table of the launches that rest, with the reason of each."""
    table = [("MODEL", "VLLM", "ARGUMENTS", "REASON")]
    for row in rows:
        arguments = " ".join(row.arguments) or "none"
        table.append((visible(row.model), row.vllm, visible(arguments), visible(row.reason or "")[:200]))
    return columns(table)
