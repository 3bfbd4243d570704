"""The stored proof of a launch: found by the launch's key, and compared with what is here now.

Stands in a start path: nothing here may be slow to import.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from cache.key import digest
from cache.verdicts.entry import Entry
from rules.launch_key import OURS, launch_key, reaching, shares, variables_agree
from rules.proof_finding import ProofFinding, ProofWord
from rules.reason import Reason, reason
from rules.report import Proof, Report
from rules.verdict import Verdict
from tuner.arguments.serve_arguments import ServeArguments
from tuner.text import brief
from tuner.verdicts.identity import MISSING, Subject, hash_sources, launch_worker_digest

if TYPE_CHECKING:
    from tuner.verdicts.answer import LookUp


PLAIN_LAUNCH = "the plain launch"
"""What the launch of the model alone is called."""
MAX_LAUNCH = 300
"""Characters of a launch that a sentence shows."""


class LaunchIdentity(Struct, frozen=True):
    """What tells launches of one model apart.

    Attributes:
        key: see `rules.launch_key`.
        effective: all arguments, those of the `--config` file first.
        arguments: those that can reach the model.
        config: what counts of the compilation config.
    """

    key: str
    effective: tuple[str, ...]
    arguments: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def plain(self) -> bool:
        """Whether nothing that is asked for beside the model can reach it."""
        return not self.arguments and not self.config

    def words(self) -> tuple[str, ...]:
        """What tells the launch from the plain one, as arguments."""
        return _words(self.arguments, self.config)


class LaunchProof(Struct, frozen=True):
    """What is stored about one launch.

    Attributes:
        key: of the proof; empty if none applies.
        finding: what it proves; None if none applies.
        why_not: why none applies; None if one does.
        launch: for which launch it was made, on one line.
        platform: on which it was made.
        shared: the launch differs from the proof's, in nothing that anybody read.
        folder: names the cache root of launches that rest on it: 16 hexadecimal characters.
        variables: digest of the value of each environment variable that was read.
    """

    key: str = ""
    finding: ProofFinding | None = None
    why_not: Reason | None = None
    launch: str = ""
    platform: str = ""
    shared: bool = False
    folder: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_decided(self) -> bool:
        """Whether it says what the launch's compiled code does, safe or not."""
        return self.finding is not None and self.finding.word is not ProofWord.NOT_PROVED


NO_PROOF = LaunchProof()
"""That of a launch which was decided elsewhere."""


def launch_identity(arguments: ServeArguments) -> LaunchIdentity:
    """The identity of a launch; a null in the compilation config asks for vLLM's default."""
    written = arguments.compilation_config
    config = {key: value for key, value in written.items() if key not in OURS and value is not None}
    key = launch_key(arguments.effective, config)
    return LaunchIdentity(key, arguments.effective, reaching(arguments.effective), config)


def launch_line(arguments: Sequence[str], config: Mapping[str, Any]) -> str:
    """A launch on one line: what tells it from the plain one.

    Args:
        arguments: those that can reach the model.
        config: what counts of its compilation config.
    """
    words = _words(arguments, config)
    return shlex.join(words) if words else PLAIN_LAUNCH


def _words(arguments: Sequence[str], config: Mapping[str, Any]) -> tuple[str, ...]:
    return (*arguments, *(("--compilation-config", json.dumps(config)) if config else ()))


def proving_command(subject: Subject, launch: LaunchIdentity, tool_options: Sequence[str]) -> tuple[str, ...]:
    """The command that tries to prove a launch of a model, as words.

    Args:
        subject: the model and where it is served.
        launch: what is launched.
        tool_options: options of this tool that the command needs as well, such as `--python PATH`.
    """
    revision = subject.model.revision
    options = [
        *(["--revision", revision] if revision else []),
        *(["--model-impl", subject.model_impl] if subject.model_impl != "auto" else []),
        *(["--trust-remote-code"] if subject.trust_remote_code else []),
    ]
    behind = ["--", *launch.words()] if not launch.plain else []
    return ("tuner", "probe", *tool_options, *options, subject.model.name, *behind)


def proof_for(
    lookup: "LookUp", subject: Subject, launch: LaunchIdentity, environ: Mapping[str, str], *, files_at_hand: bool
) -> LaunchProof:
    """The proof that applies to a launch: its own, else one of a launch that differs in nothing that was read.

    Args:
        lookup: the stored verdict.
        subject: the model and where it is served.
        launch: what is launched.
        environ: the environment variables of the launch.
        files_at_hand: the environment's source files can be read here.
    """
    entry, report, verdict = lookup.entry, lookup.report, lookup.verdict
    if entry is None or report is None or verdict is None:
        return LaunchProof(why_not=reason("no_verdict"))
    candidates = _candidates(report, verdict, launch)
    if not candidates:
        missing = reason("no_proof_of_launch", launch=brief(launch_line(launch.arguments, launch.config), MAX_LAUNCH))
        return LaunchProof(why_not=missing)
    reasons = []
    for proof in candidates:
        why_not = _unlike(proof, subject, lookup.accepted_platform, environ)
        why_not = why_not or _outdated(proof, lookup, subject, files_at_hand)
        if not why_not:
            return _applied(entry, proof, verdict.proofs[proof.key], launch)
        reasons.append(why_not)
    return LaunchProof(why_not=reasons[0])


def outdated(proof: Proof, subject: Subject, *, files_at_hand: bool) -> Reason | None:
    """Why a stored proof says nothing of what is here now; None if it does."""
    if proof.worker != launch_worker_digest():
        return reason("proof_of_other_tool")
    if not files_at_hand:
        return None
    stored = proof.sources
    here = hash_sources(subject.environment, stored)
    changed = sorted(file for file in stored if here[file] != stored[file])
    if not changed:
        return None
    code = "proof_file_gone" if here[changed[0]] == MISSING else "proof_file_changed"
    return reason(code, file=changed[0], more=len(changed) - 1)


def _outdated(proof: Proof, lookup: "LookUp", subject: Subject, files_at_hand: bool) -> Reason | None:
    """As `outdated`, without hashing again what the look-up hashed."""
    if proof.key in lookup.outdated:
        return lookup.outdated[proof.key]
    return outdated(proof, subject, files_at_hand=files_at_hand)


def stored_proof(report: Report, key: str) -> Proof | None:
    """The proof of one launch in a stored report; None if there is none."""
    return next((proof for proof in report.proofs if proof.key == key), None)


def _candidates(report: Report, verdict: Verdict, launch: LaunchIdentity) -> list[Proof]:
    """The launch's own proof, then those that it may share."""
    own, shared = [], []
    for proof in report.proofs:
        if proof.key not in verdict.proofs:
            continue
        if proof.key == launch.key:
            own.append(proof)
        elif _is_shared(proof, verdict, launch):
            shared.append(proof)
    return [*own, *shared]


def _is_shared(proof: Proof, verdict: Verdict, launch: LaunchIdentity) -> bool:
    """Whether a launch differs from a proof's only in options whose fields nobody read while it was made."""
    if verdict.proofs[proof.key].word not in SHARED_WORDS:
        return False
    return shares(launch.effective, launch.config, proof.key, proof.arguments, proof.fields)


def _unlike(proof: Proof, subject: Subject, accepted_platform: str | None, environ: Mapping[str, str]) -> Reason | None:
    """How the surroundings of a launch differ from those of a proof; None if they do not."""
    platform = accepted_platform or subject.environment.platform
    if proof.platform != platform:
        return reason("proof_on_other_platform", stored=proof.platform, platform=platform)
    for name, value in proof.variables.items():
        if not variables_agree({name: value}, environ):
            return reason("proof_with_other_variable", variable=name)
    return None


def _applied(entry: Entry, proof: Proof, finding: ProofFinding, launch: LaunchIdentity) -> LaunchProof:
    return LaunchProof(
        key=proof.key,
        finding=finding,
        launch=launch_line(proof.arguments, launch.config),
        platform=proof.platform,
        shared=proof.key != launch.key,
        folder=_folder(entry, proof),
        variables=proof.variables,
    )


def _folder(entry: Entry, proof: Proof) -> str:
    """A name that changes with all that the trace depends on: compiled code outlives the proof that it was made under.

    Files that only construct the model and plain environment variables are in no key of vLLM's own (0.16.0 to 0.33.0).
    """
    factors = {
        "key": proof.key,
        "platform": proof.platform,
        "variables": proof.variables,
        "sources": proof.sources,
        "verdict": entry.digest,
    }
    return digest(factors)[:16]


SHARED_WORDS = frozenset({ProofWord.PROVED, ProofWord.NOT_COMPILED})
"""What a launch may take over from one that differs in nothing that was read."""
