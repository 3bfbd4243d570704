"""`tuner apply`: manifests edited in place so that each launch carries what `tuner serve` would write."""

import difflib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rules.decide import FLAG_KEY, Refusal
from rules.errors import ErrorKind, TunerError
from rules.reason import sentences
from tuner.arguments.serve_arguments import ServeArguments, end_of_options, with_options
from tuner.arguments.vllm_options import indexes_of_field
from tuner.checks.cache_place import why_not_writable
from tuner.checks.edit import Change, Edit, NotEditable, edits_for, spliced, variable_edit
from tuner.checks.examine import Examined, Knowledge, examine, missing_root, overridden
from tuner.checks.reread import Meant, leaves, require_nothing_lost
from tuner.checks.sources import SENT, STDIN, launches_of, manifests_at, read_manifest, shown_path
from tuner.errors import ExitCode
from tuner.launch.cache_root import CACHE_ROOT
from tuner.launch.plan import Plan
from tuner.manifests.launch import ManifestLaunch

_FIELD = "compilation_config"


@dataclass(frozen=True)
class LeftAlone:
    """Why a launch that should be changed is not.

    Attributes:
        sentence: names the file, the line and the cause.
        code: how a command ends because of it.
        reason: the cause alone; empty where the whole file is left alone.
        launch: the launch; None where the whole file is left alone.
    """

    sentence: str
    code: ExitCode
    reason: str = ""
    launch: ManifestLaunch | None = None


class Intended(NamedTuple):
    """What a launch is to have after the edits: its arguments, and its variables."""

    args: tuple[str, ...]
    env: Mapping[str, str | None]


class UserValueStays(NotEditable):
    """The launch has a value that is unsafe or answers wrongly, and only `--override` changes a value of the user's."""


class NotKnown(NotEditable):
    """The model or the vLLM is not known, so nothing is written."""


CODES = ((UserValueStays, ExitCode.CONTRADICTION), (NotKnown, ExitCode.UNKNOWN), (NotEditable, ExitCode.ERROR))
"""Cause -> how a command ends because of it; the first that fits."""


@dataclass(frozen=True)
class Applied:
    """What becomes of one file.

    Attributes:
        path: the file.
        before: its text.
        after: its text with the edits; the same where there are none.
        changed: how many launches were changed.
        left_alone: the launches that should be changed and are not.
        warnings: what `warnings_of` says of the launches; sentences that name the line.
        examined: the launches as they were, with what is known of them.
    """

    path: str
    before: str = ""
    after: str = ""
    changed: int = 0
    left_alone: tuple[LeftAlone, ...] = ()
    warnings: tuple[str, ...] = ()
    examined: tuple[Examined, ...] = ()

    def diff(self) -> str:
        """The edits as a unified diff; empty if there are none."""
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        name = self.path.lstrip("/")
        lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
        text = ""
        for line in lines:
            text += line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        return text


def apply(paths: Iterable[Path], knowledge: Knowledge, *, override: bool = False) -> Iterator[Applied]:
    """What becomes of every manifest at these paths; nothing is written.

    Args:
        paths: files, and folders of them.
        knowledge: what is known beside the manifests.
        override: a user's own value is changed where it contradicts an unsafe verdict, or was found to answer wrongly.

    Raises:
        TunerError: there is nothing at a path.
        StoreError: the store is damaged.
    """
    for file in manifests_at(paths):
        try:
            text = read_manifest(file)
            launches = launches_of(file, text)
        except ValueError as error:
            path = shown_path(file)
            yield Applied(path, left_alone=(LeftAlone(f"{path}: {error}", ExitCode.ERROR),))
            continue
        yield _applied(file, text, launches, knowledge, override=override)


def apply_sent(text: str, knowledge: Knowledge) -> Applied:
    """What becomes of JSON that somebody sent, as `apply` does for a file; no file of this machine is read for it.

    Args:
        text: a Kubernetes object.
        knowledge: what is known beside it; models come from its folder alone.

    Raises:
        ValueError: the text cannot be read.
        StoreError: the store is damaged.
    """
    return _applied(SENT, text, launches_of(SENT, text), knowledge, override=False)


def exit_code(left_alone: Iterable[LeftAlone]) -> ExitCode:
    """How a command ends: a contradiction counts most, then an error, then what is not known."""
    codes = {alone.code for alone in left_alone}
    for code in (ExitCode.CONTRADICTION, ExitCode.ERROR, ExitCode.UNKNOWN):
        if code in codes:
            return code
    return ExitCode.FINE


def write(applied: Applied) -> None:
    """Put the edited text in the file's place, with the file's permissions; behind a link, in that of its target.

    Raises:
        TunerError: the file cannot be written.
    """
    if applied.path == shown_path(STDIN):
        raise TunerError(
            "Standard input cannot be edited in place.",
            hint="Name the file, or leave --write out to see the edits as a diff.",
            kind=ErrorKind.USAGE,
        )
    target = Path(applied.path).resolve()
    try:
        number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(number, "wb") as stream:
                stream.write(applied.after.encode("utf-8"))
            temporary.chmod(target.stat().st_mode)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TunerError(
            f"{applied.path} cannot be written: {error.strerror}.",
            hint="Check its permissions.",
            kind=ErrorKind.MANIFEST,
        ) from None


def _applied(file: Path, text: str, launches: list[ManifestLaunch], knowledge: Knowledge, *, override: bool) -> Applied:
    examinations = [_examined(file, launch, knowledge, override=override) for launch in launches]
    shared = _shared(launches)
    intended = [Intended(launch.args, launch.env) for launch in launches]
    edits: list[Edit] = []
    left_alone: list[LeftAlone] = []
    changed = 0
    for index, examined in enumerate(examinations):
        try:
            change, variables = change_for(examined), variables_for(examined)
            if change is not None:
                edits += edits_for(text, examined.launch.words, change, shared)
            edits += _variable_edits(examined.launch, variables)
            intended[index] = _intended(examined.launch, change, variables)
            changed += bool(change or variables)
        except NotEditable as error:
            alone = _left_alone(_place(file, examined), error)
            left_alone.append(replace(alone, reason=str(error), launch=examined.launch))
    warnings = _unrepeated(_warnings(file, examinations), left_alone)
    outcome = Applied(shown_path(file), text, text, 0, tuple(left_alone), tuple(warnings), tuple(examinations))
    try:
        after = spliced(text, edits)
        _verify(file, after, examinations, intended, override=override)
    except NotEditable as error:
        return replace(outcome, left_alone=(*left_alone, _left_alone(shown_path(file), error)))
    return replace(outcome, after=after, changed=changed)


def _examined(file: Path, launch: ManifestLaunch, knowledge: Knowledge, *, override: bool) -> Examined:
    examined = examine(shown_path(file), launch, knowledge)
    return overridden(examined, knowledge) if override else examined


def _place(file: Path, examined: Examined) -> str:
    return f"{shown_path(file)}:{examined.launch.line}"


def _warnings(file: Path, examinations: Iterable[Examined]) -> Iterator[str]:
    for examined in examinations:
        yield from (f"{_place(file, examined)}: {warning}" for warning in warnings_of(examined))


def warnings_of(examined: Examined) -> Iterator[str]:
    """What whoever starts a launch should know: why it gets `false` although it is proved; what its plan warns of."""
    if examined.no_root is not None:
        yield f"{FLAG_KEY}=false is written, although this launch is proved: {examined.no_root}"
    if examined.plan is not None:
        yield from map(str, examined.plan.warnings)


def _unrepeated(warnings: Iterable[str], left_alone: Iterable[LeftAlone]) -> Iterator[str]:
    """The warnings that the sentence on a launch that is left alone does not hold already."""
    reasons = tuple(alone.sentence for alone in left_alone)
    for warning in warnings:
        if not any(reason.startswith(warning) for reason in reasons):
            yield warning


def _left_alone(place: str, error: NotEditable) -> LeftAlone:
    code = next(code for cause, code in CODES if isinstance(error, cause))
    return LeftAlone(f"{place}: {error}", code)


def change_for(examined: Examined) -> Change | None:
    """The change that a launch needs: None if it carries already what `tuner serve` would write.

    Raises:
        NotEditable: what it needs cannot be told from what is known of it.
    """
    arguments, plan = examined.arguments, examined.plan
    if examined.contradiction:
        raise NotEditable(examined.contradiction)
    if arguments is None:
        raise NotEditable(f"the arguments cannot be read here: {examined.refusal} Edit them by hand.")
    if plan is None:
        why = examined.aside or "which vLLM serves is not known; name it with --environment"
        raise NotKnown(f"nothing is written, because {why}")
    _require_no_value_of_the_users(arguments, plan)
    if _is_from_a_variable(arguments.compilation_config.get(FLAG_KEY), examined.launch):
        raise _hidden(examined)
    if plan.launch.args == arguments.as_written:
        return None
    _require_enough_known(examined, plan)
    if plan.launch.args == with_options(arguments.as_written, plan.decision.options):
        return Change((), plan.decision.options, end_of_options(arguments.as_written))
    removed = indexes_of_field(arguments.as_written, _FIELD)
    staying = [index for index in range(len(arguments.as_written)) if index not in removed]
    at = arguments.merged_at
    added = plan.launch.args[at : at + len(plan.launch.args) - len(arguments.without_config)]
    added = _fitting(examined.launch, added)
    return Change(tuple(sorted(removed)), added, staying[at] if at < len(staying) else len(arguments.as_written))


def variables_for(examined: Examined) -> dict[str, str]:
    """The variables that a launch lacks and its manifest can give it; none where not enough is known of it."""
    arguments, plan = examined.arguments, examined.plan
    if plan is None or arguments is None or examined.model is None or examined.hidden or not examined.exact:
        return {}
    if not missing_root(examined) or why_not_writable(examined.launch, plan.launch.env[CACHE_ROOT]):
        return {}
    return {CACHE_ROOT: plan.launch.env[CACHE_ROOT]}


def _variable_edits(launch: ManifestLaunch, variables: Mapping[str, str]) -> Iterator[Edit]:
    for name, value in variables.items():
        if launch.variable_place is not None:
            yield variable_edit(launch.variable_place, name, value)


def _intended(launch: ManifestLaunch, change: Change | None, variables: Mapping[str, str]) -> Intended:
    args = launch.args if change is None else change.of(launch.args)
    return Intended(args, {**launch.env, **variables})


def _require_no_value_of_the_users(arguments: ServeArguments, plan: Plan) -> None:
    """Check that no value of the user's would have to change.

    Raises:
        UserValueStays: one would.
    """
    if plan.decision.refusal is not Refusal.UNSAFE:
        return
    finding = plan.ladder.finding
    if finding is not None and finding.users:
        cure = "--override changes your values" if finding.users_keys_alone else "change your values by hand"
        raise UserValueStays(f"{'; '.join(sentences(plan.decision.engine_reasons))}; {cure}")
    if FLAG_KEY in arguments.compilation_config:
        raise UserValueStays(f"{plan.decision.warnings[0]}; --override changes your value")


def _is_from_a_variable(value: object, launch: ManifestLaunch) -> bool:
    """Whether a value in the compilation config is a substitution that is not known, which stays as it is written."""
    return isinstance(value, str) and any(word.unknown and value in word.text for word in launch.words)


def _require_enough_known(examined: Examined, plan: Plan) -> None:
    """Check that enough is known of a launch to write what its plan says.

    Raises:
        NotEditable: it is not.
    """
    if examined.hidden:
        raise _hidden(examined)
    if examined.model is None:
        raise NotKnown(f"nothing is written, because {examined.model_problem}")
    if plan.writes_remedy and not examined.exact:
        raise NotEditable("only the vLLM version was matched, so what arms showed is not written; give --environment")
    if plan.decision.setting is True and not examined.exact:
        raise NotEditable(f"only the vLLM version was matched, so {FLAG_KEY}=true is not written; give --environment")


def _hidden(examined: Examined) -> NotEditable:
    """That some arguments are not written in the manifest."""
    cause = f"the value of {examined.hidden} is not written here, and may hold a compilation config"
    return NotEditable(f"{cause}; edit it by hand")


def _fitting(launch: ManifestLaunch, added: tuple[str, ...]) -> tuple[str, ...]:
    """Arguments as the place takes them: a YAML text without quotes takes JSON without spaces behind its colons."""
    if not any(word.owner is not None and word.owner.plain_yaml for word in launch.words):
        return added
    fitting = []
    for argument in added:
        is_json = argument.startswith("{")
        fitting.append(json.dumps(json.loads(argument), separators=(",", ":")) if is_json else argument)
    return tuple(fitting)


def _shared(launches: Iterable[ManifestLaunch]) -> frozenset[int]:
    """Starts of the lists that several launches use."""
    users: Counter[int] = Counter()
    for launch in launches:
        users.update({word.owner.start for word in launch.words if word.owner})
    return frozenset(start for start, number in users.items() if number > 1)


def _verify(
    file: Path,
    after: str,
    examinations: Sequence[Examined],
    intended: Sequence[Intended],
    *,
    override: bool,
) -> None:
    """Read the edited text again: every launch says what it should and lost nothing, and nothing else changed.

    Raises:
        NotEditable: the edited text says something else.
    """
    try:
        edited_launches = launches_of(file, after)
    except ValueError as error:
        raise NotEditable(f"after the edit the file could not be read: {error}") from None
    launches = [examined.launch for examined in examinations]
    faces = [_face(launch, Intended(launch.args, launch.env)) for launch in edited_launches]
    if faces != list(map(_face, launches, intended)):
        raise NotEditable(
            "after the edit the launch would not have the right arguments or variables; several launches may share "
            "one list"
        )
    for examined, edited in zip(examinations, edited_launches, strict=True):
        if examined.launch.args != edited.args:
            require_nothing_lost(shown_path(file), after, examined.launch, edited, _meant(examined, override=override))


def _meant(examined: Examined, *, override: bool) -> Meant:
    """What the plan of a launch may change beside adding keys to the compilation config."""
    plan = examined.plan
    if plan is None:
        return Meant()
    if not override:
        return Meant(plan.decision.options)
    finding = plan.ladder.finding
    instead = finding.instead if finding else None
    changed = {FLAG_KEY, *(finding.users if finding else ()), *leaves(instead.config if instead else {})}
    return Meant(plan.decision.options, frozenset(changed))


def _face(launch: ManifestLaunch, intended: Intended) -> tuple[object, ...]:
    """All of a launch, with these arguments and variables, but the places where it is written."""
    surroundings = (launch.image, launch.pod, launch.hidden)
    return (launch.shape, launch.name, intended.args, dict(intended.env), *surroundings)
