"""A decision that was made elsewhere: the document of `tuner export --format json`, read back by `tuner serve`.

Every rank of a launch over many machines reads the same file and so decides alike, without a store. What the file says
holds for the model, the environment and the settings that it was made for; a launch that differs in one is refused,
because ranks that fall back one by one would no longer agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rules.assumptions import COVERED
from rules.decide import MODE, NAME, Decision, Refusal
from rules.releases import Flag, FlagStatus
from rules.settings import SHOWN_BY
from rules.verdict import Verdict, Word
from tuner.arguments import ServeArguments, parse
from tuner.cache_location import CACHE_ROOT
from tuner.decision_document import HINT, load_decision, not_a_decision
from tuner.errors import TunerError
from tuner.identity import Subject, public_version
from tuner.memory import LookUp
from tuner.plan import Options, Plan, as_bool, carried, explicit_flag, launch_settings, other_model, without_null


@dataclass(frozen=True)
class DecisionFile:
    """What a decision file says.

    Attributes:
        path: where it lies.
        model: its `model` part.
        environment: its `environment` part.
        verdict: the verdict behind it; None if none was stored.
        key: the digest of that verdict's key; None without one.
        flag: what the flag can do there.
        settings: the keys of the compilation config that it decides: the flag and the compile mode. Not `cache_dir`,
            which is named by all arguments of one launch.
        cache_root: the VLLM_CACHE_ROOT that it sets; None if it sets none.
        refusal: whether it says that the launch must not happen.
        arguments: the launch that it was made for.
    """

    path: Path
    model: Mapping[str, Any]
    environment: Mapping[str, Any]
    verdict: Word | None
    key: str | None
    flag: Flag
    settings: Mapping[str, Any]
    cache_root: str | None
    refusal: Refusal
    arguments: ServeArguments


def read_decision(path: Path) -> DecisionFile:
    """The decision in a file.

    Raises:
        TunerError: the file cannot be read, is no such document, or has a `schema_version` that is not ours.
    """
    document = load_decision(path)
    try:
        return _decision(path, document)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise not_a_decision(str(path), "a field is missing or damaged") from None


def plan_decided(decided: DecisionFile, subject: Subject, arguments: ServeArguments, options: Options) -> Plan:
    """The plan that a decision file makes for one rank. The values and the cache root of the command itself win.

    Raises:
        TunerError: as `require_same_launch`.
    """
    require_same_launch(decided, subject, arguments, options)
    arguments = without_null(arguments)
    additions = {key: value for key, value in decided.settings.items() if key not in arguments.compilation_config}
    word = decided.verdict
    key = f", key {decided.key[:12]}" if decided.key else ""
    reason = f"decided by {decided.path} (verdict {word or 'none stored'}{key})"
    explicit = explicit_flag(arguments)
    warnings = [*arguments.warnings]
    if explicit is not None and explicit != decided.settings.get(NAME, explicit):
        warnings.append(
            f"{NAME}={str(explicit).lower()} was given by the user and is kept; {decided.path} says otherwise"
        )
    decision = Decision(
        setting=additions.get(NAME),
        reasons=(reason,),
        refusal=_refusal(decided, arguments, options),
        mode=additions.get(MODE),
        mode_reasons=(reason,),
    )
    verdict = None if word is None else Verdict(word, (reason,))
    found = LookUp(None, verdict, () if verdict else (f"none stood behind {decided.path}",), verified=False)
    options = replace(options, cache_root=options.cache_root or decided.cache_root)
    launch = carried(subject, arguments, options, additions)
    return Plan(subject, found, decided.flag, decision, launch, tuple(warnings))


def _refusal(decided: DecisionFile, arguments: ServeArguments, options: Options) -> Refusal:
    """What the file refuses; with `enforce` and `strict` also as without a file (`rules.decide`)."""
    word = decided.verdict
    against = explicit_flag(arguments) is True and decided.settings.get(NAME) is False
    if options.enforce and against and ((word is not None and word.unsafe) or arguments.serving.speculative):
        return Refusal.UNSAFE
    on_or_unknown = decided.flag.status in {FlagStatus.ALWAYS_ON, FlagStatus.UNKNOWN}
    may_count = on_or_unknown and decided.settings.get(NAME) is not False
    if options.strict and decided.refusal is Refusal.NONE and (against or (may_count and not (word and word.safe))):
        return Refusal.UNKNOWN
    return decided.refusal


def require_same_launch(decided: DecisionFile, subject: Subject, arguments: ServeArguments, options: Options) -> None:
    """Nothing in which this launch differs from the one that was decided could change the decision.

    Versions are compared without their local part. Settings that no rule covers (`rules.assumptions`), or that a
    variant of the probe may have shown to be unsafe (`rules.settings`), must be among those that were decided for, and
    a draft must be the same one. The rest may differ, tensor and data parallel sizes among it.

    Raises:
        TunerError: it differs; the sentence names every difference.
    """
    model, environment = subject.model, subject.environment
    there = {**decided.model, **decided.environment}
    here = {
        "architecture": model.architecture,
        "fingerprint": model.fingerprint,
        "model_impl": subject.model_impl,
        "vllm": environment.vllm,
        "torch": environment.torch,
        "platform": environment.platform,
    }
    wrong = [
        _difference(name, there.get(name), value)
        for name, value in here.items()
        if public_version(there.get(name)) != public_version(value)
    ]
    wrong += _new_settings(decided.arguments, arguments)
    if decided.settings.get(NAME):
        wrong += [f"{name} is set, so vLLM may serve another model" for name in other_model(subject, options.environ)]
    if wrong:
        said = f"{decided.path} decides another launch: {'; '.join(wrong)}."
        raise TunerError(said, hint=HINT, kind="decision")


def _decision(path: Path, document: Mapping[str, Any]) -> DecisionFile:
    environment, launch, evidence = document["environment"], document["launch"], document["evidence"]
    config, word = launch["compilation_config"], document["verdict"]
    settings = {key: config[key] for key in (NAME, MODE) if config.get(key) is not None}
    if NAME in settings:
        settings[NAME] = as_bool(settings[NAME])
    if not all(isinstance(text, str) for text in (*launch["args"], *launch["env"].values())):
        raise TypeError
    return DecisionFile(
        path=path,
        model=dict(document["model"]),
        environment=dict(environment),
        verdict=None if word is None else Word(word),
        key=None if evidence is None else str(evidence["key"]),
        flag=Flag(FlagStatus(environment["flag_status"]), environment["flag_reason"], environment["flag_source"]),
        settings=settings,
        cache_root=launch["env"].get(CACHE_ROOT),
        refusal=Refusal(document["refusal"]),
        arguments=parse(launch["args"], vllm=environment["vllm"]),
    )


def _new_settings(decided: ServeArguments, arguments: ServeArguments) -> list[str]:
    """What this launch asks for, and the decision was not made for."""
    known = {*launch_settings(decided.serving), *(COVERED.keys() - SHOWN_BY.keys())}
    new = [name for name in launch_settings(arguments.serving) if name not in known]
    wrong = [f"this launch has {name}, which it was not made for" for name in new]
    for field in ("speculative", "hf_overrides"):
        value = getattr(arguments.serving, field)
        if value and value != getattr(decided.serving, field) and field not in new:
            wrong.append(f"this launch has another {field} than it was made for")
    if arguments.serving.trust_remote_code != decided.serving.trust_remote_code:
        wrong.append("only one of the two has --trust-remote-code")
    return wrong


def _difference(name: str, there: object, here: object) -> str:
    if name == "fingerprint":
        return "the model's configuration"
    return f"{name} (there: {there or 'none'}, here: {here or 'none'})"
