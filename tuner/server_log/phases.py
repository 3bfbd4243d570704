"""How long the phases of a server's start took, by its own log. Pure: lines in, facts out, in bounded memory.

A phase counts only if vLLM itself states its seconds, in the words of the module that measures them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tuner.server_log.clock import stated_time
from tuner.server_log.engine_line import MAX_VALUE, engine_config
from tuner.server_log.line import Message, message

MAX_STARTS, MAX_PHASES = 32, 256
"""Starts of a log, and phases of a start, that are kept."""


@dataclass(frozen=True)
class _Sign:
    """A line that states the seconds of a phase.

    Attributes:
        name: of the phase, in words.
        words: the line begins with them.
        modules: that log it.
        seconds: finds the number behind the words.
        within: name of the phase that it is a part of; empty for one that is not.
    """

    name: str
    words: str
    modules: tuple[str, ...]
    seconds: re.Pattern[str]
    within: str = ""


_FIRST = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?s")
_BEHIND_AND = re.compile(r".{1,60} and (\d{1,9}\.\d{1,9}) s")
_BEHIND_TAKES = re.compile(r".{1,80} (?:takes|took) (\d{1,9}\.\d{1,9}) s")
_LOAD, _PREPARE = "load the model", "prepare the engine"
_OF_LOADERS = ("default_loader", "sharded_state_loader")
_OF_RUNNERS = ("gpu_model_runner", "model_runner")
_PREFETCHED = "Prefetching checkpoint files into page cache finished in "
_PREPARED = "init engine (profile, create kv cache, warmup model) took "
_COMPILED = "Compiling a graph for "
_LOADED = "Directly load the compiled graph(s) for "
_SIGNS = (
    _Sign("fetch checkpoint files", _PREFETCHED, ("weight_utils",), _FIRST, _LOAD),
    _Sign("build the model", "Initializing model took ", ("base_loader",), _FIRST, _LOAD),
    _Sign("read weights", "Loading weights took ", _OF_LOADERS, _FIRST, _LOAD),
    _Sign(_LOAD, "Model loading took ", _OF_RUNNERS, _BEHIND_AND),
    _Sign("trace with Dynamo", "Dynamo bytecode transform time: ", ("backends",), _FIRST, _PREPARE),
    _Sign("compile graphs", _COMPILED, ("backends",), _BEHIND_TAKES, _PREPARE),
    _Sign("load compiled graphs", _LOADED, ("backends",), _BEHIND_TAKES, _PREPARE),
    _Sign("torch.compile in all", "torch.compile took ", ("monitor",), _FIRST, _PREPARE),
    _Sign("profile run", "Initial profiling/warmup run took ", ("monitor",), _FIRST, _PREPARE),
    _Sign("capture CUDA graphs", "Graph capturing finished in ", _OF_RUNNERS, _FIRST, _PREPARE),
    _Sign("warm up kernels", "JIT kernel warmup finished in ", ("kernel_warmup",), _FIRST, _PREPARE),
    _Sign(_PREPARE, _PREPARED, ("core",), _FIRST),
)
"""Read in 0.19.1, 0.26.0 and 0.32.0.

Files: vllm/model_executor/model_loader/, v1/worker/gpu_model_runner.py and gpu/model_runner.py, compilation/backends.py
and monitor.py, model_executor/warmup/kernel_warmup.py, v1/engine/core.py.
"""
_ARGUMENTS = ("non-default args: ", ("api_utils", "utils"))
_ENGINE = ("Initializing a V1 LLM engine (v", ("core",))
_LISTENING = ("Starting vLLM server on ", ("api_server", "entry"))


@dataclass(frozen=True)
class Phase:
    """A phase whose seconds the log states.

    Attributes:
        name: in words.
        seconds: how long it took.
        ended: the time of its line, as `stated_time` has it; None if the line states none.
        process: the name of the process; may be empty.
        line: number of its line, counted from 1.
        within: name of the phase that it is a part of; empty for one that is not.
    """

    name: str
    seconds: float
    ended: float | None
    process: str
    line: int
    within: str


@dataclass
class LoggedStart:
    """One start of a server.

    Attributes:
        source: what stands in front of its lines; may be empty.
        first: number of its first line that was understood.
        begun: the time of that line; None if it states none.
        engine: the time at which the first engine says with what it runs; None if no line states it.
        listening: the time at which the server listens; None if no line states it.
        vllm: version of vLLM; empty if no line says it.
        model: the model as vLLM loads it; empty if no line says it.
        servers: names of the processes that printed the arguments of the launch.
        engines: names of its engines.
        phases: all, in the order of their lines.
        loaded: lines that say compiled code came from the cache.
        compiled: lines that say it was made.
        cut: phases were left out.
    """

    source: str
    first: int
    begun: float | None
    engine: float | None = None
    listening: float | None = None
    vllm: str = ""
    model: str = ""
    servers: list[str] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    loaded: int = 0
    compiled: int = 0
    cut: bool = False


def read_phases(lines: Iterable[str]) -> tuple[list[LoggedStart], bool]:
    """The starts that a log tells, in the order of their first lines; and whether some were left out."""
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        for piece in line.split("\r"):  # progress bars stay on their line
            reader.read(piece, number)
    return reader.starts, reader.is_cut


class _Reader:
    """The starts of a log while it is read."""

    def __init__(self) -> None:
        self.starts: list[LoggedStart] = []
        self.is_cut = False
        self._last: dict[str, LoggedStart] = {}

    def read(self, piece: str, number: int) -> None:
        """Take one more line."""
        if (arguments := _message_of(piece, *_ARGUMENTS)) is not None:
            self._server(arguments, piece, number)
        elif (engine := _message_of(piece, *_ENGINE)) is not None:
            self._engine(engine, piece, number)
        elif (listening := _message_of(piece, *_LISTENING)) is not None:
            start = self._last.get(listening.source)
            if start is not None and start.listening is None:
                start.listening = stated_time(piece)
        else:
            self._phase(piece, number)

    def _server(self, launch: Message, piece: str, number: int) -> None:
        """The arguments of a launch begin a start; those of a further server of the same start do not."""
        start = self._last.get(launch.source)
        if start is None or start.engines or launch.process.name in start.servers:
            start = self._open(launch.source, piece, number)
        if start is not None:
            start.servers.append(launch.process.name)

    def _engine(self, engine: Message, piece: str, number: int) -> None:
        start = self._last.get(engine.source)
        if start is None or engine.process.name in start.engines:
            start = self._open(engine.source, piece, number)
        if start is None:
            return
        if not start.engines:
            config = engine_config(engine.text)
            start.engine, start.vllm, start.model = stated_time(piece), config.vllm or "", config.model or ""
        start.engines.append(engine.process.name)

    def _phase(self, piece: str, number: int) -> None:
        for sign in _SIGNS:
            phase = _message_of(piece, sign.words, sign.modules)
            seconds = sign.seconds.match(phase.text) if phase is not None else None
            if phase is None or seconds is None:
                continue
            start = self._last.get(phase.source) or self._open(phase.source, piece, number)
            if start is not None:
                ended = stated_time(piece)
                _add(start, Phase(sign.name, float(seconds[1]), ended, phase.process.name, number, sign.within))
                start.compiled += sign.words == _COMPILED
                start.loaded += sign.words == _LOADED

    def _open(self, source: str, piece: str, number: int) -> LoggedStart | None:
        if len(self.starts) == MAX_STARTS:
            self.is_cut = True
            self._last.pop(source, None)
            return None
        start = LoggedStart(source, number, stated_time(piece))
        self.starts.append(start)
        self._last[source] = start
        return start


def _message_of(piece: str, words: str, modules: tuple[str, ...]) -> Message | None:
    """The message that begins with these words, without them; None if the line is another one."""
    if words not in piece:
        return None
    for module in modules:
        whole = message(piece, words, module)
        if whole is not None:
            return Message(whole.text[len(words) :][:MAX_LENGTH], whole.process, whole.source)
    return None


def _add(start: LoggedStart, phase: Phase) -> None:
    if len(start.phases) == MAX_PHASES:
        start.cut = True
    else:
        start.phases.append(phase)


MAX_LENGTH = MAX_VALUE * 16
"""Characters of a message that are looked at; the engine's line has about 5,000."""
