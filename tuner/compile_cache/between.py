"""What differs between two compile caches, or two servers' logs, by what they themselves say.

Three forms are compared, each with its own kind: vLLM's `cache_key_factors.json` or a folder that holds one; a record
of `tuner cache warm`, which names every factor; and logs, whose engine line prints the configuration.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.compiled.factors import FACTORS, MAX_BYTES, parse_factors
from cache.compiled.warm_record import MAX_RECORD, WarmRecord, record_in
from cache.key import finite
from rules.errors import ErrorKind, TunerError
from tuner.compile_cache.difference import Difference, Effect, folder_fix, known_differences, variables_differ
from tuner.compile_cache.explain import difference_document
from tuner.compile_cache.explain_text import difference_lines, folded_visibly
from tuner.compile_cache.factors_document import is_factors
from tuner.compile_cache.graph_folders import concealed
from tuner.server_log.engine_line import printed_config
from tuner.server_log.line import message
from tuner.server_log.log import read_server_log
from tuner.server_log.text_lines import text_lines
from tuner.untrusted.files import open_plain, read_plain

SCHEMA_VERSION = 1
HASHES = {"config_hash": "config", "compiler_hash": "compiler", "code_hash": "source"}
"""Hash in vLLM's file -> the kind of what it was made of."""
CODE_FIX = "The files that vLLM traced are other ones: serve with the vLLM and model code that filled the folder."
DEPTH = ("", "*/", "*/*/")
"""Where `cache_key_factors.json` lies below a folder of graphs: rank_0_0/backbone (0.17.0 to 0.33.0) or less deep."""
BELOW = ("*/", "torch_compile_cache/*/")
"""Where folders of graphs lie below a folder that holds several."""
MOST_FOLDERS = 10
"""Folders that an error names."""
ENGINE, CORE = "Initializing a V1 LLM engine (v", "core"
RELEASE = "vllm"
RELEASE_FIX = "Serve with the same vLLM, or warm with this one: the release is in every key."
MOST_ENGINES = 64
"""Engine lines of a log that are kept."""


@dataclass(frozen=True)
class Between:
    """What differs between two of one kind.

    Attributes:
        kind: `folders`, `warm-ups` or `logs`.
        first: the first, as it was named.
        second: the second.
        differences: each with what it does, from the first to the second.
        notes: what else is known, and what is not.
        is_complete: whether all was compared; with False, no difference does not say that both are the same.
    """

    kind: str
    first: str
    second: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    is_complete: bool = True

    @property
    def counting(self) -> tuple[Difference, ...]:
        """Differences that have an effect, or may have one."""
        return tuple(each for each in self.differences if each.effect is not Effect.NONE)


@dataclass(frozen=True)
class _Logged:
    """What a log says of its last engine.

    Attributes:
        config: field -> value, as printed.
        folders: names of the folders of graphs and of ahead-of-time artifacts.
        loaded: lines that say compiled code was loaded.
        compiled: lines that say it was made.
    """

    config: Mapping[str, str | None]
    folders: frozenset[str]
    loaded: int
    compiled: int


_Side = Mapping[str, Any] | WarmRecord | _Logged
"""vLLM's own factors, a record, or a log."""


def between(first: Path, second: Path) -> Between:
    """Compare two of one kind.

    Raises:
        TunerError: one cannot be read or used (kind `cache`), or they are of two kinds (kind `usage`).
    """
    before, after = _read(first), _read(second)
    names = str(first), str(second)
    if isinstance(before, WarmRecord) and isinstance(after, WarmRecord):
        return _between_records(names, before, after)
    if isinstance(before, _Logged) and isinstance(after, _Logged):
        return _between_logs(names, before, after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return _between_folders(names, before, after)
    raise TunerError(
        f"{first} is {_kind(before)}, and {second} is {_kind(after)}.",
        hint="Give two of one kind: two cache folders, two files of factors, two records, or two logs.",
        kind=ErrorKind.USAGE,
    )


def _kind(side: _Side) -> str:
    if isinstance(side, WarmRecord):
        return "a record of a warm-up"
    return "a log" if isinstance(side, _Logged) else "a folder of graphs or its file of factors"


def _read(path: Path) -> _Side:
    try:
        if path.is_dir():
            return _factors_in(path)
        with open_plain(path) as stream:
            is_json = stream.read(1) == b"{"
        read = _document(path) if is_json else None
        return _log(path) if read is None else read
    except OSError as error:
        raise TunerError(f"{path} cannot be read: {error.strerror}.", kind=ErrorKind.CACHE) from None


def _factors_in(folder: Path) -> Mapping[str, Any]:
    """The factors of a folder of graphs; the ranks of an engine share them."""
    files = [file for depth in DEPTH for file in sorted(folder.glob(depth + FACTORS))]
    if files:
        return _factors(files[0])
    below = [file for place in BELOW for file in folder.glob(f"{place}rank_*/*/{FACTORS}")]
    deeper = sorted({file.parents[2] for file in below})[:MOST_FOLDERS]
    if deeper:
        names = "\n".join(map(str, deeper))
        raise TunerError(
            f"{folder} is not the folder of one cache.", hint=f"Name one of:\n{names}", kind=ErrorKind.USAGE
        )
    raise TunerError(
        f"{folder} holds no {FACTORS}, so nothing says what it was made of.",
        hint="Name a folder of graphs (torch_compile_cache/<10 hex>), or records of `tuner cache warm`\n"
        "(tuner-warm/*.json).",
        kind=ErrorKind.CACHE,
    )


def _factors(file: Path) -> Mapping[str, Any]:
    factors = parse_factors(read_plain(file, MAX_BYTES))
    if factors is None:
        raise TunerError(f"{file} is damaged, or not vLLM's file of factors.", kind=ErrorKind.CACHE)
    return factors


def _document(path: Path) -> Mapping[str, Any] | WarmRecord | None:
    """The factors or the record in a file; None if it is neither, as a log in JSON lines."""
    data = read_plain(path, MAX_RECORD + 1)
    factors = parse_factors(data) if len(data) <= MAX_BYTES else None
    if factors is not None:
        return factors
    try:
        return record_in(json.loads(data, parse_float=finite, parse_constant=finite))
    except (ValueError, RecursionError):
        return None


def _log(path: Path) -> _Logged:
    """What a log says of its last engine.

    Raises:
        TunerError: it has no engine's line (kind `log`).
    """
    texts: dict[int, str] = {}
    with open_plain(path) as stream:
        log = read_server_log(_noting(text_lines(stream, str(path)), texts))
    engines = [engine for engine in log.engines if engine.line in texts]
    if not engines:
        raise TunerError(
            f"{path} has no line in which an engine prints its configuration.",
            hint="Give the whole log of a server's start, at the level INFO.",
            kind=ErrorKind.LOG,
        )
    folders = {folder for start in log.starts for folder in (*start.cache.folders, *start.cache.aot_folders)}
    config = printed_config(texts[engines[-1].line])
    return _Logged({**config, RELEASE: engines[-1].config.vllm}, frozenset(map(_name, folders)), log.hits, log.misses)


def _noting(lines: Iterable[str], texts: dict[int, str]) -> Iterator[str]:
    """The same lines; what engines say is noted by the number of the line."""
    for number, line in enumerate(lines, 1):
        engine_message = message(line, ENGINE, CORE) if ENGINE in line and len(texts) < MOST_ENGINES else None
        if engine_message is not None:
            texts[number] = engine_message.text.removeprefix(ENGINE)
        yield line


def _name(folder: str) -> str:
    """The part of a cache folder's path that names its key."""
    parts = Path(folder).parts
    places = [index for index, part in enumerate(parts) if part in {"torch_compile_cache", "torch_aot_compile"}]
    return next(iter(parts[places[-1] + 1 :]), folder) if places else folder


def _between_folders(names: tuple[str, str], before: Mapping[str, Any], after: Mapping[str, Any]) -> Between:
    """The factors that vLLM notes itself: variables by name, all else by a hash."""
    differences = list(variables_differ(_variables(before), _variables(after), moved=True))
    for name, kind in HASHES.items():
        if before.get(name) != after.get(name):
            fix = CODE_FIX if name == "code_hash" else folder_fix(name)
            differences.append(Difference(kind, name, before.get(name), after.get(name), Effect.KEY, fix))
    hashed = [each.name for each in differences if each.name in HASHES]
    notes: list[str] = []
    if hashed:
        notes.append(f"Of {', '.join(hashed)} vLLM keeps the hash alone; two logs, or two records, name the factor.")
    return Between("folders", *names, tuple(differences), tuple(notes))


def _variables(factors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: concealed(name, value) for name, value in factors["env"].items()}


def _between_records(names: tuple[str, str], before: WarmRecord, after: WarmRecord) -> Between:
    """Records of warm-ups: every factor by name."""
    whole = is_factors(before.factors) and is_factors(after.factors)
    differences = known_differences(before.factors, after.factors) if whole else None
    if differences is None:
        notes = ("A record does not say what vLLM's keys were made of.",)
        return Between("warm-ups", *names, (), notes, is_complete=False)
    return Between("warm-ups", *names, tuple(differences), ())


def _between_logs(names: tuple[str, str], before: _Logged, after: _Logged) -> Between:
    """Two logs: every field that the engines print, and the folders that they used."""
    same_folders = bool(before.folders) and before.folders == after.folders
    unread = sorted(name for side in (before, after) for name, value in side.config.items() if value is None)
    effect = Effect.NONE if same_folders else Effect.MAYBE
    differences = []
    for name in sorted(_compared_fields(before, after) - set(unread)):
        old, new = before.config.get(name), after.config.get(name)
        if old != new:
            differences.append(Difference("config", name, old, new, effect, RELEASE_FIX if name == RELEASE else ""))
    notes = [_folders_note(before, after), _use_note("first", before), _use_note("second", after)]
    notes += [f"These fields could not be read: {', '.join(dict.fromkeys(unread))}."] if unread else []
    if len(before.config) <= 1 or len(after.config) <= 1:
        notes.append("The line of an engine could not be read: it is cut, or of a release that prints it otherwise.")
    return Between("logs", *names, tuple(differences), tuple(notes), is_complete=not unread and same_folders)


def _compared_fields(before: _Logged, after: _Logged) -> set[str]:
    """Of two releases of vLLM the release alone: it is in every key, and their fields differ by themselves."""
    if before.config[RELEASE] != after.config[RELEASE]:
        return {RELEASE}
    return {*before.config, *after.config}


def _folders_note(before: _Logged, after: _Logged) -> str:
    if not before.folders or not after.folders:
        return "A log names no cache folder, so whether both used one is not known."
    if before.folders == after.folders:
        return f"Both used the same cache folders, so no factor moved a key: {', '.join(sorted(before.folders))}."
    old, new = (", ".join(sorted(side.folders)) for side in (before, after))
    return (
        f"They used other cache folders: {old}; then {new}. A field above, a variable, or a source file moved the key."
    )


def _use_note(which: str, side: _Logged) -> str:
    return (
        f"The {which} log has {side.loaded} lines about code that was loaded, and {side.compiled} about compiled code."
    )


def between_text(compared: Between) -> str:
    """The differences with their fixes, then what else is known."""
    lines = [f"first: {compared.first}", f"second: {compared.second}"]
    lines += difference_lines(f"differences between these {compared.kind}", compared.differences)
    return "\n".join(map(folded_visibly, [*lines, *compared.notes]))


def between_document(compared: Between) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": compared.kind,
        "first": compared.first,
        "second": compared.second,
        "differences": list(map(difference_document, compared.differences)),
        "notes": list(compared.notes),
        "known": compared.is_complete,
    }
