"""Folder of graphs, record -> explain: a damaged cache is told of, and never becomes a hit.

The launch is always the same. Without a record nothing is known of the traced files, so nothing may be a hit; with one,
damage to the folder's own factors must not make another launch's folder one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factors_samples import OLD, changed, warm_record
from hashed_samples import compiled, graphs_folder, key_factors
from hypothesis import strategies as st

from cache.compiled.warm_record import read_records, write_record
from fuzz.limit import limited
from fuzz.mutate import Draw, Places, by_depth, bytes_mutated, json_text, mutated, paths, text_mutated
from fuzz.sentence import require_sentence
from rules.errors import TunerError
from tuner.compile_cache.explain import Explanation, compared, explanation_document
from tuner.compile_cache.explain_text import explanation_text
from tuner.compile_cache.prediction import Answer


@dataclass(frozen=True)
class File:
    """A file of a cache root that may be damaged: what is in it, and where everything stands if it is JSON."""

    path: Path
    data: bytes
    value: Any
    places: Places


@dataclass(frozen=True)
class Ground:
    """Two cache roots: the launch's graphs without a record, and another launch's with its record."""

    launch: dict[str, Any]
    bare: Path
    bare_files: tuple[File, ...]
    other: Path
    other_files: tuple[File, ...]


def ground(folder: Path) -> Ground:
    """Fill both."""
    launch = compiled(OLD, aot=False)
    bare, other = folder / "bare", folder / "other"
    bare.mkdir()
    other.mkdir()
    graphs_folder(bare, key_factors(launch))
    foreign = changed(launch, 128, "config", "parts", "model_config", "factors", "max_model_len")
    entry = graphs_folder(other, {**key_factors(foreign), "config_hash": "f" * 10})
    small = changed(foreign, dict(list(launch["sources"].items())[:9]), "sources")
    write_record(other, warm_record(small, entries=(entry,), hit=True))
    return Ground(launch, bare, files_of(bare), other, files_of(other))


def files_of(root: Path) -> tuple[File, ...]:
    """Its small files."""
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("artifact")):
        data = path.read_bytes()
        value = json.loads(data) if path.suffix == ".json" else None
        found.append(File(path, data, value, by_depth(paths(value))))
    return tuple(found)


def case(draw: Draw, ground: Ground) -> str:
    """Damage one file, ask, and put it back."""
    bare = draw(st.booleans())
    root, files = (ground.bare, ground.bare_files) if bare else (ground.other, ground.other_files)
    file = draw(st.sampled_from(files))
    with limited():
        file.path.write_bytes(damaged(draw, file))
        try:
            return f"{file.path.name if bare else 'recorded, ' + kind(file)}: {asked(root, ground.launch)}"
        finally:
            file.path.write_bytes(file.data)


def kind(file: File) -> str:
    """The file's name; a record's is a digest."""
    return "record" if file.path.parent.name == "tuner-warm" else file.path.name


def damaged(draw: Draw, file: File) -> bytes:
    """Another value, another text, or other bytes."""
    way = draw(st.sampled_from(["value", "value", "text", "bytes"]))
    if way == "value" and file.value is not None:
        return json_text(mutated(draw, file.value, file.places)).encode()
    if way == "bytes":
        return bytes_mutated(draw, file.data)
    return text_mutated(draw, file.data.decode()).encode("utf-8", "surrogatepass")


def asked(root: Path, launch: dict[str, Any]) -> str:
    """The answer: never a hit, and always one that can be printed."""
    try:
        found = compared(root, launch, next(iter(read_records(root)[0]), None))
    except TunerError as error:
        require_sentence(error)
        return "refused"
    assert said(found) is not Answer.HIT
    return str(said(found))


def said(found: Explanation) -> Answer:
    """As `tuner cache explain` prints it, for people and for programs."""
    explanation_text(found).encode()
    json.dumps(explanation_document(found, "m"), allow_nan=False)
    return found.prediction.answer
