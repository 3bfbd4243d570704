"""One line of a server's log: who wrote it, from which file, and what it says. Pure.

vLLM's own format is `(EngineCore pid=7) INFO 01-20 10:00:00 [core.py:105] message`: the parentheses only where a
process has a name, ANSI colours on a terminal, the file's folder at the level DEBUG (vllm/logger.py and
vllm/logging_utils/formatter.py; read in 0.19.1, 0.26.0 and 0.32.0). `--logging-config.formatter json` (0.32.0)
and most configurations for VLLM_LOGGING_CONFIG_PATH write one JSON object a line instead. Dynamo gives vLLM a handler
of its own, which writes `2026-01-20T10:00:00.1Z  INFO core.__init__: message`, or JSON with the same two names
(lib/bindings/python/src/dynamo/runtime/logging.py of ai-dynamo/dynamo, and its page on logging).

Others put their own words in front: the time, journald's host and unit, Ray's actor, `kubectl logs --prefix` and
compose their source. Log stores wrap a line into a JSON object.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_LINE = 1 << 20
"""Characters of a line that are read; the engine's line has about 5,000."""
MAX_SOURCE = 1000
"""Characters of the name of a source."""
_MAX_FRONT = 2000
"""Characters before a message; vLLM's own prefix has about 90."""
_MAX_FRONTS = 12
"""Words of others in front of one line."""
_MAX_WRAPPINGS = 3
"""JSON objects around one line."""

_ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[0-9;?]*[A-Za-z]")
_SPELT_ESCAPE = r"\^\[|#033|&#27;|\\(?:x1b|u001b|033|e)|<(?:ESC|0x1b)>|\u241b|\u2190|\ufffd"
_LOST_ESCAPE = re.compile(rf"(?:{_SPELT_ESCAPE})?\[[0-9;]{{1,20}}m", re.IGNORECASE)
"""A colour whose ESC byte was dropped or spelt out, as in pasted, exported and `cat -v` logs."""
_LOST_AT_END = re.compile(rf"{_LOST_ESCAPE.pattern}\Z", re.IGNORECASE)
_LONGEST_LOST = 30
"""Characters of such a colour."""
_ACTOR = r"\((?:(?P<name>[^()\s][^()]{0,149}?) )?pid=(?P<pid>\d{1,10})(?:, [^()]{1,199})?\)"
_PROCESS = re.compile(_ACTOR)
_FRONT = re.compile(
    r"\s*(?:"
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]{0,12}(?:Z|[+-]\d\d:?\d\d)?(?:\s+std(?:out|err) [FP])?(?=\s)"
    r"|\[(?P<pod>pod/[^\]\s]{1,300})\](?=\s)"
    r"|(?P<service>[\w.-]{1,100})\s{1,99}\|(?=\s)"
    r"|(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?(?P<unit>[\w.-]{1,255} [\w@.:\\-]{1,255})\[\d{1,10}\]:(?=\s)"
    r"|\{(?P<labels>\w{1,99}=\"[^{}]{0,999}\")\}(?=\s)"
    rf"|{_ACTOR}(?=\s)"
    r")\s*"
)
"""One thing that others put in front: a time, with the stream of a container runtime; a pod of kubectl; a service of
compose; journald's host and unit; the labels of Loki's `logcli`; a process or an actor."""
_OF_VLLM = re.compile(r"(?:\w*EngineCore|APIServer|ApiServer|\w*Worker|DPCoordinator|DPSupervisor|MainProcess)\w*")
"""Names of vLLM's own processes and actors; an actor of another name holds a whole server."""
_ENGINE_ACTOR = re.compile(r"\w*EngineCoreActor")
"""Actors of Ray that are engines; all of one server have one name (vllm/v1/engine/core.py)."""
_ANY_FILE = re.compile(r"\[(?:[\w.-]+/)*(\w+)\.py:\d+\] ")
_FILE = re.compile(_ANY_FILE.pattern + r"(?:\[[\w.:-]{1,99}\] )?$")
_FUNCTION = re.compile(r"\s*(?:TRACE|DEBUG|INFO|WARN|ERROR)\s+(\w{1,99})(?:\.[\w<>]{1,99})?: (?:\[[\w.:-]{1,99}\] )?")
"""Dynamo's module and function."""
_TAG = re.compile(r"\[[\w.:-]{1,99}\] ")
_TEXT_KEYS = ("log", "MESSAGE", "line", "textPayload", "@message", "LogMessage", "message", "msg", "event")
"""A whole line: Docker's json-file driver and Fluent Bit, `journalctl -o json`, Loki, Google Cloud, CloudWatch, Azure.
A message alone: vLLM's JSON formatter, Dynamo, structlog."""
_PROCESS_KEYS = ("vllm_process_name", "processName")
"""vLLM's own name of a process (0.32.0), and the one of Python's logging."""
_PID_KEYS = ("process", "pid")
_SOURCE_KEYS = (
    *("pod", "pod_name", "PodName", "container_name", "CONTAINER_NAME", "@logStream", "logStreamName"),
    *("_HOSTNAME", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER"),
)
_LABEL_KEYS = ("kubernetes", "labels", "resource")
"""Objects of a wrapped line that hold such keys."""


@dataclass(frozen=True)
class Process:
    """A process of a server.

    Attributes:
        name: such as `EngineCore_DP0`; empty if the line has none.
        pid: its number, which repeats in each container; empty if the line has none.
    """

    name: str = ""
    pid: str = ""


@dataclass(frozen=True)
class Message:
    """What a line says, if it says it in vLLM's name.

    Attributes:
        text: from the words that were looked for to the end of the line.
        process: who wrote it.
        source: the pod, service, unit or actor of Ray in front of the line; empty if nothing is.
    """

    text: str
    process: Process
    source: str


@dataclass(frozen=True)
class _Look:
    """What is looked for: a message that begins with `words`, logged by `module`."""

    words: str
    module: str


@dataclass(frozen=True)
class _Front:
    """What stands in front of a line.

    Attributes:
        sources: pods, services, units and labels.
        actors: the inside of each `(NAME pid=N, ip=…)`.
        end: where the line itself begins.
    """

    sources: tuple[str, ...]
    actors: tuple[str, ...]
    end: int


_OWN_FRONT = re.compile(
    rf"(?:{_ACTOR} )?(?:(?:TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d )(?:{_ANY_FILE.pattern})?"
)
"""vLLM's own words in front of a message."""


def without_front(line: str) -> str:
    """A line without the process, the level, the time and the file that vLLM writes in front; any other as it is."""
    return line[front.end() :] if (front := _OWN_FRONT.match(line)) else line


def message(line: str, words: str, module: str) -> Message | None:
    """The message that begins with some words and was logged by a module; None if the line has no such message.

    Words inside a message do not count, such as a prompt that a server logs: they must follow the first name of a file
    at once, or begin the message of a JSON object.

    Args:
        line: one line of a log.
        words: the words.
        module: the last part of the module's name, `core` for vllm/v1/engine/core.py.
    """
    if words not in line:
        return None
    return _message(line[:MAX_LINE], _Look(words, module), _Front((), (), 0), _MAX_WRAPPINGS)


def _message(text: str, look: _Look, outside: _Front, wrappings: int) -> Message | None:
    """As `message`; `outside` is what stands in front of the objects that this text was wrapped into."""
    text = _ESCAPE.sub("", text)
    at = text.find(look.words)
    if at < 0:
        return None
    head = _LOST_ESCAPE.sub("", text[:at])
    body = head + _without_colour_at_end(text[at:].rstrip())
    front = _front(body)
    front = _Front(outside.sources + front.sources, outside.actors + front.actors, front.end)
    if body.startswith("{", front.end):
        return _structured(body[front.end :], look, front, wrappings)
    return _plain(head, body, look, front)


def _without_colour_at_end(text: str) -> str:
    match = _LOST_AT_END.search(text, max(0, len(text) - _LONGEST_LOST))
    return text[: match.start()] if match else text


def _front(body: str) -> _Front:
    sources: list[str] = []
    actors: list[str] = []
    end = 0
    for _ in range(_MAX_FRONTS):
        match = _FRONT.match(body, end)
        if match is None:
            break
        sources += [match[name] for name in ("pod", "service", "unit", "labels") if match[name]]
        if match["pid"]:
            actors.append(match[0].strip()[1:-1])
        end = match.end()
    return _Front(tuple(sources), tuple(actors), end)


def _plain(head: str, body: str, look: _Look, front: _Front) -> Message | None:
    """A line of vLLM's own format, or of Dynamo's; `head` is what stands before the words."""
    if len(head) > _MAX_FRONT or _module(head, front.end) != look.module:
        return None
    behind_others = head[front.end :]  # such as a progress bar without an end of line
    actors = [*front.actors, *(match[0][1:-1] for match in _PROCESS.finditer(behind_others))]
    return Message(body[len(head) :].rstrip(), _process(actors), _source(front.sources, actors))


def _module(head: str, begin: int) -> str | None:
    """The module that logged a plain line; None if the words do not follow its name at once.

    A second name of a file before the words belongs to the text of somebody else, such as a prompt.
    """
    file = _FILE.search(head)
    if file is not None:
        first = _ANY_FILE.search(head)
        return file[1] if first is not None and first.start() == file.start() else None
    function = _FUNCTION.fullmatch(head, begin)
    return function[1] if function else None


def _structured(body: str, look: _Look, front: _Front, wrappings: int) -> Message | None:
    """A JSON object: vLLM's message itself, or a whole line that was wrapped."""
    record = _record(body)
    texts = [record[key] for key in _TEXT_KEYS if isinstance(record.get(key), str)]
    for text in texts:
        tag = _TAG.match(text)
        own = text[tag.end() :] if tag else text
        if own.startswith(look.words):
            return _own_message(own, record, look, front)
    if not wrappings or _logger(record).startswith("vllm."):
        return None
    outside = _Front((*front.sources, *_labels(record)), front.actors, 0)
    for text in texts:
        if look.words in text:
            return _message(text, look, outside, wrappings - 1)
    return None


def _own_message(text: str, record: Mapping[str, Any], look: _Look, front: _Front) -> Message | None:
    """The message of a JSON object that vLLM's or Dynamo's formatter wrote; `text` is that message."""
    if not _is_logged_by(record, look.module):
        return None
    actors = list(front.actors)
    name = next((record[key] for key in _PROCESS_KEYS if isinstance(record.get(key), str)), "")
    pid = next((record[key] for key in _PID_KEYS if type(record.get(key)) is int), "")
    if name:
        actors.append(f"{name} pid={pid}")
    process = _process(actors) if actors else Process("", str(pid))
    return Message(text.rstrip(), process, _source((*front.sources, *_labels(record)), actors))


def _record(body: str) -> Mapping[str, Any]:
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _logger(record: Mapping[str, Any]) -> str:
    logger = record.get("name") or record.get("logger")
    return logger if isinstance(logger, str) else ""


def _is_logged_by(record: Mapping[str, Any], module: str) -> bool:
    """Whether a JSON object names this module, as a logger of vLLM's or as Dynamo's target; or names none."""
    logger = record.get("name") or record.get("logger")
    if logger:
        return isinstance(logger, str) and logger.startswith("vllm") and logger.endswith(f".{module}")
    target = record.get("log.target") or record.get("target")
    return not target or (isinstance(target, str) and target.partition(".")[0] == module)


def _labels(record: Mapping[str, Any]) -> Iterator[str]:
    """What a wrapped line says of its source."""
    places = [record]
    for key in _LABEL_KEYS:
        inside = record.get(key)
        if isinstance(inside, dict):
            places += [inside, inside["labels"]] if isinstance(inside.get("labels"), dict) else [inside]
    for place in places:
        yield from (place[key] for key in _SOURCE_KEYS if isinstance(place.get(key), str))


def _process(actors: list[str]) -> Process:
    """The process of a line: the last one in front of the file, or the actor of Ray that is the engine.

    Such actors have one name, so that the pid is taken into it.
    """
    engine = next((actor for actor in reversed(actors) if _ENGINE_ACTOR.match(actor)), None)
    if engine is not None:
        return Process(engine, _pid(engine))
    if not actors:
        return Process()
    return Process(actors[-1].partition("pid=")[0].strip(), _pid(actors[-1]))


def _pid(actor: str) -> str:
    return actor.partition("pid=")[2].partition(",")[0]


def _source(sources: tuple[str, ...], actors: list[str]) -> str:
    """Everything in front that tells one server from another: all but the process itself and vLLM's own."""
    servers = [actor for actor in actors[:-1] if not _OF_VLLM.match(actor)]
    return " ".join(dict.fromkeys([*sources, *servers]))[:MAX_SOURCE]
