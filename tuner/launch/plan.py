"""The plan of one launch: the stored verdict, the decision, and the arguments that carry it."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from cache.key import digest
from cache.verdicts.store import VerdictStore
from rules.decide import FLAG_KEY, MODE_KEY, MODE_NONE, Decision, Facts, decide
from rules.errors import TunerError
from rules.platforms import platform_of, why_not_proved
from rules.reason import Reason, reason
from rules.releases import Flag, FlagStatus, counts_drafts
from rules.verdict import Word
from tuner.arguments.serve_arguments import ServeArguments, merge, merged_config, parse, with_options
from tuner.arguments.serving import Serving
from tuner.environment.document import flag_in
from tuner.launch.cache_root import CACHE_ROOT, NO_FACTORS, cache_root, proof_root
from tuner.model.draft import probing_beside_target, sign_of_draft, target_of
from tuner.model.model import Model, identify
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject
from tuner.verdicts.ladders import NO_LADDER, LaunchLadder, ladder_for
from tuner.verdicts.lookup import look_up
from tuner.verdicts.origin import accepted, draft_notes
from tuner.verdicts.proofs import (
    NO_PROOF,
    PLAIN_LAUNCH,
    LaunchIdentity,
    LaunchProof,
    launch_identity,
    proof_for,
    proving_command,
)

DEFAULT_ROOT = "~/.cache/vllm"
"""Where vLLM keeps caches by itself; it expands the tilde, also in the variable (vllm/envs.py, all releases)."""
REDIRECT, MODELSCOPE, PLUGINS = "VLLM_MODEL_REDIRECT_PATH", "VLLM_USE_MODELSCOPE", "VLLM_PLUGINS"
"""Variables with which vLLM may serve another model than the one that was read here. The first names a file of models
to put in place of others. The second makes vLLM ask another hub (both: vllm/transformers_utils/utils.py and config.py,
0.16.0 to 0.32.0). The third chooses the plugins, which may bring another class for an architecture
(vllm/plugins/__init__.py)."""


class Options(Struct, frozen=True):
    """How to decide and where caches go.

    Attributes:
        fail_on_unknown: refuse where the flag may be on and nothing is known.
        enforce: refuse where the user's value contradicts an unsafe verdict.
        cache_root: value for VLLM_CACHE_ROOT; None leaves it alone.
        cache_dir_in_config: write `compilation_config.cache_dir`, keyed by the whole decision, instead.
        environ: the environment variables of the launch.
        files_at_hand: the serving environment's files can be read here.
        accept_platform: a platform whose verdict may decide where the environment's own has none.
        proof: names the proof on which the launch rests, for its cache root; empty if it rests on none.
        elsewhere: the launch is written for a machine of which only the serving environment is known.
        tool_options: options of this tool that the user gave and a command to run next needs, such as `--python PATH`.
        old_code: why code that another launch compiled may run, where the launch cannot get a cache root of its own;
            None if it can.
        identify: finds the model of a draft, by its name and revision.
    """

    fail_on_unknown: bool
    enforce: bool
    cache_root: str | None
    cache_dir_in_config: bool
    environ: Mapping[str, str]
    files_at_hand: bool = True
    accept_platform: str | None = None
    proof: str = ""
    elsewhere: bool = False
    tool_options: tuple[str, ...] = ()
    old_code: Reason | None = None
    identify: Callable[..., Model] = identify


class Launch(Struct, frozen=True):
    """The `vllm serve` that carries a decision.

    Attributes:
        args: the complete list after `vllm serve`.
        compilation_config: what vLLM will have been given, merged; empty if nothing.
        env: the variables that are set for it, beyond those inherited.
        cache: where compile caches go, and who decided: `location` and `source`.
        cache_root: the root that the user named, which holds all that this launch keeps; None if they named none.
    """

    args: tuple[str, ...]
    compilation_config: dict[str, Any]
    env: dict[str, str]
    cache: dict[str, str]
    cache_root: str | None = None


class Plan(Struct, frozen=True):
    """Everything about one launch, for people and for programs alike.

    Attributes:
        subject: the model and where it is served.
        lookup: the stored verdict.
        flag: what the flag can do there.
        decision: what was decided.
        launch: what carries the decision.
        warnings: what the operator should know before starting.
        proof: what is stored about this very launch.
        ladder: what is stored about its arms.
        proving: the command that would probe the model and try to prove this launch, as words; of a draft without a
            verdict the one that judges it beside its target; empty if the launch was decided elsewhere.
    """

    subject: Subject
    lookup: LookUp
    flag: Flag
    decision: Decision
    launch: Launch
    warnings: tuple[Reason, ...]
    proof: LaunchProof = NO_PROOF
    ladder: LaunchLadder = NO_LADDER
    proving: tuple[str, ...] = ()

    @property
    def writes_remedy(self) -> bool:
        """Whether the launch gets what its arms asked for."""
        return bool(self.decision.config or self.decision.options)

    @property
    def refusal_reasons(self) -> tuple[Reason, ...]:
        """Why the launch must not happen, if it must not: settings of the user's that are wrong come first."""
        finding = self.ladder.finding
        return self.decision.engine_reasons if finding and finding.users else self.decision.reasons

    @property
    def engine_reasons(self) -> tuple[Reason, ...]:
        """What the arms of the launch showed, or why those that were tried say nothing of it; empty if none were."""
        if self.ladder.why_not is not None:
            return (reason("ladder_not_used", self.ladder.why_not),)
        return self.decision.engine_reasons


def minimal_arguments(name: str, revision: str | None, model_impl: str, trust_remote_code: bool) -> ServeArguments:
    """The shortest `vllm serve` that serves what a command without vLLM arguments is about."""
    args = [name, *(["--revision", revision] if revision else [])]
    args += ["--model-impl", model_impl] if model_impl != "auto" else []
    return parse([*args, *(["--trust-remote-code"] if trust_remote_code else [])])


def make_plan(store: VerdictStore, subject: Subject, arguments: ServeArguments, options: Options) -> Plan:
    """Look up, decide, and write the launch.

    Raises:
        StoreError: the store is damaged.
    """
    lookup = look_up(store, subject, files_at_hand=options.files_at_hand, accept_platform=options.accept_platform)
    return plan_with(store, subject, arguments, options, lookup)


def plan_with(
    store: VerdictStore, subject: Subject, arguments: ServeArguments, options: Options, lookup: LookUp
) -> Plan:
    """As `make_plan`, for a verdict that was looked up or just reached."""
    arguments = without_null(arguments)
    ladder = ladder_for(lookup, subject, launch_identity(arguments), options.environ)
    return _plan(store, subject, arguments, options, lookup, ladder=ladder)


def plan_against_user(
    store: VerdictStore, subject: Subject, arguments: ServeArguments, options: Options, plan: Plan
) -> Plan | None:
    """The plan that changes the settings of the user's that keep a launch from being right.

    Args:
        store: as for `make_plan`.
        subject: as for `make_plan`.
        arguments: the user's arguments.
        options: as for `make_plan`.
        plan: the plan that leaves these settings as they are.

    Returns:
        None if there are none, or if one of them is an option beside the compilation config.
    """
    finding = plan.ladder.finding
    if finding is None or finding.instead is None or not finding.users_keys_alone:
        return None
    config = _without(arguments.compilation_config, finding.users, finding.instead.config)
    ladder = replace(plan.ladder, finding=replace(finding, remedy=finding.instead))
    return _plan(store, subject, replace(arguments, compilation_config=config), options, plan.lookup, ladder=ladder)


def _without(config: Mapping[str, Any], keys: Sequence[str], instead: Mapping[str, Any]) -> dict[str, Any]:
    """The compilation config without these keys; of an object, without what is set instead."""
    remaining: dict[str, Any] = {}
    for key, value in config.items():
        new = instead.get(key)
        if key not in keys:
            remaining[key] = value
        elif isinstance(value, dict) and isinstance(new, Mapping):
            remaining[key] = {name: inner for name, inner in value.items() if name not in new}
    return remaining


def _plan(
    store: VerdictStore,
    subject: Subject,
    arguments: ServeArguments,
    options: Options,
    lookup: LookUp,
    *,
    ladder: LaunchLadder,
) -> Plan:
    """The plan of a launch whose ladder is known; a proof must be of the launch with what the ladder adds to it."""
    flag = flag_of(subject, lookup)
    draft = _draft_without_moe(store, subject, arguments.serving.speculative, options)
    identity = launch_identity(_remedied(arguments, ladder))
    proof = proof_for(lookup, subject, identity, options.environ, files_at_hand=options.files_at_hand)
    alone = _draft_alone(subject, lookup, options)
    proving = alone or proving_command(subject, identity, options.tool_options)
    facts = _facts(
        subject,
        arguments,
        options,
        draft=draft,
        launch=identity,
        proof=proof,
        command="" if alone else shlex.join(proving),
        ladder=ladder,
        accepted_platform=lookup.accepted_platform,
    )
    decision = decide(lookup.verdict, flag, facts)
    additions = additions_of(decision)
    if proof.finding and proof.finding.proved and _may_count(flag, arguments, additions):
        options = replace(options, proof=proof.folder)
    launch = build_launch(subject, arguments, options, additions, decision.options)
    warnings = (*warnings_of(arguments), *_beside_target(subject, alone), *_origin(lookup, draft), *decision.warnings)
    return Plan(subject, lookup, flag, decision, launch, warnings, proof, ladder, proving)


def _remedied(arguments: ServeArguments, ladder: LaunchLadder) -> ServeArguments:
    """The arguments with what a ladder adds to them, as far as they tell launches apart."""
    remedy = ladder.finding.remedy if ladder.finding else None
    if remedy is None:
        return arguments
    config = merged_config(arguments, remedy.config)
    return replace(arguments, compilation_config=config, effective=with_options(arguments.effective, remedy.options))


def warnings_of(arguments: ServeArguments) -> tuple[Reason, ...]:
    """What vLLM does with the arguments that their writer may not expect."""
    return tuple(reason("arguments", text=text) for text in arguments.warnings)


def _draft_alone(subject: Subject, lookup: LookUp, options: Options) -> tuple[str, ...]:
    """The command that judges a draft beside its target, as words; empty for other models, and with a verdict."""
    model = subject.model
    if lookup.verdict is not None or not sign_of_draft(model.served_config):
        return ()
    return probing_beside_target(model.name, model.revision, model.served_config, options.tool_options)


def _beside_target(subject: Subject, command: Sequence[str]) -> tuple[Reason, ...]:
    """That a model is a draft, with the command that judges it; nothing without a command."""
    config = subject.model.served_config
    fields = {"sign": sign_of_draft(config), "target": target_of(config), "command": shlex.join(command)}
    return (reason("draft_alone", **fields),) if command else ()


def _origin(lookup: LookUp, draft: LookUp | None) -> tuple[Reason, ...]:
    """Where the verdicts come from that decide, if not from a probe of this platform here."""
    texts = [*filter(None, [accepted(lookup)]), *draft_notes(draft)]
    return tuple(reason("origin", text=text) for text in texts)


def _may_count(flag: Flag, arguments: ServeArguments, additions: Mapping[str, Any]) -> bool:
    """Whether MoE layers may be counted in this launch: what was compiled for another must not run then."""
    value = {**additions, **arguments.compilation_config}.get(FLAG_KEY)
    return as_bool(value) or flag.status in {FlagStatus.ALWAYS_ON, FlagStatus.UNKNOWN}


def additions_of(decision: Decision) -> dict[str, Any]:
    """The keys of the compilation config that carry a decision."""
    decided = {FLAG_KEY: decision.setting, MODE_KEY: decision.mode, **decision.config}
    return {key: value for key, value in decided.items() if value is not None}


def without_null(arguments: ServeArguments) -> ServeArguments:
    """The arguments without a null for what is decided here: it asks for vLLM's default."""
    written = arguments.compilation_config
    config = {key: value for key, value in written.items() if value is not None or key not in {FLAG_KEY, MODE_KEY}}
    return arguments if config == written else replace(arguments, compilation_config=config)


def flag_of(subject: Subject, lookup: LookUp) -> Flag:
    """The flag's status; what the probe detected there beats the table of releases.

    What it detected on another platform says nothing here: the flag's form differs between them.
    """
    detected = lookup.report.flag if lookup.report and not lookup.accepted_platform else None
    return flag_in(subject.environment, detected)


def other_model(subject: Subject, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Variables of the launch with which vLLM may serve another model than the subject.

    No proof is made under them, so that no proof applies to a launch with one.
    """
    redirected = (REDIRECT,) if environ.get(REDIRECT) else ()
    plugins = (PLUGINS,) if PLUGINS in environ else ()
    # A model without a folder was not read here. The method raises for a name that is too long.
    here = bool(subject.model.folder) and os.path.exists(subject.model.name)  # noqa: PTH110
    elsewhere = environ.get(MODELSCOPE, "").lower() in {"true", "1"} and not here
    return (*redirected, *((MODELSCOPE,) if elsewhere else ()), *plugins)


def explicit_flag(arguments: ServeArguments) -> bool | None:
    """The user's own value of the flag; None if they gave none."""
    explicit = arguments.compilation_config.get(FLAG_KEY)
    return None if explicit is None else as_bool(explicit)


def _facts(
    subject: Subject,
    arguments: ServeArguments,
    options: Options,
    *,
    draft: LookUp | None,
    launch: LaunchIdentity,
    proof: LaunchProof,
    command: str,
    ladder: LaunchLadder,
    accepted_platform: str | None,
) -> Facts:
    serving, environment = arguments.serving, subject.environment
    variables = tuple(f"{name} is set" for name in other_model(subject, options.environ))
    shared = ", from which this one differs in nothing that the model reads" if proof.shared else ""
    return Facts(
        speculative=_brings_a_draft(subject, serving.speculative, draft),
        counts_drafts=counts_drafts(environment.vllm, environment.flag_facts),
        explicit=explicit_flag(arguments),
        proof=proof.finding,
        no_proof=proof.why_not,
        command="" if variables else command,
        launch=f"{proof.launch}{shared}",
        plain=launch.plain or (proof.shared and proof.launch == PLAIN_LAUNCH),
        other_model=variables,
        other_config=_other_config(serving),
        old_code=reason("own_cache_folder") if arguments.compilation_config.get("cache_dir") else options.old_code,
        foreign=why_not_proved(platform_of(environment.platform, environment.platform_packages)),
        accepted_platform=accepted_platform or "",
        fail_on_unknown=options.fail_on_unknown,
        enforce=options.enforce,
        compiles=compiles(arguments),
        ladder=ladder.finding,
    )


def _other_config(serving: Serving) -> tuple[str, ...]:
    """Options with which vLLM may read another configuration than the one that was probed.

    A format of its own is read from another file than config.json (vllm/transformers_utils/config.py).
    """
    overrides = ("--hf-overrides",) if serving.hf_overrides else ()
    return (*overrides, *(() if serving.config_format in {"auto", "hf"} else ("--config-format",)))


def compiles(arguments: ServeArguments) -> bool | None:
    """What the user says of compiling; None: nothing.

    An explicit mode comes first: with it, releases before 0.19 compile beside `--enforce-eager` (vllm/config/vllm.py).
    """
    mode, level = arguments.compilation_config.get(MODE_KEY), arguments.serving.optimization_level
    if mode is not None:
        return str(mode).strip().upper() not in {str(MODE_NONE), "NONE"}
    if arguments.serving.enforce_eager:
        return False
    return None if level is None else level.strip() != "0"


def as_bool(value: object) -> bool:
    """As vLLM reads the value: dotted `False` arrives as a string (pydantic, all releases)."""
    return str(value).strip().lower() in {"true", "1", "yes", "on", "t", "y"}


def _brings_a_draft(subject: Subject, speculative: Mapping[str, Any] | None, without_moe: LookUp | None) -> bool:
    """Whether a draft may run MoE layers beside the model's.

    A checkpoint in the `speculators` format brings its draft without any option
    (vllm/transformers_utils/config.py, maybe_override_with_speculators).
    """
    if "speculators_config" in subject.model.config:
        return True
    return speculative is not None and without_moe is None


def _draft_without_moe(
    store: VerdictStore, subject: Subject, speculative: Mapping[str, Any] | None, options: Options
) -> LookUp | None:
    """The verdict of a draft that is a model of its own and is stored as having no MoE layer; None for any other.

    What cannot be read is not stored, and another platform's word does not count for drafts.
    """
    speculative = speculative or {}
    draft = speculative.get("model")
    if not isinstance(draft, str):
        return None
    try:
        model = options.identify(draft, revision=speculative.get("revision"))
        draft_subject = replace(subject, model=model, model_impl="auto")
        lookup = look_up(store, draft_subject, files_at_hand=options.files_at_hand)
    except TunerError:
        return None
    return lookup if lookup.verdict is not None and lookup.verdict.word is Word.NO_MOE else None


def build_launch(
    subject: Subject,
    arguments: ServeArguments,
    options: Options,
    additions: dict[str, Any],
    further: tuple[str, ...] = (),
) -> Launch:
    """The launch with these keys in its compilation config, but those that the user set, and with its cache folder.

    Args:
        subject: the model and where it is served.
        arguments: the user's arguments, read.
        options: how to decide and where caches go.
        additions: keys of the compilation config.
        further: options to add behind the user's.
    """
    if options.cache_dir_in_config and "cache_dir" not in arguments.compilation_config:
        additions = {**additions, "cache_dir": _keyed_cache_dir(subject, arguments, options, additions)}
    named = None if options.cache_dir_in_config else options.cache_root
    env = _cache_variables(named, options)
    config = merged_config(arguments, additions)
    return Launch(merge(arguments, additions, further), config, env, _cache(config, env, options), named)


def _cache_variables(named: str | None, options: Options) -> dict[str, str]:
    """The variable that says where caches go: in a root of the proof's own wherever the launch rests on one.

    An explicit `cache_dir` does not replace it: ahead-of-time artifacts lie below the root in any case
    (vllm/compilation/decorators.py, 0.16.0 to 0.33.0).
    """
    if options.proof:
        usual = DEFAULT_ROOT if options.elsewhere else cache_root(options.environ)[0]
        root = options.cache_root or usual
        return {CACHE_ROOT: proof_root(root, options.proof)}
    return {CACHE_ROOT: named} if named is not None else {}


def _keyed_cache_dir(
    subject: Subject, arguments: ServeArguments, options: Options, additions: Mapping[str, Any]
) -> str:
    """A folder that two launches share only if nothing in them differs.

    vLLM uses an explicit `cache_dir` verbatim and looks entries up by shape alone
    (0.32.0, vllm/compilation/backends.py), so the name must carry the whole decision.
    """
    factors = {
        **launch_factors(subject, options.environ),
        "args": list(arguments.as_written),
        "additions": dict(additions),
        **({"proof": options.proof} if options.proof else {}),
    }
    root = options.cache_root or cache_root(options.environ)[0]
    return str(Path(root) / "tuner" / digest(factors)[:32])


def launch_factors(subject: Subject, environ: Mapping[str, str]) -> dict[str, Any]:
    """What compiled code depends on beside the arguments: the model, the environment, and vLLM's variables."""
    environment = subject.environment
    return {
        "model": subject.model.fingerprint,
        "vllm": environment.vllm,
        "torch": environment.torch,
        "triton": environment.triton,
        "platform": environment.platform,
        "gpu": environment.gpu,
        "variables": {
            name: value for name, value in environ.items() if name.startswith("VLLM_") and name not in NO_FACTORS
        },
    }


def _cache(config: Mapping[str, Any], env: Mapping[str, str], options: Options) -> dict[str, str]:
    if config.get("cache_dir"):
        return {"location": str(config["cache_dir"]), "source": "compilation_config.cache_dir"}
    if env:
        return {"location": env[CACHE_ROOT], "source": f"{CACHE_ROOT}, set by this launch"}
    root, source = cache_root(options.environ)
    return {"location": root, "source": source}
