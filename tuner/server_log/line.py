"""One line of a server's log: who wrote it, from which file, and what it says. Pure.

vLLM's own format is `(EngineCore pid=7) INFO 01-20 10:00:00 [core.py:105] message`: the parentheses only where a
process has a name, ANSI colours on a terminal, the file's folder at the level DEBUG (vllm/logger.py and
vllm/logging_utils/formatter.py; read in 0.19.1, 0.26.0 and 0.32.0). `--logging-config.formatter json` (0.32.0)
and most configurations for VLLM_LOGGING_CONFIG_PATH write one JSON object a line instead. Others put their own words in
front: the time, journald's host and unit, Ray's worker, `kubectl logs --prefix` and compose their source; Docker's
files wrap the line.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_LINE = 1 << 20
"""Characters of a line that are read; the engine's line has about 5,000."""
_PREFIX_LIMIT = 400
"""Characters before a message that are searched for its file; vLLM's own prefix has about 90."""

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SOURCE = re.compile(r"\s*(?:\[(?P<pod>pod/[^\]\s]{1,300})\]\s|(?P<service>[\w.-]{1,100})\s+\|\s)")
_PROCESS = re.compile(r"\((\w[\w .:-]{0,99}?) pid=\d+[^()]{0,99}\)")
_FILE = re.compile(r"\[(?:[\w.-]+/)*(\w+)\.py:\d+\] (?:\[[\w.:-]{1,99}\] )?$")
_TAG = re.compile(r"\[[\w.:-]{1,99}\] ")
_MESSAGE_KEYS = ("message", "msg", "event")
_PROCESS_KEYS = ("vllm_process_name", "processName")
"""vLLM's own name of a process (0.32.0), and the one of Python's logging."""
_WRAPPED_KEYS = ("log", "MESSAGE")
"""Docker's json-file driver, and `journalctl -o json`."""


@dataclass(frozen=True)
class Message:
    """What a line says, if it says it in vLLM's name.

    Attributes:
        text: from the words that were looked for to the end of the line.
        process: the name of the process, such as `EngineCore_DP0`; empty if the line has none.
        source: the pod or service in front of the line; empty if the log is of one.
    """

    text: str
    process: str
    source: str


def message(line: str, start: str, module: str) -> Message | None:
    """The message that begins with some words and was logged by a module; None if the line has no such message.

    Words inside a message do not count, such as a prompt that a server logs: they must follow the file's name at once,
    or begin the message of a JSON object.

    Args:
        line: one line of a log.
        start: the words.
        module: the last part of the module's name, `core` for vllm/v1/engine/core.py.
    """
    if start not in line:
        return None
    line = _ESCAPE.sub("", line[:MAX_LINE])
    match = _SOURCE.match(line)
    source = (match["pod"] or match["service"]) if match else ""
    body = line[match.end() :] if match else line
    if body.lstrip().startswith("{"):
        return _structured(body, start, module, source)
    return _plain(body, start, module, source)


def _plain(body: str, start: str, module: str, source: str) -> Message | None:
    index = body.find(start)
    before = body[max(0, index - _PREFIX_LIMIT) : max(0, index)]
    file = _FILE.search(before)
    if index < 0 or file is None or file[1] != module:
        return None
    process = _PROCESS.search(before)
    return Message(body[index:].rstrip(), process[1] if process else "", source)


def _structured(body: str, start: str, module: str, source: str) -> Message | None:
    """A JSON object: vLLM's message itself, or a whole line that a runtime wrapped."""
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    for key in _WRAPPED_KEYS:
        if isinstance(record.get(key), str):
            return _plain(_ESCAPE.sub("", record[key]), start, module, source)
    text = next((record[key] for key in _MESSAGE_KEYS if isinstance(record.get(key), str)), "")
    text = text[tag.end() :] if (tag := _TAG.match(text)) else text
    if not text.startswith(start) or not _logged_by(record, module):
        return None
    process = next((record[key] for key in _PROCESS_KEYS if isinstance(record.get(key), str)), "")
    return Message(text.rstrip(), process, source)


def _logged_by(record: Mapping[str, Any], module: str) -> bool:
    """Whether a JSON object names this module, or none."""
    logger = record.get("name") or record.get("logger") or ""
    return not logger or (isinstance(logger, str) and logger.startswith("vllm") and logger.endswith(f".{module}"))
