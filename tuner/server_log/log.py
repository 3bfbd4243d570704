"""What a server's start-up log says of the engine that runs. Pure: lines in, facts out, in bounded memory.

A log may hold several starts, as where a container was started again under one name: the last one counts, for each pod
or service whose lines are told apart by what stands in front of them. Nothing else of a line is kept than the facts
named here; above all not the arguments that vLLM prints at its start, which may hold a key.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tuner.server_log.engine_line import MAX_VALUE, EngineConfig, engine_config
from tuner.server_log.line import Message, message

MAX_SOURCES, MAX_ENGINES, MAX_FOLDERS = 256, 1024, 64
"""The limits of what is kept of a log; `ServerLog.cut` says that one was reached."""

_ARGUMENTS = "non-default args: "
_ENGINE = "Initializing a V1 LLM engine (v"
_READY = "init engine (profile, create kv cache, warmup model) took "
_FAILED = "EngineCore failed to start."
_REPLACED = "HF_HUB_OFFLINE is True, replace model_id ["
_FOLDER = "Using cache directory: "
_OFF = "vLLM's torch.compile cache is disabled."
_AOT_LOADED = "Directly load AOT compilation from path "
_AOT_SAVED = "saved AOT compiled function to "
_AOT_UNSAVED = "unable to save AOT compiled function to "
_LOADED = "Directly load the compiled graph(s) for"
_COMPILED = "Compiling a graph for"
_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_ARGUMENTS, ("api_utils", "utils")),
    (_ENGINE, ("core",)),
    (_READY, ("core",)),
    (_FAILED, ("core",)),
    (_REPLACED, ("arg_utils",)),
    (_FOLDER, ("backends",)),
    (_OFF, ("backends",)),
    (_AOT_LOADED, ("decorators",)),
    (_AOT_UNSAVED, ("decorators",)),
    (_AOT_SAVED, ("decorators",)),
    (_LOADED, ("backends",)),
    (_COMPILED, ("backends",)),
)
"""What a line must begin with -> the modules that log it (read in 0.19.1, 0.26.0 and 0.32.0).

Files: vllm/entrypoints/utils.py, since 0.26 entrypoints/serve/utils/api_utils.py; v1/engine/core.py;
engine/arg_utils.py; compilation/backends.py and decorators.py.
"""
_REPLACEMENT = re.compile(r"\[([^\[\]]{1,4096})\] to model_path \[([^\[\]]{1,4096})\]")
_RANK = re.compile(r"/rank_\d+_\d+(/.*)?$")


@dataclass(frozen=True)
class Engine:
    """One engine of a start.

    Attributes:
        name: its process, behind the pod or service if the log names one; may be empty.
        line: number of the line with its configuration; lines count from 1.
        config: what that line says.
        ready: number of the line that says it is ready; None if there is none.
    """

    name: str
    line: int
    config: EngineConfig
    ready: int | None = None


@dataclass(frozen=True)
class CacheUse:
    """What a start did with the compile cache.

    Attributes:
        hits: lines that say compiled code was loaded.
        misses: lines that say it was made.
        off: number of the line that says the cache is off.
        folders: folder of the cache -> the first line that names it.
        aot_folders: likewise of whole functions compiled ahead of time, which ignore `compilation_config.cache_dir`.
        line: number of the first line of all these.
    """

    hits: int = 0
    misses: int = 0
    off: int | None = None
    folders: dict[str, int] = field(default_factory=dict)
    aot_folders: dict[str, int] = field(default_factory=dict)
    line: int | None = None


@dataclass(frozen=True)
class Start:
    """The last start of one source.

    Attributes:
        engines: its engines, in the order of their lines.
        cache: what it did with the compile cache.
        failed: number of the line that says an engine failed to start.
        replaced: model as given -> the local path that vLLM put in its place.
        number: how many starts the log holds up to this one.
    """

    engines: tuple[Engine, ...] = ()
    cache: CacheUse = field(default_factory=CacheUse)
    failed: int | None = None
    replaced: dict[str, str] = field(default_factory=dict)
    number: int = 1


@dataclass(frozen=True)
class ServerLog:
    """What a whole log says: the last start of each source, and how many lines were read."""

    starts: tuple[Start, ...]
    lines: int
    cut: bool = False

    @property
    def hits(self) -> int:
        """Lines of all last starts that say compiled code was loaded."""
        return sum(start.cache.hits for start in self.starts)

    @property
    def misses(self) -> int:
        """Lines of all last starts that say it was made."""
        return sum(start.cache.misses for start in self.starts)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of all last starts."""
        return tuple(engine for start in self.starts for engine in start.engines)


def read_server_log(lines: Iterable[str]) -> ServerLog:
    """Read a log line by line; any text is a log, if one that says nothing."""
    starts: dict[str, Start] = {}
    number, cut = 0, False
    for number, line in enumerate(lines, 1):
        for piece in line.split("\r"):  # progress bars stay on their line
            sign, log_message = _recognised(piece)
            if log_message is None:
                continue
            if log_message.source not in starts and len(starts) == MAX_SOURCES:
                cut = True
                continue
            before = starts.get(log_message.source)
            starts[log_message.source] = start = _after(before, sign, log_message, number)
            cut = cut or len(start.engines) == MAX_ENGINES
    return ServerLog(tuple(starts.values()), number, cut)


def _recognised(piece: str) -> tuple[str, Message | None]:
    """The sign that a line carries, and the message; None if it carries none."""
    for sign, modules in _SIGNS:
        if sign in piece:
            for module in modules:
                if (log_message := message(piece, sign, module)) is not None:
                    return sign, log_message
    return "", None


def _after(start: Start | None, sign: str, log_message: Message, line: int) -> Start:
    """What is known of a source after one more line of it."""
    if start is None:
        start = Start()
    elif sign == _ARGUMENTS or (sign == _ENGINE and _name(log_message) in {engine.name for engine in start.engines}):
        start = Start(number=start.number + 1)
    if sign == _ENGINE:
        engine = Engine(_name(log_message), line, engine_config(log_message.text))
        return replace(start, engines=(*start.engines, engine)[:MAX_ENGINES])
    if sign == _READY:
        return replace(start, engines=tuple(_ready(engine, _name(log_message), line) for engine in start.engines))
    if sign == _FAILED:
        return replace(start, failed=start.failed or line)
    if sign == _REPLACED:
        full = len(start.replaced) == MAX_FOLDERS
        return start if full else replace(start, replaced=_replaced(start, log_message.text))
    return start if sign == _ARGUMENTS else replace(start, cache=_used(start.cache, sign, log_message.text, line))


def _replaced(start: Start, text: str) -> dict[str, str]:
    return {**start.replaced, **dict(_REPLACEMENT.findall(text)[:1])}


def _name(log_message: Message) -> str:
    return f"{log_message.source} {log_message.process}".strip()


def _ready(engine: Engine, name: str, line: int) -> Engine:
    return replace(engine, ready=line) if engine.name == name and engine.ready is None else engine


def _used(cache: CacheUse, sign: str, text: str, line: int) -> CacheUse:
    """What is known of the cache after one more line about it."""
    cache = replace(cache, line=cache.line or line)
    if sign == _OFF:
        return replace(cache, off=cache.off or line)
    if sign == _FOLDER:
        folder = text.removeprefix(sign).removesuffix(" for vLLM's torch.compile")
        return replace(cache, folders=_with(cache.folders, folder, line))
    if sign in {_LOADED, _COMPILED}:
        return replace(cache, hits=cache.hits + (sign == _LOADED), misses=cache.misses + (sign == _COMPILED))
    hit = sign == _AOT_LOADED
    path = text.removeprefix(sign).partition(": ")[0] if sign == _AOT_UNSAVED else text.removeprefix(sign)
    folders = _with(cache.aot_folders, path, line)
    return replace(cache, hits=cache.hits + hit, misses=cache.misses + (not hit), aot_folders=folders)


def _with(folders: dict[str, int], path: str, line: int) -> dict[str, int]:
    """The folders and one more: the path without what names a rank in it."""
    folder = _RANK.sub("", path)
    if folder in folders or len(folder) > MAX_VALUE or len(folders) == MAX_FOLDERS:
        return folders
    return {**folders, folder: line}
