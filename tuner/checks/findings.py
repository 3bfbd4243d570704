"""What is wrong with a launch, or not known of it: the findings of `tuner check`. Pure."""

from collections.abc import Iterator

from rules.compilation_keys import unknown_keys
from rules.decide import FLAG_KEY, MODE_KEY
from rules.reason import sentences
from rules.releases import RELEASES, FlagStatus, parse_version, turns_off_by_itself
from rules.verdict import Word
from tuner.arguments.serve_arguments import ServeArguments
from tuner.checks.examine import Examined, missing_root
from tuner.checks.finding import ABOUT, LaunchFinding, Rule, Severity, finding, line_of
from tuner.checks.pod import of_cache, of_image, of_probe
from tuner.launch.plan import Plan, as_bool, compiles


def findings_of(examined: Examined, cold_start: float | None = None) -> list[LaunchFinding]:
    """Everything that is found about one launch, errors first.

    Args:
        examined: the launch.
        cold_start: seconds that a cold start was measured to take; None: not known.
    """
    findings = [
        *_of_arguments(examined),
        *_of_keys(examined),
        *_of_flag(examined),
        *_of_plan(examined),
        *of_image(examined),
        *of_cache(examined),
        *of_probe(examined, cold_start),
        *_of_environment(examined),
        *_of_doubt(examined),
    ]
    return sorted(findings, key=lambda finding: list(Severity).index(finding.level))


def unreadable(path: str, why: str) -> LaunchFinding:
    """The finding for a file that cannot be read."""
    return LaunchFinding(Rule.UNREADABLE, Severity.NOTE, path, 1, f"Nothing in it was checked: {why}.")


def _of_arguments(examined: Examined) -> Iterator[LaunchFinding]:
    if examined.refusal and not any(word.unknown for word in examined.launch.words):
        yield _refused(examined)
    elif examined.refusal:
        yield finding(examined, Rule.HIDDEN, f"The arguments cannot be read here: {examined.refusal}")
    elif examined.hidden:
        yield finding(
            examined, Rule.HIDDEN, f"What {examined.hidden} stands for is not written here; it was not checked."
        )
    if examined.arguments is not None and examined.arguments.dropped:
        dropped = ", ".join(examined.arguments.dropped)
        message = f"Of several compilation configs vLLM keeps only one and drops {dropped}."
        yield finding(examined, Rule.DROPPED, message, line=line_of(examined, "compilation"))


def _refused(examined: Examined) -> LaunchFinding:
    """Arguments that every release of the table refuses; an older one, or one that is not known, may take them."""
    oldest, version = parse_version(RELEASES[0].version), parse_version(examined.version)
    if version and oldest and version.release >= oldest.release:
        return finding(examined, Rule.REFUSED, examined.refusal, line=line_of(examined, "compilation"))
    message = f"{examined.refusal} vLLM from {RELEASES[0].version} on refuses it."
    return finding(examined, Rule.REFUSED, message, line=line_of(examined, "compilation"), level=Severity.WARNING)


def _of_keys(examined: Examined) -> Iterator[LaunchFinding]:
    """Keys with which the server would not start."""
    if examined.arguments is None or examined.version is None:
        return
    keys = [key for key in examined.arguments.compilation_config if key not in examined.arguments.dropped]
    for key, history in unknown_keys(keys, examined.version).items():
        aside = f" ({history})" if history else ""
        message = f"vLLM {examined.version} does not know {key}{aside}, and does not start with it."
        yield finding(examined, Rule.KEY_UNKNOWN, message, line=line_of(examined, "compilation"))


def _of_flag(examined: Examined) -> Iterator[LaunchFinding]:
    """What an explicit value says that cannot be right."""
    if examined.arguments is None or not _has_effective_true(examined, examined.arguments):
        return
    line = line_of(examined, "compilation")
    speculative = examined.arguments.serving.speculative is not None
    if examined.plan is None:
        rule = Rule.DRAFT if speculative else Rule.UNPROVED
        yield finding(examined, rule, f"{ABOUT[rule][1]} Which vLLM serves is not known.", line, Severity.WARNING)
    elif examined.true_refused:
        yield from _of_refused_true(examined, examined.plan, line, speculative=speculative)
    elif examined.plan.decision.warnings:
        yield finding(examined, Rule.UNPROVED, _sentence(str(examined.plan.decision.warnings[0])), line=line)
    elif missing := missing_root(examined):
        holds_for = f"holds for: {examined.plan.decision.holds_for}" if examined.plan.decision.holds_for else ""
        message = f"{FLAG_KEY} is true ({holds_for}), and code that another launch compiled may run: set {missing}."
        yield finding(examined, Rule.UNPROVED, message, line=line)


def _has_effective_true(examined: Examined, arguments: ServeArguments) -> bool:
    """Whether the launch sets the flag to true, for a vLLM that has the flag and does something with it."""
    explicit = arguments.compilation_config.get(FLAG_KEY)
    if explicit is None or not as_bool(explicit) or _ineffective(examined):
        return False
    return not (examined.version and unknown_keys([FLAG_KEY], examined.version))


def _of_refused_true(examined: Examined, plan: Plan, line: int, *, speculative: bool) -> Iterator[LaunchFinding]:
    """What contradicts a `true`: a draft model, an unsafe verdict, or else what the decision warns of."""
    verdict = plan.lookup.verdict
    if speculative:
        yield finding(examined, Rule.DRAFT, f"{ABOUT[Rule.DRAFT][1]}", line=line)
    if verdict is not None and verdict.word.unsafe:
        reason = "; ".join(sentences(verdict.reasons[:1]))
        message = f"{FLAG_KEY} is true, and the verdict is {verdict.word}: {reason}."
        yield finding(examined, Rule.CONTRADICTED, message, line=line)
    elif not speculative:
        yield finding(examined, Rule.CONTRADICTED, _sentence(str(plan.decision.warnings[0])), line=line)


def _of_plan(examined: Examined) -> Iterator[LaunchFinding]:
    """What the verdict says of a launch that does not set the flag."""
    plan = examined.plan
    if plan is None or examined.arguments is None:
        return
    explicit = examined.arguments.compilation_config.get(FLAG_KEY)
    verdict = plan.lookup.verdict
    if plan.flag.status is FlagStatus.ALWAYS_ON and plan.decision.refusal != "none":
        yield finding(examined, Rule.RELEASE, "; ".join(sentences(plan.decision.reasons)) + ".")
    on_by_itself = explicit is None and plan.flag.status is FlagStatus.SETTABLE and not examined.hidden
    if (
        on_by_itself
        and examined.true_refused
        and examined.arguments.serving.speculative is None
        and verdict is not None
    ):
        yield _left_on(examined, str(plan.decision.reasons[0]))
    if verdict is not None and verdict.compile == "frozen" and compiles(examined.arguments) is not False:
        message = "; ".join(sentences(verdict.compile_reasons)) or ABOUT[Rule.FROZEN][1]
        yield finding(examined, Rule.FROZEN, f"Set {MODE_KEY} to 0 in the compilation config: {message}.")


def _left_on(examined: Examined, why: str) -> LaunchFinding:
    """The finding for a launch that says nothing of a flag that is on by default."""
    own = examined.arguments is not None and examined.arguments.serving.model_impl != "transformers"
    if examined.model and own and turns_off_by_itself(examined.version, examined.model.architecture):
        message = (
            f"{_sentence(why)} This vLLM turns {FLAG_KEY} off for {examined.model.architecture}, and for no other."
        )
        return finding(examined, Rule.LEFT_ON, message, level=Severity.NOTE)
    message = f"{_sentence(why)} vLLM {examined.version} turns {FLAG_KEY} on where the launch does not set it."
    return finding(examined, Rule.LEFT_ON, message)


def _of_environment(examined: Examined) -> Iterator[LaunchFinding]:
    """That what was given is not the image's."""
    if examined.contradiction:
        message = f"{examined.contradiction} `tuner apply` leaves this launch alone."
        yield finding(examined, Rule.ENVIRONMENT, message, line=examined.launch.image_line, based=False)


def _of_doubt(examined: Examined) -> Iterator[LaunchFinding]:
    """What keeps the launch from being judged."""
    if examined.refusal:
        return
    if examined.version is None and not examined.contradiction:
        aside = f"; {examined.aside}" if examined.aside else ""
        message = f"Nothing says which vLLM serves{aside}: give --environment or --vllm-version."
        yield finding(examined, Rule.VERSION_UNKNOWN, message)
    if examined.model is None:
        yield finding(
            examined, Rule.MODEL_UNKNOWN, f"{_sentence(examined.model_problem)} Its verdict cannot be looked up."
        )
    elif _ineffective(examined):
        return
    elif examined.plan is not None and (verdict := examined.plan.lookup.verdict) is None:
        yield finding(examined, Rule.NO_VERDICT, _sentence("; ".join(sentences(examined.plan.lookup.miss))))
    elif examined.plan is not None and verdict is not None and verdict.word is Word.INCONCLUSIVE:
        yield finding(
            examined, Rule.NO_VERDICT, f"The verdict is {verdict.word}: {'; '.join(sentences(verdict.reasons[:1]))}."
        )
    elif _left_unproved(examined):
        yield finding(
            examined, Rule.LAUNCH_UNPROVED, _sentence(str(examined.plan.decision.reasons[0]) if examined.plan else "")
        )


def _left_unproved(examined: Examined) -> bool:
    """Whether the launch says nothing of a flag that it needs as false, for lack of a proof of its own."""
    plan, arguments = examined.plan, examined.arguments
    if plan is None or arguments is None or arguments.compilation_config.get(FLAG_KEY) is not None or examined.hidden:
        return False
    verdict = plan.lookup.verdict
    judged = verdict is not None and not verdict.word.unsafe and verdict.word is not Word.NO_MOE
    return plan.decision.setting is False and judged


def _ineffective(examined: Examined) -> bool:
    """Whether this vLLM does nothing with the flag."""
    return examined.plan is not None and examined.plan.flag.status in {FlagStatus.INERT, FlagStatus.ABSENT}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
