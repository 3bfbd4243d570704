"""The plan of a launch as a service decides it, checked here before it is used.

The service sees what tells the launch from others: no option that cannot reach the model, and no secret.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from cache.errors import StoreError
from cache.secrets import is_withheld, redacted
from cache.verdicts.signed_times import SignedTimes
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.arguments.serve_arguments import ServeArguments
from tuner.environment.document import environment_document
from tuner.environment.environment import Environment
from tuner.launch.decision_document import one_decision
from tuner.launch.decision_file import decision_in, plan_decided
from tuner.launch.plan import Options, Plan, make_plan
from tuner.service.client import Answer, Client
from tuner.untrusted.json_text import UnusableError, parse_object
from tuner.verdicts.identity import Subject, hash_sources
from tuner.verdicts.ladders import PREFIXES
from tuner.verdicts.proofs import launch_identity

PLACES = ("HOME", "XDG_CACHE_HOME")
"""Variables by which vLLM finds its caches."""


class Signed(Struct, frozen=True):
    """What a node demands of the line of a verdict.

    Attributes:
        public: file of the public key that must have signed it.
        times: when the lines were signed that came before; an older one is refused.
        say: is given a sentence if the time of this one cannot be kept.
    """

    public: Path
    times: SignedTimes
    say: Callable[[str], None]


def asked_plan(
    client: Client, subject: Subject, arguments: ServeArguments, options: Options, signed: Signed | None
) -> Plan:
    """The plan that a service makes for these arguments.

    `tuner.model.patience` bounds the time. The files behind the verdict are compared with those that are here.

    Args:
        client: the service.
        subject: the model and the environment.
        arguments: those of `vllm serve`.
        options: how to decide.
        signed: what is demanded of the verdict's line. Then the service only names the verdict, and the launch is
            decided here, by that verdict alone. None: the service decides.

    Raises:
        TunerError: the service does not answer with a decision for this launch, or it decides for other files.
    """
    body = json.dumps(_request(subject, arguments, options)).encode()
    name = f"the service {client.name}"
    document = one_decision(_object(client.ask("POST", "/v1/decisions", body), name), name)
    if signed is not None:
        return _plan_of_line(client, document, signed, _Launch(subject, arguments, options))
    plan = plan_decided(decision_in(Path(name), document), subject, arguments, options)
    if plan.lookup.verdict is not None:
        _require_same_files(client, document, subject.environment, proved=plan.decision.setting is True)
    return plan


class _Launch(Struct, frozen=True):
    """A launch that is decided here."""

    subject: Subject
    arguments: ServeArguments
    options: Options


def _plan_of_line(client: Client, document: Mapping[str, Any], signed: Signed, launch: _Launch) -> Plan:
    """The plan that is made here, by the one verdict that the service names, if its line is signed.

    Raises:
        TunerError: the line cannot be had, is not signed with the key, is older than one before, or is damaged.
    """
    from tempfile import TemporaryDirectory  # noqa: PLC0415  as below

    from tuner.exchange.sent_line import SentLine, required_lines  # noqa: PLC0415  pydantic: unsigned answers need none
    from tuner.exchange.transfer import import_lines  # noqa: PLC0415  likewise

    with TemporaryDirectory(prefix="tuner-") as folder:
        store = VerdictStore(Path(folder) / "verdicts.sqlite")
        evidence = document.get("evidence")
        if isinstance(evidence, dict):
            sent = _object(client.ask("GET", f"/v1/verdicts/{evidence.get('key')}/line"), "its line")
            line, signature = sent.get("line"), sent.get("signature")
            if not isinstance(line, str) or not isinstance(signature, str):
                raise _unasked("its line has another shape")
            (checked,) = required_lines([SentLine(line.encode(errors="replace"), signature)], signed.public)
            import_lines(store, [checked], f"the service {client.name}")
            (entry,) = store.entries()
            _require_newest(signed, entry.digest, checked.signed_at)
        return make_plan(store, launch.subject, launch.arguments, launch.options)


def _require_newest(signed: Signed, key: str, signed_at: int) -> None:
    """Refuse a line that is older than one of the same verdict that came before; keep its time.

    Raises:
        TunerError: it is older, or the times cannot be read.
    """
    now = time.time()
    before = signed.times.newest(now).get(key, 0)
    if signed_at < before:
        raise _unasked(f"it gives the line of {_date(signed_at)}, and gave one of {_date(before)} before")
    try:
        signed.times.keep({key: signed_at}, now)
    except StoreError as error:
        signed.say(f"an older line of this verdict would not be noticed later: {error.message}")


def _date(seconds: int) -> str:
    """A time in sentences."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _request(subject: Subject, arguments: ServeArguments, options: Options) -> dict[str, Any]:
    words = launch_words(subject, arguments)
    if any(redacted(word) != word for word in words):
        raise _unasked("an argument looks like a secret, and is not sent to a service")
    model = subject.model
    return {
        "environment": environment_document(subject.environment),
        "arguments": words,
        "variables": sent_variables(options.environ),
        "model": {"config": model.config, "side_files": dict(model.side.digests), "revision": model.revision},
        "accept_platform": options.accept_platform,
    }


def launch_words(subject: Subject, arguments: ServeArguments) -> list[str]:
    """The arguments that decide: the model, what can reach it, and the compilation config."""
    words = [subject.model.name]
    words += ["--model-impl", subject.model_impl] if subject.model_impl != "auto" else []
    words += ["--trust-remote-code"] if subject.trust_remote_code else []
    words += launch_identity(arguments).arguments
    config = arguments.compilation_config
    return [*words, *(["--compilation-config", json.dumps(config)] if config else [])]


def sent_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may change how an engine computes or where caches lie, without secrets."""
    return {
        name: value
        for name, value in environ.items()
        if (name.startswith(PREFIXES) or name in PLACES) and not is_withheld(name, value)
    }


def _require_same_files(client: Client, document: Mapping[str, Any], environment: Environment, *, proved: bool) -> None:
    """Refuse a decision that rests on other files of vLLM than those that are here.

    Args:
        client: is asked for the verdict behind the decision.
        document: the decision.
        environment: the serving environment, whose files are here.
        proved: the decision rests on a proof, too.

    Raises:
        TunerError: they differ, or the verdict or the proof cannot be had.
    """
    evidence, proof = document.get("evidence"), document.get("proof")
    if not isinstance(evidence, dict) or (proved and not isinstance(proof, dict)):
        raise _unasked("its answer does not say what it rests on")
    entry = _object(client.ask("GET", f"/v1/verdicts/{evidence.get('key')}"), "its verdict")
    try:
        files = dict(entry["sources"])
        if isinstance(proof, dict):
            (traced,) = [stored for stored in entry["report"]["proofs"] if stored["key"] == proof["key"]]
            files |= traced["sources"]
        here = hash_sources(environment, [str(file) for file in files])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _unasked("its verdict has another shape") from None
    changed = [file for file, digest in files.items() if here[file] != digest]
    if changed:
        raise _unasked(f"of {len(files)} files behind its verdict {len(changed)} differ here, first {changed[0]:.200}")


def _object(answer: Answer, name: str) -> dict[str, Any]:
    try:
        return parse_object(answer.body)
    except UnusableError as error:
        raise _unasked(f"{name} {error}") from None


def _unasked(why: str) -> TunerError:
    return TunerError(f"The service does not decide this launch: {why}.", kind=ErrorKind.SERVICE)
