"""What the targets of manifests share: a damaged text is read or refused, and an edit is made once.

`test_manifest_hostile` makes manifests of known words; here real ones lose, gain and exchange parts of their text.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import yaml
from fake_environment import ERNIE, MIXTRAL, SETTABLE, serving_in
from hypothesis import strategies as st

from cache.verdicts.store import VerdictStore
from fuzz.limit import limited
from fuzz.mutate import Draw, Places, by_depth, mutated, paths, text_mutated
from fuzz.sentence import LONGEST, require_sentence
from rules.errors import TunerError
from tuner.checks.apply import Applied, apply
from tuner.checks.check import Checked, check
from tuner.checks.document import check_document, check_text, github_text
from tuner.checks.examine import Knowledge
from tuner.checks.sarif import sarif_log
from tuner.environment.environment import Environment
from tuner.manifests import files
from tuner.manifests.find import launches_in

CONFIGS = File(__file__).parents[2] / "examples" / "models"
MODELS = ("mistralai/Mixtral-8x7B-v0.1", "baidu/ERNIE-4.5-VL-28B-A3B-PT")
"""Models with a stored verdict, so that there is something to do."""
YAML = ".yaml"
_SUFFIXES = files.YAML_SUFFIXES | files.SHELL_SUFFIXES | files.MARKDOWN_SUFFIXES | files.RESTRUCTURED_SUFFIXES
_SUFFIXES |= files.UNIT_SUFFIXES | files.CONFIG_SUFFIXES | files.SCANNED_SUFFIXES
ENDS = (*sorted(_SUFFIXES), ".json", ".Dockerfile", "")
"""Ends of the names of files that are looked into, each kind of which is read in a way of its own."""
VERSIONS = (None, "0.14.1", "0.15.1", "0.19.1", "0.32.0", "9.0.0")


@dataclass(frozen=True)
class Ground:
    """Texts with launches, a store with verdicts, and a folder to write into.

    Attributes:
        texts: the end of a file's name, and a text.
        trees: the documents of the texts that are YAML, each with its places.
        store: the verdicts.
        environment: where they were reached.
        folder: where damaged files are written.
    """

    texts: tuple[tuple[str, str], ...]
    trees: tuple[tuple[Any, Places], ...]
    store: VerdictStore
    environment: Environment
    folder: File


def ground_of(folder: File, texts: Iterable[tuple[str, str]]) -> Ground:
    """A ground of these texts, each of which holds a launch; each is the end of a file's name, and a text."""
    texts = tuple(texts)
    assert all(holds_launch(end, text) for end, text in texts)
    path, serving = folder / "verdicts.sqlite", serving_in(folder / "env", SETTABLE)
    for model in (MIXTRAL, ERNIE):
        serving.remember(path, model)
    (folder / "manifests").mkdir()
    trees = [json.loads(json.dumps(list(yaml.safe_load_all(text)), default=str)) for end, text in texts if end == YAML]
    return Ground(
        texts,
        tuple((tree, by_depth(paths(tree))) for tree in trees),
        VerdictStore(path),
        serving.read(),
        folder / "manifests",
    )


def holds_launch(end: str, text: str) -> bool:
    """Whether a text holds a launch."""
    try:
        return bool(launches_in(f"x{end}", text))
    except ValueError:  # a template, or YAML with a part of another kind
        return False


def damaged_case(draw: Draw, ground: Ground) -> str:
    """Damage one text of the ground, check it, and apply what the check asks for."""
    return checked_case(draw, ground, *_damaged(draw, ground))


def checked_case(draw: Draw, ground: Ground, end: str, text: str) -> str:
    """Check a text in a file with this end of its name, and apply what the check asks for until nothing is left."""
    file = ground.folder / f"x{end}"
    knowledge, override = _knowledge(draw, ground), draw(st.booleans())
    with limited():
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            checked = check([file], knowledge)
            require_findings(checked, text)
            launches = "launches" if checked.launches else "no launch"
            return f"{launches}, {_applied(file, knowledge, override=override)}"
        except TunerError as error:
            require_sentence(error)
            return "refused"
        finally:
            file.unlink()


def _knowledge(draw: Draw, ground: Ground) -> Knowledge:
    exact = draw(st.booleans())
    return Knowledge(
        ground.store,
        ground.environment if exact else None,
        None if exact else draw(st.sampled_from(VERSIONS)),
        draw(st.sampled_from([CONFIGS, CONFIGS, CONFIGS, None])),
        draw(st.sampled_from([None, "cpu", "cuda"])),
        draw(st.sampled_from([None, 0.0, 600.0, float("inf")])),
        images=(("*", ground.environment),) if draw(st.sampled_from([False, False, True])) else (),
    )


def _damaged(draw: Draw, ground: Ground) -> tuple[str, str]:
    """The end of a file's name, and a text: one changed as text, or its documents changed as values."""
    if ground.trees and draw(st.booleans()):
        tree, places = draw(st.sampled_from(ground.trees))
        changed = mutated(draw, tree, places)
        documents = changed if isinstance(changed, list) else [changed]
        return YAML, yaml.safe_dump_all(documents, sort_keys=False, width=draw(st.sampled_from([20, 80, 10_000])))
    end, text = draw(st.sampled_from(ground.texts))
    other = draw(st.sampled_from([True, False, False, False]))
    return draw(st.sampled_from(ENDS)) if other else end, text_mutated(draw, text, most=2)


def require_findings(checked: Checked, text: str) -> None:
    """Each finding is a sentence about a line of the file, and every form of the result can be written."""
    lines = text.count("\n") + text.count("\r") + 1
    for finding in checked.findings:
        assert 1 <= finding.line <= lines, (finding.line, lines)
        assert finding.message.strip().endswith("."), finding.message[-80:]
        size = len(finding.message)
        # A command that would help has the arguments whole; a shell's quotes take five characters for each.
        assert size < LONGEST + 5 * len(text), (finding.rule.id, size, finding.message[:300])
    json.dumps([check_document(checked), sarif_log(checked)], allow_nan=False)
    for written in (check_text(checked), github_text(checked)):
        assert all(line.isprintable() for line in written.split("\n"))
        assert written.count("\n") == len(checked.findings) + 1, "a name of others made a line of its own"


def _applied(file: File, knowledge: Knowledge, *, override: bool) -> str:
    """Apply, and apply to the result: the second time nothing changes."""
    (first,) = apply([file], knowledge, override=override)
    require_sayable(first)
    if first.after == first.before:
        return "unchanged"
    file.write_bytes(first.after.encode())
    (second,) = apply([file], knowledge, override=override)
    assert second.after == second.before, "a second time there was something to change"
    return "changed"


def require_sayable(applied: Applied) -> None:
    """What is left alone is said in sentences, and a file without a change has no diff."""
    sentences = (*(alone.sentence for alone in applied.left_alone), *applied.warnings)
    assert all(sentence.strip() for sentence in sentences)
    assert bool(applied.diff()) == (applied.after != applied.before)
    assert applied.changed == 0 or applied.after != applied.before
