"""What a server's start-up log says of the engine that runs. Pure: lines in, facts out, in bounded memory.

A log may hold several starts of one server, as where a container was started again under one name, and the lines of
several servers. What stands in front of a line tells servers apart: a pod, a service, a unit, an actor of Ray. Behind
one such front, a start counts until the log says that it ended. Nothing else of a line is kept than the facts named
here; above all not the arguments that vLLM prints at its start, which may hold a key.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto

from tuner.server_log.engine_line import MAX_VALUE, EngineConfig, FlagValue, engine_config, launch_flag
from tuner.server_log.line import Message, Process, message

MAX_SOURCES, MAX_ENGINES, MAX_FOLDERS, MAX_STARTS = 256, 1024, 64, 16
"""The limits of what is kept of a log; `ServerLog.cut` says that one was reached."""


class _Event(Enum):
    """What a line tells of a start."""

    ARGUMENTS = auto()
    ENGINE = auto()
    READY = auto()
    FAILED = auto()
    STOPPED = auto()
    REPLACED = auto()
    ARCHITECTURE = auto()
    FOLDER = auto()
    OFF = auto()
    LOADED = auto()
    COMPILED = auto()
    AOT_LOADED = auto()
    AOT_SAVED = auto()
    AOT_UNSAVED = auto()


@dataclass(frozen=True)
class _Sign:
    """The words that a line begins with, and the modules that log it."""

    event: _Event
    words: str
    modules: tuple[str, ...]


_SIGNS = (
    _Sign(_Event.ARGUMENTS, "non-default args: ", ("api_utils", "utils")),
    _Sign(_Event.ENGINE, "Initializing a V1 LLM engine (v", ("core",)),
    _Sign(_Event.READY, "init engine (profile, create kv cache, warmup model) took ", ("core",)),
    _Sign(_Event.FAILED, "EngineCore failed to start.", ("core",)),
    _Sign(_Event.FAILED, "EngineCore encountered a fatal error.", ("core",)),
    _Sign(_Event.FAILED, "Engine core proc EngineCore", ("core_client",)),
    _Sign(_Event.FAILED, "AsyncLLM output_handler failed.", ("async_llm",)),
    _Sign(_Event.STOPPED, "API server: shutdown triggered", ("launcher",)),
    _Sign(_Event.STOPPED, "EngineCore: trigger received signal=", ("core",)),
    _Sign(_Event.STOPPED, "EngineCore: exiting busy loop", ("core",)),
    _Sign(_Event.STOPPED, "Shutdown initiated (timeout=", ("core",)),
    _Sign(_Event.STOPPED, "Shutting down FastAPI HTTP server.", ("launcher",)),
    _Sign(_Event.REPLACED, "HF_HUB_OFFLINE is True, replace model_id [", ("arg_utils",)),
    _Sign(_Event.ARCHITECTURE, "Resolved architecture: ", ("model",)),
    _Sign(_Event.FOLDER, "Using cache directory: ", ("backends",)),
    _Sign(_Event.OFF, "vLLM's torch.compile cache is disabled.", ("backends",)),
    _Sign(_Event.AOT_LOADED, "Directly load AOT compilation from path ", ("decorators",)),
    _Sign(_Event.AOT_UNSAVED, "unable to save AOT compiled function to ", ("decorators",)),
    _Sign(_Event.AOT_SAVED, "saved AOT compiled function to ", ("decorators",)),
    _Sign(_Event.LOADED, "Directly load the compiled graph(s) for", ("backends",)),
    _Sign(_Event.COMPILED, "Compiling a graph for", ("backends",)),
)
"""Read in 0.19.1, 0.26.0 and 0.32.0.

Files: vllm/entrypoints/utils.py, since 0.26 entrypoints/serve/utils/api_utils.py; v1/engine/core.py, core_client.py and
async_llm.py; engine/arg_utils.py; entrypoints/launcher.py, later entrypoints/launchers/launcher.py; config/model.py;
compilation/backends.py and decorators.py.
"""
_REPLACEMENT = re.compile(r"([^\[\]]{1,4096})\] to model_path \[([^\[\]]{1,4096})\]")
_RANK = re.compile(r"/rank_\d+_\d+(/.*)?$")
_ARCHITECTURE = re.compile(r"\w{1,200}")
_RANK_SERVER = re.compile(r"APIServer_DP\d+")
"""The servers of one `vllm serve`, one a rank (vllm/entrypoints/launchers/dp_supervisor.py, 0.32.0)."""
_ONCE_A_SERVER = re.compile(r"(?:EngineCore|APIServer)(?:_DP\d+)?")
"""Processes of which a server has one by each name."""


class Standing(StrEnum):
    """Whether a start runs beside others that nothing tells apart from it."""

    ALONE = "alone"
    """No other start of its source can run."""
    SHARED = "shared"
    """It is the last start, and no line says that the one before it ended; or it wrote when a later one had begun."""
    MAYBE_OVER = "maybe_over"
    """A later start follows, and no line says that this one ended, or that it goes on."""


@dataclass(frozen=True)
class Engine:
    """One engine of a start.

    Attributes:
        source: what stands in front of its lines; may be empty.
        process: who it is.
        line: number of the line with its configuration; lines count from 1.
        config: what that line says.
        ready: number of the line that says it is ready; None if there is none.
    """

    source: str
    process: Process
    line: int
    config: EngineConfig
    ready: int | None = None

    @property
    def name(self) -> str:
        """The source and the name of the process; may be empty."""
        return f"{self.source} {self.process.name}".strip()


@dataclass(frozen=True)
class CacheUse:
    """What a start did with the compile cache.

    Attributes:
        hits: lines that say compiled code was loaded.
        misses: lines that say it was made.
        off: number of the line that says the cache is off.
        folders: folder of the cache -> the first line that names it.
        aot_folders: the same for functions that were compiled ahead of time; these ignore
            `compilation_config.cache_dir`.
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
    """One start of a server.

    Attributes:
        source: what stands in front of its lines; may be empty.
        number: how many starts of this source the log holds up to this one.
        first: number of its first line.
        last: number of its last line that was understood.
        engines: its engines, in the order of their lines.
        servers: the processes that printed the arguments of the launch.
        launch_flag: what those arguments say of the flag.
        architecture: the class that vLLM runs for the model; None if no line says it.
        cache: what it did with the compile cache.
        failed: number of the line that says an engine failed, before the server was told to shut down.
        stopped: number of the line that says the server shuts down.
        stranger: number of a line of another server, whose own start is not in the log.
        replaced: model as given -> the local path that vLLM put in its place.
        standing: whether it runs beside others that nothing tells apart from it.
    """

    source: str = ""
    number: int = 1
    first: int = 0
    last: int = 0
    engines: tuple[Engine, ...] = ()
    servers: tuple[Process, ...] = ()
    launch_flag: FlagValue = FlagValue.UNSAID
    architecture: str | None = None
    cache: CacheUse = field(default_factory=CacheUse)
    failed: int | None = None
    stopped: int | None = None
    stranger: int | None = None
    replaced: dict[str, str] = field(default_factory=dict)
    standing: Standing = Standing.ALONE

    @property
    def processes(self) -> frozenset[Process]:
        """Those that are known to belong to it."""
        return frozenset((*self.servers, *(engine.process for engine in self.engines)))

    @property
    def has_ended(self) -> bool:
        """Whether a line says that nothing of it runs."""
        return self.failed is not None or self.stopped is not None


@dataclass(frozen=True)
class ServerLog:
    """What a whole log says.

    Attributes:
        starts: of each source the starts that may still run, oldest first; of those that ended, only the last of all.
        lines: how many lines were read.
        cut: a limit was reached, so that something is missing.
    """

    starts: tuple[Start, ...]
    lines: int
    cut: bool = False

    @property
    def hits(self) -> int:
        """Lines of these starts that say compiled code was loaded."""
        return sum(start.cache.hits for start in self.starts)

    @property
    def misses(self) -> int:
        """Lines of these starts that say it was made."""
        return sum(start.cache.misses for start in self.starts)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of these starts."""
        return tuple(engine for start in self.starts for engine in start.engines)


def read_server_log(lines: Iterable[str]) -> ServerLog:
    """Read a log line by line; any text is a log, if one that says nothing."""
    sources: dict[str, _Source] = {}
    number, cut = 0, False
    for number, line in enumerate(lines, 1):
        for piece in line.split("\r"):  # progress bars stay on their line
            recognised = _recognised(piece)
            if recognised is None:
                continue
            event, log_message = recognised
            name = log_message.source
            if name not in sources and len(sources) == MAX_SOURCES:
                cut = True
                continue
            sources.setdefault(name, _Source(name)).read(event, log_message, number)
    starts = [start for source in sources.values() for start in source.result()]
    return ServerLog(tuple(starts), number, cut or any(source.is_cut for source in sources.values()))


def _recognised(piece: str) -> tuple[_Event, Message] | None:
    """What a line tells, and its message without the words of the sign; None if it tells nothing."""
    for sign in _SIGNS:
        if sign.words not in piece:
            continue
        for module in sign.modules:
            if (log_message := message(piece, sign.words, module)) is not None:
                return sign.event, replace(log_message, text=log_message.text.removeprefix(sign.words))
    return None


class _Source:
    """The starts of one source while a log is read.

    Attributes:
        starts: those that may still run, oldest first; the only one may have ended.
        is_cut: a limit was reached.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.starts: list[Start] = []
        self.is_cut = False
        self._number = 0
        self._ended: set[Process] = set()

    def read(self, event: _Event, log_message: Message, line: int) -> None:
        """Take one more line of this source."""
        process = log_message.process
        match event:
            case _Event.FAILED | _Event.STOPPED:
                index = self._index_of_ending(process, line)
            case _Event.ARGUMENTS:
                index = self._index_for_server(process, line)
            case _Event.ENGINE:
                index = self._index_for_engine(process, line)
            case _:
                index = self._index_of(process, line)
        if index is not None:
            self.starts[index] = _after(self.starts[index], event, log_message, line)
            self.is_cut = self.is_cut or len(self.starts[index].engines) == MAX_ENGINES
        self._forget_ended()

    def result(self) -> list[Start]:
        """The starts that may still run, each with its standing."""
        if len(self.starts) == 1:
            return self.starts
        newest = self.starts[-1]
        starts = []
        for start in self.starts:
            standing = Standing.MAYBE_OVER if start.last < newest.first else Standing.SHARED
            starts.append(replace(start, standing=standing))
        return starts

    def _open(self, line: int) -> int:
        """The index of a new start."""
        if len(self.starts) == MAX_STARTS:
            self.is_cut = True
            return MAX_STARTS - 1
        self._number += 1
        self.starts.append(Start(source=self.name, number=self._number, first=line, last=line))
        return len(self.starts) - 1

    def _index_for_server(self, process: Process, line: int) -> int:
        """Where the arguments of a launch belong: to a new start, unless one `vllm serve` has a server a rank."""
        if process in self._ended:  # pids repeat in this log, as in a container that was started again
            self._ended.clear()
        names = {server.name for server in self.starts[-1].servers} if self.starts else set()
        ranks = {process.name, *names}
        if names and process.name not in names and all(_RANK_SERVER.fullmatch(name) for name in ranks):
            return len(self.starts) - 1
        return self._open(line)

    def _index_for_engine(self, process: Process, line: int) -> int:
        """Where an engine belongs: to the last start that has none of its name yet, else to a new one.

        A start that ended takes the other engines of its server, but not a first one.
        """
        for index in reversed(range(len(self.starts))):
            start = self.starts[index]
            names = {engine.process.name for engine in start.engines}
            is_free = process.name not in names
            if is_free and (names or not start.has_ended):
                return index
        return self._open(line)

    def _index_of(self, process: Process, line: int) -> int | None:
        """Which start another line belongs to; None if its process ended before."""
        owners = self._owners(process)
        if owners:
            return owners[-1]
        if process in self._ended:
            return None
        if not self.starts:
            return self._open(line)
        if _is_stranger(self.starts[-1], process):
            self.starts[-1] = replace(self.starts[-1], stranger=line)
            return None
        return len(self.starts) - 1

    def _owners(self, process: Process) -> list[int]:
        return [index for index, start in enumerate(self.starts) if process in start.processes]

    def _index_of_ending(self, process: Process, line: int) -> int | None:
        """Which start a line ends; None if it may be of several starts."""
        index = self._index_of(process, line)
        candidates = self._owners(process) or range(len(self.starts))
        return index if len(candidates) == 1 else None

    def _forget_ended(self) -> None:
        """Drop the starts that ended before a later one.

        The last one stays: nothing says whether those before it still run.
        """
        for start in self.starts[:-1]:
            if start.has_ended:
                self.starts.remove(start)
                self._ended.update(start.processes)
        if len(self._ended) > MAX_ENGINES:
            self._ended.clear()


def _is_stranger(start: Start, process: Process) -> bool:
    """Whether a process cannot belong to a start, which has another one by this name."""
    if not process.pid or not _ONCE_A_SERVER.fullmatch(process.name):
        return False
    return process.name in {other.name for other in start.processes} and process not in start.processes


def _after(start: Start, event: _Event, log_message: Message, line: int) -> Start:
    """What is known of a start after one more line of it."""
    start = replace(start, last=line)
    handler = _HANDLERS.get(event)
    if handler is None:
        return replace(start, cache=_used(start.cache, event, log_message.text, line))
    return handler(start, log_message, line)


def _with_server(start: Start, log_message: Message, _: int) -> Start:
    flag = launch_flag(log_message.text)
    if start.servers and flag is not start.launch_flag:
        flag = FlagValue.UNSAID
    return replace(start, servers=(*start.servers, log_message.process)[:MAX_ENGINES], launch_flag=flag)


def _with_engine(start: Start, log_message: Message, line: int) -> Start:
    engine = Engine(start.source, log_message.process, line, engine_config(log_message.text))
    return replace(start, engines=(*start.engines, engine)[:MAX_ENGINES])


def _with_ready_engine(start: Start, log_message: Message, line: int) -> Start:
    return replace(start, engines=tuple(_ready(engine, log_message.process, line) for engine in start.engines))


def _ready(engine: Engine, process: Process, line: int) -> Engine:
    return replace(engine, ready=line) if engine.process == process and engine.ready is None else engine


def _failed(start: Start, _: Message, line: int) -> Start:
    """What engines say while their server shuts down is about its end, not about the start."""
    if start.stopped is not None:
        return start
    return replace(start, failed=start.failed or line)


def _stopped(start: Start, _: Message, line: int) -> Start:
    return replace(start, stopped=start.stopped or line)


def _with_replacement(start: Start, log_message: Message, _: int) -> Start:
    match = _REPLACEMENT.match(log_message.text)
    if match is None or len(start.replaced) == MAX_FOLDERS:
        return start
    return replace(start, replaced={**start.replaced, match[1]: match[2]})


def _with_architecture(start: Start, log_message: Message, _: int) -> Start:
    """The first one counts: a draft model has its own line behind it."""
    name = log_message.text.strip()
    if start.architecture is not None or not _ARCHITECTURE.fullmatch(name):
        return start
    return replace(start, architecture=name)


_HANDLERS: dict[_Event, Callable[[Start, Message, int], Start]] = {
    _Event.ARGUMENTS: _with_server,
    _Event.ENGINE: _with_engine,
    _Event.READY: _with_ready_engine,
    _Event.FAILED: _failed,
    _Event.STOPPED: _stopped,
    _Event.REPLACED: _with_replacement,
    _Event.ARCHITECTURE: _with_architecture,
}
"""What a line tells of a start -> how the start changes; all others tell of the compile cache."""


def _used(cache: CacheUse, event: _Event, text: str, line: int) -> CacheUse:
    """What is known of the cache after one more line about it."""
    cache = replace(cache, line=cache.line or line)
    match event:
        case _Event.OFF:
            return replace(cache, off=cache.off or line)
        case _Event.FOLDER:
            folder = text.removesuffix(" for vLLM's torch.compile")
            return replace(cache, folders=_with(cache.folders, folder, line))
        case _Event.LOADED:
            return replace(cache, hits=cache.hits + 1)
        case _Event.COMPILED:
            return replace(cache, misses=cache.misses + 1)
        case _Event.AOT_LOADED:
            return replace(cache, hits=cache.hits + 1, aot_folders=_with(cache.aot_folders, text, line))
        case _:
            path = text.partition(": ")[0] if event is _Event.AOT_UNSAVED else text
            return replace(cache, misses=cache.misses + 1, aot_folders=_with(cache.aot_folders, path, line))


def _with(folders: dict[str, int], path: str, line: int) -> dict[str, int]:
    """The folders and one more: the path without what names a rank in it."""
    folder = _RANK.sub("", path)
    if folder in folders or len(folder) > MAX_VALUE or len(folders) == MAX_FOLDERS:
        return folders
    return {**folders, folder: line}
