"""The launches in the queue of probes: their shape, what names them, and whether the store answers them already."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, to_builtins
from msgspec.json import decode, encode
from msgspec.structs import replace

from cache.key import digest
from cache.secrets import redacted
from cache.verdicts.entry import Entry
from cache.verdicts.queue import NewProbe, QueuedProbe, Wanted
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from rules.releases import public_version
from rules.report import Report
from rules.verdict import Verdict, Word
from tuner.arguments.serve_arguments import ServeArguments, parse
from tuner.environment.environment import Environment
from tuner.model.model import Model, describe
from tuner.model.side_files import SideFiles
from tuner.service.asking import launch_words
from tuner.service.decisions import asked_launch, refuse_file
from tuner.service.refusal import NOT_TAKEN, ServiceError
from tuner.service.request import MAX_ARGUMENTS, DecisionRequest, Sha256
from tuner.verdicts.identity import launch_worker_digest
from tuner.verdicts.ladders import arm_workers_digest, stored_ladder
from tuner.verdicts.lookup import current_report
from tuner.verdicts.origin import HERE, IMPORTED
from tuner.verdicts.proofs import launch_identity, stored_proof

PROOF, ARMS = "proof", "arms"
"""The questions that a probe can answer: is the launch proved, and which of its arms answer rightly."""
ANSWERED = "answered"
"""The state of a launch whose verdict is stored: no row has it."""
ID_LENGTH = 32
MAX_NAME = 200
Version = Annotated[str, Meta(min_length=1, max_length=100)]


class Launch(Struct, frozen=True, forbid_unknown_fields=True):
    """A launch to probe, with all that a worker needs but the serving environment.

    Attributes:
        model: its name: a hub id, or any name for a model that has none.
        config: the content of its config.json.
        vllm: the release that must serve it.
        platform: the platform that must serve it, such as `cuda`.
        arguments: those behind the model that can reach it.
        side_files: SHA-256 of each small file beside config.json that vLLM reads, by its name.
        revision: commit on the hub.
        torch: its version, without its local part; None: any.
        plugins: of vLLM, as in the key of a verdict; None: any.
        question: what is asked: `proof`, as `tuner probe`, or `arms`, as `tuner tune`.
    """

    model: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    config: dict[str, Any]
    vllm: Version
    platform: Version
    arguments: Annotated[list[str], Meta(max_length=MAX_ARGUMENTS)] = []
    side_files: dict[str, Sha256] = {}
    revision: str | None = None
    torch: Version | None = None
    plugins: str | None = None
    question: Literal["proof", "arms"] = "proof"

    @property
    def described(self) -> Model:
        """The model as it is described; no folder of it is here.

        Raises:
            TunerError: its config names no architecture.
        """
        return describe(self.model, Path(), self.config, self.revision, SideFiles(digests=self.side_files))

    @property
    def read(self) -> ServeArguments:
        """The arguments, read, the model among them.

        Raises:
            TunerError: they name a --config file or another place of the model's config, or the model's own code may
                run.
        """
        arguments = parse([self.model, *self.arguments], refuse_file, vllm=self.vllm)
        if arguments.serving.trust_remote_code:
            raise TunerError(
                "A probe of the queue runs no code of a model (--trust-remote-code).",
                hint="Run `tuner probe --trust-remote-code` where you trust that code, and send its bundle.",
                kind=ErrorKind.REMOTE_CODE,
            )
        if arguments.serving.hf_config_path:
            raise TunerError(
                "A probe of the queue has its model's config with it (--hf-config-path).",
                hint="Leave the option out, and give the content of that config.json as `config`.",
                kind=ErrorKind.ARGUMENTS,
            )
        return arguments

    @property
    def plain_words(self) -> "Launch":
        """The same launch, of whose arguments those are left that can reach the model.

        Raises:
            TunerError: as `read`, or an argument looks like a secret.
        """
        arguments = self.read
        model_impl = arguments.serving.model_impl
        ways = ["--model-impl", model_impl] if model_impl != "auto" else []
        words = [*ways, *launch_identity(arguments).words()]
        if any(redacted(word) != word for word in words):
            raise ServiceError(NOT_TAKEN, "An argument looks like a secret.", "Leave it out.", kind=ErrorKind.ARGUMENTS)
        return replace(self, arguments=words)

    @property
    def summary(self) -> str:
        """What tells it from others, on one line."""
        return " ".join([self.model, *self.arguments])


def launch_asked(configs: Path | None, request: DecisionRequest) -> Launch:
    """The launch of a request for a decision. Its variables do not go along: those of the worker count.

    Raises:
        TunerError: as for `decide_launch`.
    """
    subject, arguments = asked_launch(configs, request)[:2]
    model, environment = subject.model, subject.environment
    wanted = wanted_of(environment)
    return Launch(
        model=model.name[:MAX_NAME],
        config=model.config,
        vllm=wanted.vllm,
        platform=wanted.platform,
        arguments=launch_words(subject, arguments)[1:],
        side_files=dict(model.side.digests),
        revision=model.revision,
        torch=wanted.torch,
        plugins=wanted.plugins,
    )


def wanted_of(environment: Environment) -> Wanted:
    """A serving environment, as far as it decides who may run a probe."""
    return Wanted(
        vllm=public_version(environment.vllm),
        platform=environment.platform,
        torch=public_version(environment.torch),
        plugins="; ".join(environment.plugins),
    )


def new_probe(launch: Launch) -> NewProbe:
    """The row of a launch; the same model in the same launch and environment gives the same row.

    Of the arguments it holds those that can reach the model.

    Raises:
        TunerError: the launch cannot be probed by a worker.
    """
    model, arguments = launch.described, launch.read
    subject = {
        "fingerprint": model.fingerprint,
        "model_impl": arguments.serving.model_impl,
        "vllm": launch.vllm,
        "platform": launch.platform,
    }
    row = {
        **subject,
        "torch": launch.torch,
        "plugins": launch.plugins,
        "launch": launch_identity(arguments).key,
        "question": launch.question,
    }
    return NewProbe(
        id=digest(row)[:ID_LENGTH],
        launch=encode(launch.plain_words).decode(),
        subject=digest(subject)[:ID_LENGTH],
        wanted=Wanted(launch.vllm, launch.platform, launch.torch, launch.plugins),
    )


def launch_of(row: QueuedProbe) -> Launch:
    """The launch in a row.

    Raises:
        ServiceError: the row is damaged.
    """
    try:
        return decode(row.launch, type=Launch)
    except DecodeError:  # a ValidationError is one
        raise ServiceError(NOT_TAKEN, f"The queued probe {row.id} is damaged.", "Send it again.") from None


def stored_entry(store: VerdictStore, launch: Launch) -> Entry | None:
    """The latest stored verdict on the launch's model in an environment as it is wanted; None if there is none.

    Files of vLLM are not compared: whoever uses the verdict does that. A verdict that was probed in the future, by a
    clock that was ahead, is the latest only if there is no other.

    Raises:
        StoreError: the store is damaged.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entries = list(_fitting(store, launch))
    return max(entries, key=lambda entry: (entry.probed_at <= now, entry.probed_at), default=None)


def _fitting(store: VerdictStore, launch: Launch) -> Iterator[Entry]:
    model, arguments = launch.described, launch.read
    for entry in store.of_architecture(model.architecture):
        key = entry.key
        same_model = (key.get("fingerprint"), key.get("model_impl")) == (
            model.fingerprint,
            arguments.serving.model_impl,
        )
        same_place = (public_version(key.get("vllm")), key.get("platform")) == (launch.vllm, launch.platform)
        same_torch = launch.torch is None or public_version(key.get("torch")) == launch.torch
        same_plugins = launch.plugins is None or key.get("plugins", "") == launch.plugins
        if same_model and same_place and same_torch and same_plugins:
            yield entry


def is_answered(store: VerdictStore, launch: Launch) -> bool:
    """Whether what is stored answers the question of a launch, so that no probe is needed.

    Raises:
        TunerError: as `new_probe`.
        StoreError, ReportError: as `current_report`.
    """
    entry = stored_entry(store, launch)
    return entry is not None and answers(launch, *current_report(store, entry))


def answers(launch: Launch, report: Report, verdict: Verdict) -> bool:
    """Whether a report answers the question of a launch, for this release's workers."""
    key = launch_identity(launch.read).key
    if launch.question == ARMS:
        ladder = stored_ladder(report, key)
        return ladder is not None and ladder.worker == arm_workers_digest()
    if verdict.word.unsafe or verdict.word is Word.NO_MOE:
        return True
    proof = stored_proof(report, key)
    return proof is not None and proof.worker == launch_worker_digest()


def giving_way_to(store: VerdictStore, new: Entry) -> list[str]:
    """The origins (`tuner.verdicts.origin`) of which a stored verdict of the same key gives way to a worker's.

    Nothing may be lost of it: each launch of which it says something is in the new one, too, and what was probed here
    gives way only to the same report with more launches.

    Raises:
        StoreError: the store cannot be used.
    """
    stored = store.get(new.key)
    if stored is None or not _launches(stored) <= _launches(new):
        return []
    return [IMPORTED, HERE] if _without_launches(stored) == _without_launches(new) else [IMPORTED]


def _launches(entry: Entry) -> set[tuple[str, str]]:
    """What an entry says of launches: the kind and the launch's key."""
    return {(kind, str(part.get("key"))) for kind in _PARTS for part in entry.report.get(kind, [])}


def _without_launches(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.report.items() if name not in _PARTS}


_PARTS = ("proofs", "ladders")
"""What a report holds of single launches."""


def row_part(row: QueuedProbe, now: float) -> dict[str, Any]:
    """A row for the list."""
    launch = launch_of(row)
    return {
        "id": row.id,
        "state": row.state(now),
        "model": launch.model,
        "arguments": launch.arguments,
        "question": launch.question,
        "vllm": launch.vllm,
        "platform": launch.platform,
        "torch": launch.torch,
        "queued_at": row.queued_at,
        "failures": row.failures,
        "reason": row.reason or None,
        "worker": row.worker or None,
        "lease_until": row.lease_until if row.lease else None,
    }


def builtins_of(launch: Launch) -> dict[str, Any]:
    """A launch as JSON values."""
    values: dict[str, Any] = to_builtins(launch)
    return values
