"""`tuner apply`: manifests edited in place so that each launch carries what `tuner serve` would write."""

import difflib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rules.decide import FLAG_KEY
from rules.errors import ErrorKind, TunerError
from tuner.arguments.vllm_options import indexes_of_field
from tuner.checks.check import manifests_at, read_manifest
from tuner.checks.edit import Change, Edit, NotEditable, edits_for, spliced
from tuner.checks.examine import Examined, Knowledge, examine, missing_root
from tuner.checks.reread import require_nothing_lost
from tuner.manifests.find import launches_in
from tuner.manifests.launch import ManifestLaunch

_FIELD = "compilation_config"


@dataclass(frozen=True)
class Applied:
    """What becomes of one file.

    Attributes:
        path: the file.
        before: its text.
        after: its text with the edits; the same where there are none.
        changed: how many launches were changed.
        left_alone: why launches that should be changed are not; sentences that name the line.
        warnings: what `tuner serve` would warn of; sentences that name the line.
    """

    path: str
    before: str = ""
    after: str = ""
    changed: int = 0
    left_alone: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def diff(self) -> str:
        """The edits as a unified diff; empty if there are none."""
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        name = self.path.lstrip("/")
        lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
        text = ""
        for line in lines:
            text += line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        return text


def apply(paths: Iterable[Path], knowledge: Knowledge) -> Iterator[Applied]:
    """What becomes of every manifest at these paths; nothing is written.

    Raises:
        TunerError: there is nothing at a path.
        StoreError: the store is damaged.
    """
    for file in manifests_at(paths):
        try:
            text = read_manifest(file)
            launches = launches_in(file.name, text)
        except ValueError as error:
            yield Applied(str(file), left_alone=(f"{file}: {error}",))
            continue
        yield _applied(file, text, launches, knowledge)


def write(applied: Applied) -> None:
    """Put the edited text in the file's place, with the file's permissions; behind a link, in that of its target.

    Raises:
        TunerError: the file cannot be written.
    """
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


def _applied(file: Path, text: str, launches: list[ManifestLaunch], knowledge: Knowledge) -> Applied:
    examinations = [examine(str(file), launch, knowledge) for launch in launches]
    shared = _shared(launches)
    expected_args = [launch.args for launch in launches]
    edits: list[Edit] = []
    left_alone, warnings, changed = [], [], 0
    for index, examined in enumerate(examinations):
        place = f"{file}:{examined.launch.line}"
        if examined.plan:
            warnings += [f"{place}: {warning}" for warning in examined.plan.warnings]
        try:
            change = change_for(examined)
            if change is None:
                continue
            edits += edits_for(text, examined.launch.words, change, shared)
            expected_args[index] = change.of(examined.launch.args)
            changed += 1
        except NotEditable as error:
            left_alone.append(f"{place}: {error}")
    outcome = Applied(str(file), text, text, 0, tuple(left_alone), tuple(warnings))
    try:
        after = spliced(text, edits)
        _verify(file, after, launches, expected_args)
    except NotEditable as error:
        return replace(outcome, left_alone=(*left_alone, f"{file}: {error}"))
    return replace(outcome, after=after, changed=changed)


def change_for(examined: Examined) -> Change | None:
    """The change that a launch needs: None if it carries already what `tuner serve` would write.

    Raises:
        NotEditable: what it needs cannot be told from what is known of it.
    """
    arguments, plan = examined.arguments, examined.plan
    if examined.contradiction:
        raise NotEditable(examined.contradiction)
    if arguments is None or plan is None or plan.launch.args == arguments.given:
        return None
    if examined.hidden:
        raise NotEditable(f"what {examined.hidden} stands for is not written here, and may hold a compilation config")
    if plan.decision.setting is True and not examined.exact:
        raise NotEditable(f"a match by the vLLM version only never writes {FLAG_KEY}=true; give --environment")
    if plan.decision.setting is True and (missing := missing_root(examined)):
        raise NotEditable(f"{FLAG_KEY}=true needs {missing} in its environment, which is not edited here; set it first")
    removed = indexes_of_field(arguments.given, _FIELD)
    staying = [index for index in range(len(arguments.given)) if index not in removed]
    at = arguments.merged_at
    added = plan.launch.args[at : at + len(plan.launch.args) - len(arguments.rest)]
    return Change(tuple(sorted(removed)), added, staying[at] if at < len(staying) else len(arguments.given))


def _shared(launches: Iterable[ManifestLaunch]) -> frozenset[int]:
    """Starts of the lists that several launches use."""
    users: Counter[int] = Counter()
    for launch in launches:
        users.update({word.owner.start for word in launch.words if word.owner})
    return frozenset(start for start, number in users.items() if number > 1)


def _verify(file: Path, after: str, launches: list[ManifestLaunch], expected_args: list[tuple[str, ...]]) -> None:
    """Read the edited text again: every launch says what it should and lost nothing, and nothing else changed.

    Raises:
        NotEditable: the edited text says something else.
    """
    try:
        edited_launches = launches_in(file.name, after)
    except ValueError as error:
        raise NotEditable(f"edited, it could not be read: {error}") from None
    faces = [_face(launch, launch.args) for launch in edited_launches]
    if faces != list(map(_face, launches, expected_args)):
        raise NotEditable("edited, it would not say what it should; several launches may share one list")
    for before, edited in zip(launches, edited_launches, strict=True):
        if before.args != edited.args:
            require_nothing_lost(str(file), after, before, edited)


def _face(launch: ManifestLaunch, args: tuple[str, ...]) -> tuple[object, ...]:
    """All of a launch but the places where it is written."""
    volumes = [(volume.path, volume.name, volume.kind) for volume in launch.volumes]
    surroundings = (launch.image, dict(launch.env), volumes, launch.startup_seconds, launch.hidden)
    return (launch.shape, launch.name, args, *surroundings)
