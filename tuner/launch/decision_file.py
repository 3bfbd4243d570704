"""A decision that was made elsewhere: the document of `tuner export --format json`, read back by `tuner serve`.

Every rank of a launch over many machines reads the same file and so decides alike, without a store. The file is used
only for the model, the environment and the launch that it was made for. Anything else is refused: if some ranks fell
back to another decision, the ranks would no longer agree.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from rules.decide import FLAG_KEY, MODE_KEY, Decision, Refusal
from rules.errors import ErrorKind, TunerError
from rules.launch_key import variables_agree
from rules.reason import reason
from rules.releases import Flag, FlagStatus, public_version
from rules.verdict import Verdict, Word
from tuner.arguments.serve_arguments import ServeArguments, parse, without_options
from tuner.launch.cache_root import CACHE_ROOT, name_of_proof
from tuner.launch.decision_document import HINT, load_decision, not_a_decision
from tuner.launch.plan import (
    Options,
    Plan,
    as_bool,
    build_launch,
    explicit_flag,
    other_model,
    warnings_of,
    without_null,
)
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject
from tuner.verdicts.ladders import computing_variables
from tuner.verdicts.proofs import LaunchIdentity, launch_identity, launch_line


class DecisionFile(Struct, frozen=True):
    """What a decision file says.

    Attributes:
        path: where it lies.
        model: its `model` part.
        environment: its `environment` part.
        verdict: the verdict behind it; None if none was stored.
        key: the digest of that verdict's key; None without one.
        flag: what the flag can do there.
        settings: the keys of the compilation config that it decides: the flag, the compile mode, and what the arms of
            the launch showed. Not `cache_dir`, which is named by all arguments of one launch.
        options: the options that it adds.
        cache_root: the VLLM_CACHE_ROOT that it sets; None if it sets none.
        refusal: whether it says that the launch must not happen.
        arguments: the launch that it was made for, without what it adds.
        proof: names the proof behind a `true`; empty if there is none.
        variables: digest of each environment variable that the proof read.
        arm_variables: digest of each variable under which the arms of the launch were tried.
    """

    path: Path
    model: Mapping[str, Any]
    environment: Mapping[str, Any]
    verdict: Word | None
    key: str | None
    flag: Flag
    settings: Mapping[str, Any]
    options: tuple[str, ...]
    cache_root: str | None
    refusal: Refusal
    arguments: ServeArguments
    proof: str
    variables: Mapping[str, str]
    arm_variables: Mapping[str, str]

    @property
    def remedy(self) -> dict[str, Any]:
        """The keys of the compilation config that the arms of the launch asked for, as far as only they do."""
        return {key: value for key, value in self.settings.items() if key not in {FLAG_KEY, MODE_KEY}}

    @property
    def has_remedy(self) -> bool:
        """Whether it writes what the arms of its launch showed, which holds for no other launch."""
        return bool(self.remedy or self.options)


def read_decision(path: Path) -> DecisionFile:
    """The decision in a file.

    Raises:
        TunerError: the file cannot be read, is no such document, has a `schema_version` that is not ours, or switches
            the flag on without a proof.
    """
    return decision_in(path, load_decision(path))


def decision_in(path: Path, document: Mapping[str, Any]) -> DecisionFile:
    """The decision in a document that was read from `path`; errors as for `read_decision`."""
    try:
        decided = _decision(path, document)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise not_a_decision(str(path), "a field is missing or damaged") from None
    if decided.settings.get(FLAG_KEY) and not decided.proof:
        raise not_a_decision(str(path), f"it sets {FLAG_KEY} to true and names no proof of the launch")
    return decided


def plan_decided(decided: DecisionFile, subject: Subject, arguments: ServeArguments, options: Options) -> Plan:
    """The plan that a decision file makes for one rank. The values and the cache root of the command itself win.

    Raises:
        TunerError: as `require_same_launch`.
    """
    require_same_launch(decided, subject, arguments, options)
    arguments = without_null(arguments)
    own = arguments.compilation_config
    additions = {key: value for key, value in decided.settings.items() if key not in own or isinstance(value, dict)}
    word = decided.verdict
    key = {"key": decided.key} if decided.key else {}
    decided_by = reason("decided_by_file", path=str(decided.path), verdict=str(word or "none stored"), **key)
    explicit = explicit_flag(arguments)
    warnings = warnings_of(arguments)
    if explicit is not None and explicit != decided.settings.get(FLAG_KEY, explicit):
        against = reason("against_file", value=str(explicit).lower(), path=str(decided.path))
        warnings = (*warnings, against)
    decision = Decision(
        setting=additions.get(FLAG_KEY),
        reasons=(decided_by,),
        refusal=_refusal(decided, arguments, options),
        mode=additions.get(MODE_KEY),
        mode_reasons=(decided_by,),
        config=decided.remedy,
        options=decided.options,
        engine_reasons=(decided_by,) if decided.has_remedy else (),
    )
    verdict = None if word is None else Verdict(word, (decided_by,))
    miss = () if verdict else (reason("none_behind_file", path=str(decided.path)),)
    lookup = LookUp(None, verdict, miss, verified=False)
    options = replace(options, cache_root=options.cache_root or decided.cache_root, proof=decided.proof)
    launch = build_launch(subject, arguments, options, additions, decided.options)
    return Plan(subject, lookup, decided.flag, decision, launch, warnings)


class Fact(Enum):
    """What may be true of a launch and the file that decides it."""

    ENFORCED = auto()
    """The command refuses a value of the user's that contradicts an unsafe verdict."""
    FAILS_ON_UNKNOWN = auto()
    """The command refuses what nothing is known of."""
    ALLOWED = auto()
    """The file itself refuses nothing."""
    CONTRADICTED = auto()
    """The user sets the flag to true, and the file to false."""
    UNSAFE = auto()
    """The verdict is unsafe, or there is a draft model."""
    UNSURE = auto()
    """Layers may be counted, and no safe verdict stands behind the file."""


REFUSALS = (
    ({Fact.ENFORCED, Fact.CONTRADICTED, Fact.UNSAFE}, Refusal.UNSAFE),
    ({Fact.FAILS_ON_UNKNOWN, Fact.ALLOWED, Fact.CONTRADICTED}, Refusal.UNKNOWN),
    ({Fact.FAILS_ON_UNKNOWN, Fact.ALLOWED, Fact.UNSURE}, Refusal.UNKNOWN),
)
"""Facts that must all hold -> the refusal; the first row counts. As without a file (`rules.decide`)."""


def _refusal(decided: DecisionFile, arguments: ServeArguments, options: Options) -> Refusal:
    """What is refused: by `REFUSALS`, else what the file refuses."""
    facts = _facts(decided, arguments, options)
    return next((refusal for needed, refusal in REFUSALS if needed <= facts), decided.refusal)


def _facts(decided: DecisionFile, arguments: ServeArguments, options: Options) -> set[Fact]:
    word, setting = decided.verdict, decided.settings.get(FLAG_KEY)
    on_or_unknown = decided.flag.status in {FlagStatus.ALWAYS_ON, FlagStatus.UNKNOWN}
    may_count = on_or_unknown and setting is not False
    facts = {
        Fact.ENFORCED: options.enforce,
        Fact.FAILS_ON_UNKNOWN: options.fail_on_unknown,
        Fact.ALLOWED: decided.refusal is Refusal.NONE,
        Fact.CONTRADICTED: explicit_flag(arguments) is True and setting is False,
        Fact.UNSAFE: (word is not None and word.unsafe) or bool(arguments.serving.speculative),
        Fact.UNSURE: may_count and (word is None or not word.safe),
    }
    return {fact for fact, holds in facts.items() if holds}


def require_same_launch(decided: DecisionFile, subject: Subject, arguments: ServeArguments, options: Options) -> None:
    """Require that no difference between this launch and the one that was decided could change the decision.

    Versions are compared without their local part. A flag that is written as false, or that does nothing, is right for
    every launch of the model. In all other cases the launch must be the one that was decided, by its key
    (`rules.launch_key`); so must a launch whose arms were tried. Ranks may differ in what says which rank they are.

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
        **({"gpu": environment.gpu} if decided.has_remedy else {}),
    }
    wrong = [
        _difference(name, there.get(name), value)
        for name, value in here.items()
        if public_version(there.get(name)) != public_version(value)
    ]
    if arguments.serving.trust_remote_code != decided.arguments.serving.trust_remote_code:
        wrong.append("only one of the two has --trust-remote-code")
    if _holds_for_one_launch(decided):
        wrong += _another_launch(decided, arguments, options)
    if decided.settings.get(FLAG_KEY):
        wrong += [f"{name} is set, so vLLM may serve another model" for name in other_model(subject, options.environ)]
    if wrong:
        message = f"{decided.path} decides another launch: {'; '.join(wrong)}."
        raise TunerError(message, hint=HINT, kind=ErrorKind.DECISION)


def _decision(path: Path, document: Mapping[str, Any]) -> DecisionFile:
    environment, launch, evidence = document["environment"], document["launch"], document["evidence"]
    config, word = launch["compilation_config"], document["verdict"]
    added, options = _written(launch)
    settings = {key: config[key] for key in (FLAG_KEY, MODE_KEY) if config.get(key) is not None} | added
    if FLAG_KEY in settings:
        settings[FLAG_KEY] = as_bool(settings[FLAG_KEY])
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
        options=options,
        cache_root=launch["env"].get(CACHE_ROOT),
        refusal=Refusal(document["refusal"]),
        arguments=_without_additions(parse(launch["args"], vllm=environment["vllm"]), added, options),
        proof=name_of_proof(launch["env"].get(CACHE_ROOT, "")),
        variables=_variables(document.get("proof")),
        arm_variables=_variables(document.get("ladder")),
    )


def _variables(part: object) -> dict[str, str]:
    """The digests of the variables that a proof read, or under which arms were tried.

    Raises:
        TypeError, KeyError: they are of another shape.
    """
    if part is None or part == "missing":  # the second: an answer of the service
        return {}
    if not isinstance(part, dict) or not isinstance(part["variables"], dict):
        raise TypeError
    return {str(name): str(value) for name, value in part["variables"].items()}


def _written(launch: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a document says that the decision added to the launch: keys of the compilation config, and options.

    A document without this part is of a release that wrote the flag and the compile mode alone.

    Raises:
        KeyError, TypeError, ValueError: it is of another shape, or the launch does not hold what was added to it.
    """
    if "written" not in launch:
        return {}, ()
    written = launch["written"]
    added, options = written["compilation_config"], written["options"]
    if not isinstance(added, dict) or not isinstance(options, list):
        raise TypeError
    if not all(isinstance(option, str) for option in options):
        raise TypeError
    if not _holds(launch["compilation_config"], added) or without_options(launch["args"], options) is None:
        raise ValueError
    return added, tuple(options)


def _holds(config: Mapping[str, Any], added: Mapping[str, Any]) -> bool:
    """Whether a compilation config has these keys with these values."""
    for key, value in added.items():
        there = config.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            if not _holds(there, value):
                return False
        elif key not in config or there != value:
            return False
    return True


def _without_additions(arguments: ServeArguments, added: Mapping[str, Any], options: Sequence[str]) -> ServeArguments:
    """The launch as the user wrote it, as far as it tells launches apart.

    Raises:
        ValueError: the options are not among its arguments.
    """
    effective = without_options(arguments.effective, options)
    if effective is None:
        raise ValueError
    return replace(arguments, effective=effective, compilation_config=_less(arguments.compilation_config, added))


def _less(config: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """A compilation config without what was added to it."""
    remaining: dict[str, Any] = {}
    for key, value in config.items():
        if key not in added:
            remaining[key] = value
        elif isinstance(value, dict) and isinstance(added[key], dict):
            inner = _less(value, added[key])
            remaining |= {key: inner} if inner else {}
    return remaining


def _holds_for_one_launch(decided: DecisionFile) -> bool:
    """Whether another launch of the same model could need another decision."""
    if decided.has_remedy:
        return True
    harmless = decided.flag.status in {FlagStatus.ABSENT, FlagStatus.INERT}
    return not harmless and decided.settings.get(FLAG_KEY) is not False


def _another_launch(decided: DecisionFile, arguments: ServeArguments, options: Options) -> list[str]:
    """How a launch differs from the one that was decided, in what can reach the model."""
    there, here = _of_all_ranks(decided.arguments), _of_all_ranks(arguments)
    wrong = []
    if there.key != here.key:
        launches = (
            f"there: {launch_line(there.arguments, there.config)}, here: {launch_line(here.arguments, here.config)}"
        )
        wrong.append(f"it is another launch ({launches})")
    changed = [name for name, value in decided.variables.items() if not variables_agree({name: value}, options.environ)]
    changed += _changed_for_arms(decided, options)
    return [*wrong, *(f"the environment variable {name} has another value" for name in changed)]


def _changed_for_arms(decided: DecisionFile, options: Options) -> list[str]:
    """The variables that may change how an engine computes, with another value than when the arms were tried."""
    if not decided.has_remedy:
        return []
    there, here = decided.arm_variables, computing_variables(options.environ)
    changed = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return sorted(name for name in changed if name not in VARIABLES_OF_A_RANK)


def _of_all_ranks(arguments: ServeArguments) -> LaunchIdentity:
    """The identity of a launch without what says which of its ranks this is."""
    effective = list(arguments.effective)
    for option, values in OF_A_RANK.items():
        while option in effective:
            at = effective.index(option)
            del effective[at : at + 1 + values]
    return launch_identity(replace(arguments, effective=tuple(effective)))


OF_A_RANK = {"--headless": 0, "--node-rank": 1, "--data-parallel-rank": 1, "--data-parallel-start-rank": 1}
"""Option that tells one rank of a launch from another -> how many values it takes (vllm/engine/arg_utils.py and
vllm/entrypoints/openai/cli_args.py, 0.16.0 to 0.32.0). A proof is of every rank of its launch."""


VARIABLES_OF_A_RANK = frozenset({"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "VLLM_DP_RANK", "VLLM_DP_RANK_LOCAL"})
"""Variables that tell one rank of a launch from another (vllm/envs.py, 0.16.0 to 0.33.0)."""


def _difference(name: str, there: object, here: object) -> str:
    if name == "fingerprint":
        return "the model's configuration"
    return f"{name} (there: {there or 'none'}, here: {here or 'none'})"
