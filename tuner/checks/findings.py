"""What is wrong with a launch, or not known of it: the findings of `tuner check`. Pure."""

from collections.abc import Iterator

from rules.compilation_keys import unknown_keys
from rules.decide import FLAG_KEY, HOLDS_FOR, MODE_KEY
from rules.releases import RELEASES, FlagStatus, parse_version, turns_off_by_itself
from rules.verdict import Word
from tuner.arguments.serve_arguments import ServeArguments
from tuner.checks.examine import Examined, missing_root
from tuner.checks.finding import ABOUT, Finding, Level, Rule, finding, line_of
from tuner.checks.pod import of_cache, of_image, of_probe
from tuner.launch.plan import Plan, as_bool, compiles


def findings_of(known: Examined, cold_start: float | None = None) -> list[Finding]:
    """Everything that is found about one launch, errors first.

    Args:
        known: the launch.
        cold_start: seconds that a cold start was measured to take; None: not known.
    """
    found = [
        *_of_arguments(known),
        *_of_keys(known),
        *_of_flag(known),
        *_of_plan(known),
        *of_image(known),
        *of_cache(known),
        *of_probe(known, cold_start),
        *_of_environment(known),
        *_of_doubt(known),
    ]
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def unreadable(path: str, why: str) -> Finding:
    """The finding for a file that cannot be read."""
    return Finding(Rule.UNREADABLE, Level.NOTE, path, 1, f"Nothing in it was checked: {why}.")


def _of_arguments(known: Examined) -> Iterator[Finding]:
    if known.refusal and not any(word.unknown for word in known.launch.words):
        yield _refused(known)
    elif known.refusal:
        yield finding(known, Rule.HIDDEN, f"The arguments cannot be read here: {known.refusal}")
    elif known.hidden:
        yield finding(known, Rule.HIDDEN, f"What {known.hidden} stands for is not written here; it was not checked.")
    if known.arguments is not None and known.arguments.dropped:
        dropped = ", ".join(known.arguments.dropped)
        said = f"Of several compilation configs vLLM keeps only one and drops {dropped}."
        yield finding(known, Rule.DROPPED, said, line=line_of(known, "compilation"))


def _refused(known: Examined) -> Finding:
    """Arguments that every release of the table refuses; an older one, or one that is not known, may take them."""
    oldest, version = parse_version(RELEASES[0].version), parse_version(known.version)
    if version and oldest and version.release >= oldest.release:
        return finding(known, Rule.REFUSED, known.refusal, line=line_of(known, "compilation"))
    said = f"{known.refusal} vLLM from {RELEASES[0].version} on refuses it."
    return finding(known, Rule.REFUSED, said, line=line_of(known, "compilation"), level=Level.WARNING)


def _of_keys(known: Examined) -> Iterator[Finding]:
    """Keys with which the server would not start."""
    if known.arguments is None or known.version is None:
        return
    kept = [key for key in known.arguments.compilation_config if key not in known.arguments.dropped]
    for key, history in unknown_keys(kept, known.version).items():
        aside = f" ({history})" if history else ""
        said = f"vLLM {known.version} does not know {key}{aside}, and does not start with it."
        yield finding(known, Rule.KEY_UNKNOWN, said, line=line_of(known, "compilation"))


def _of_flag(known: Examined) -> Iterator[Finding]:
    """What an explicit value says that cannot be right."""
    if known.arguments is None or not _has_effective_true(known, known.arguments):
        return
    line = line_of(known, "compilation")
    speculative = known.arguments.serving.speculative is not None
    if known.plan is None:
        rule = Rule.DRAFT if speculative else Rule.UNPROVED
        yield finding(known, rule, f"{ABOUT[rule][1]} Which vLLM serves is not known.", line, Level.WARNING)
    elif known.true_refused:
        yield from _of_refused_true(known, known.plan, line, speculative=speculative)
    elif known.plan.decision.warnings:
        yield finding(known, Rule.UNPROVED, _sentence(known.plan.decision.warnings[0]), line=line)
    elif missing := missing_root(known):
        held = " ".join(text for text in known.plan.decision.conditions if text.startswith(HOLDS_FOR))
        message = f"{FLAG_KEY} is true ({held}), and code that another launch compiled may run: set {missing}."
        yield finding(known, Rule.UNPROVED, message, line=line)


def _has_effective_true(known: Examined, arguments: ServeArguments) -> bool:
    """Whether the launch sets the flag to true, for a vLLM that has the flag and does something with it."""
    explicit = arguments.compilation_config.get(FLAG_KEY)
    if explicit is None or not as_bool(explicit) or _ineffective(known):
        return False
    return not (known.version and unknown_keys([FLAG_KEY], known.version))


def _of_refused_true(known: Examined, plan: Plan, line: int, *, speculative: bool) -> Iterator[Finding]:
    """What contradicts a `true`: a draft model, an unsafe verdict, or else what the decision warns of."""
    verdict = plan.lookup.verdict
    if speculative:
        yield finding(known, Rule.DRAFT, f"{ABOUT[Rule.DRAFT][1]}", line=line)
    if verdict is not None and verdict.word.unsafe:
        reason = "; ".join(verdict.reasons[:1])
        message = f"{FLAG_KEY} is true, and the verdict is {verdict.word}: {reason}."
        yield finding(known, Rule.CONTRADICTED, message, line=line)
    elif not speculative:
        yield finding(known, Rule.CONTRADICTED, _sentence(plan.decision.warnings[0]), line=line)


def _of_plan(known: Examined) -> Iterator[Finding]:
    """What the verdict says of a launch that does not set the flag."""
    plan = known.plan
    if plan is None or known.arguments is None:
        return
    explicit = known.arguments.compilation_config.get(FLAG_KEY)
    verdict = plan.lookup.verdict
    if plan.flag.status is FlagStatus.ALWAYS_ON and plan.decision.refusal != "none":
        yield finding(known, Rule.RELEASE, "; ".join(plan.decision.reasons) + ".")
    on_by_itself = explicit is None and plan.flag.status is FlagStatus.SETTABLE and not known.hidden
    if on_by_itself and known.true_refused and known.arguments.serving.speculative is None and verdict is not None:
        yield _left_on(known, plan.decision.reasons[0])
    if verdict is not None and verdict.compile == "frozen" and compiles(known.arguments) is not False:
        said = "; ".join(verdict.compile_reasons) or ABOUT[Rule.FROZEN][1]
        yield finding(known, Rule.FROZEN, f"Set {MODE_KEY} to 0 in the compilation config: {said}.")


def _left_on(known: Examined, why: str) -> Finding:
    """The finding for a launch that says nothing of a flag that is on by default."""
    own = known.arguments is not None and known.arguments.serving.model_impl != "transformers"
    if known.model and own and turns_off_by_itself(known.version, known.model.architecture):
        said = f"{_sentence(why)} This vLLM turns {FLAG_KEY} off for {known.model.architecture}, and for no other."
        return finding(known, Rule.LEFT_ON, said, level=Level.NOTE)
    said = f"{_sentence(why)} vLLM {known.version} turns {FLAG_KEY} on where the launch does not set it."
    return finding(known, Rule.LEFT_ON, said)


def _of_environment(known: Examined) -> Iterator[Finding]:
    """That what was given is not the image's."""
    if known.contradiction:
        said = f"{known.contradiction} `tuner apply` leaves this launch alone."
        yield finding(known, Rule.ENVIRONMENT, said, line=known.launch.image_line, based=False)


def _of_doubt(known: Examined) -> Iterator[Finding]:
    """What keeps the launch from being judged."""
    if known.refusal:
        return
    if known.version is None and not known.contradiction:
        aside = f"; {known.aside}" if known.aside else ""
        said = f"Nothing says which vLLM serves{aside}: give --environment or --vllm-version."
        yield finding(known, Rule.VERSION_UNKNOWN, said)
    if known.model is None:
        yield finding(known, Rule.MODEL_UNKNOWN, f"{_sentence(known.model_problem)} Its verdict cannot be looked up.")
    elif _ineffective(known):
        return
    elif known.plan is not None and (verdict := known.plan.lookup.verdict) is None:
        yield finding(known, Rule.NO_VERDICT, _sentence("; ".join(known.plan.lookup.miss)))
    elif known.plan is not None and verdict is not None and verdict.word is Word.INCONCLUSIVE:
        yield finding(known, Rule.NO_VERDICT, f"The verdict is {verdict.word}: {'; '.join(verdict.reasons[:1])}.")
    elif _left_unproved(known):
        yield finding(known, Rule.LAUNCH_UNPROVED, _sentence(known.plan.decision.reasons[0] if known.plan else ""))


def _left_unproved(known: Examined) -> bool:
    """Whether the launch says nothing of a flag that it needs as false, for lack of a proof of its own."""
    plan, arguments = known.plan, known.arguments
    if plan is None or arguments is None or arguments.compilation_config.get(FLAG_KEY) is not None or known.hidden:
        return False
    verdict = plan.lookup.verdict
    judged = verdict is not None and not verdict.word.unsafe and verdict.word is not Word.NO_MOE
    return plan.decision.setting is False and judged


def _ineffective(known: Examined) -> bool:
    """Whether this vLLM does nothing with the flag."""
    return known.plan is not None and known.plan.flag.status in {FlagStatus.INERT, FlagStatus.ABSENT}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
