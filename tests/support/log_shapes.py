"""Shapes in which the log of a server reaches people, each with what must come of it.

The lines are those of real servers (`tests/server_logs`). What others put around them, and how the lines of several
servers and starts mix, is written here.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOGS = Path(__file__).parents[1] / "server_logs"
ENGINE, READY = "Initializing a V1 LLM engine", "init engine (profile"
TIME = "2026-01-01T00:00:00.123456789Z"
ESCAPE = "\x1b"
VLLM = re.compile(r"^(?:\(\w+ pid=\d+\) )?(?P<level>[A-Z]+) [\d-]+ [\d:]+ \[(?P<module>\w+)\.py:\d+\] ")


def decision(verdict: str | None = "uniform", flag: bool | None = True, status: str = "settable") -> dict[str, Any]:
    """The parts of a decision's document that are compared, for the recorded servers."""
    inert = status == "inert"
    return {
        "schema_version": 2,
        "model": {
            "name": "/srv/current" if inert else "/srv/flag-live",
            "architecture": "Qwen3MoeForCausalLM",
            "model_impl": "auto",
        },
        "environment": {"vllm": "0.32.0" if inert else "0.19.1", "flag_status": status},
        "verdict": verdict,
        "launch": {
            "compilation_config": {} if flag is None else {"fast_moe_cold_start": flag},
            "env": {},
            "args": ["/srv/flag-live", "--enforce-eager"],
        },
        "refusal": "none",
    }


ON, OFF, UNSAFE = decision(), decision(None, flag=False), decision("conditional", flag=False)
INERT = decision(flag=None, status="inert")
Lines = list[str]


def of(name: str) -> Lines:
    """The lines of a recorded log."""
    return (LOGS / f"{name}.log").read_bytes().decode().removesuffix("\n").split("\n")


RIGHT, WRONG, FAILED = of("0.19.1-true"), of("0.19.1-false-colour"), of("0.19.1-ngram-failed")
JSON, FORCED = of("0.32.0-json"), of("0.32.0-true")


def at(lines: Lines, words: str) -> int:
    """Index of the first line with these words."""
    return next(index for index, line in enumerate(lines) if words in line)


def front(text: str) -> Callable[[Lines], Lines]:
    """Text in front of each line."""
    return lambda lines: [text + line for line in lines]


def around(before: str, behind: str) -> Callable[[Lines], Lines]:
    """Text in front of each line and behind it."""
    return lambda lines: [before + line + behind for line in lines]


def wrapped(**record: object) -> Callable[[Lines], Lines]:
    """Each line in a JSON object, at the place that says `LINE`."""
    return lambda lines: [
        json.dumps({key: line if value == "LINE" else value for key, value in record.items()}) for line in lines
    ]


def coloured(escape: str) -> Callable[[Lines], Lines]:
    """Colours where vLLM has them, with that in place of the ESC byte."""

    def paint(line: str) -> str:
        line = re.sub(r"^(\(\w+ pid=\d+\)) ", ESCAPE + r"[0;36m\1" + ESCAPE + "[0;0m ", line)
        line = re.sub(r"\b(INFO|WARNING|ERROR) ", ESCAPE + r"[32m\1" + ESCAPE + "[0m ", line, count=1)
        line = re.sub(r"(\[\w+\.py:\d+\]) ", ESCAPE + r"[90m\1" + ESCAPE + "[0m ", line, count=1)
        return line.replace(ESCAPE, escape)

    return lambda lines: [paint(line) for line in lines]


def without_names(lines: Lines) -> Lines:
    """As a vLLM that was told not to set up its logging."""
    return [re.sub(r"^\(\w+ pid=\d+\) ", "", line) for line in lines]


def dynamo(lines: Lines) -> Lines:
    """Dynamo's format: the time, the level, the module and the function."""
    return [VLLM.sub(rf"{TIME}  \g<level> \g<module>.call: ", line) for line in lines]


def dynamo_json(lines: Lines) -> Lines:
    """Dynamo's JSON format."""
    records = []
    for line in lines:
        if match := VLLM.match(line):
            target = {"target": "log", "log.target": f"{match['module']}.call"}
            records.append({"time": TIME, "level": match["level"], "message": line[match.end() :], **target})
    return [json.dumps(record) for record in records]


def renumbered(lines: Lines, by: int = 500) -> Lines:
    """The same server with other numbers of processes."""
    return [re.sub(r"(?<=pid=)\d+", lambda match: str(int(match[0]) + by), line) for line in lines]


def woven(first: Lines, second: Lines) -> Lines:
    """Two logs, line by line in turn."""
    pairs = [line for pair in zip(first, second, strict=False) for line in pair]
    shorter = min(len(first), len(second))
    return [*pairs, *first[shorter:], *second[shorter:]]


def ranks(first: Lines, second: Lines) -> Lines:
    """One server with a second engine: the engine's lines of another log under the name of rank 4."""
    mine = [line.replace("(EngineCore ", "(EngineCore_DP0 ") for line in first]
    other = [line.replace("(EngineCore ", "(EngineCore_DP4 ") for line in renumbered(second) if "(EngineCore " in line]
    begin = at(mine, ENGINE) + 1
    return [*mine[:begin], *woven(mine[begin:], other)]


def supervised(lines: Lines) -> Lines:
    """`vllm serve` with a server a rank: two servers and their engines, of one start (vLLM 0.32.0)."""
    both = []
    for rank, by in ((0, 0), (1, 40)):
        named = [line.replace("(EngineCore ", f"(EngineCore_DP{rank} ") for line in renumbered(lines, by)]
        both.append([line.replace("(APIServer ", f"(APIServer_DP{rank} ") for line in named])
    return woven(*both)


def plain(lines: Lines) -> Lines:
    """Without colours."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


STOPPED = [
    *RIGHT,
    "(EngineCore pid=101) INFO 01-01 00:00:00 [core.py:1210] Shutdown initiated (timeout=0)",
    "(APIServer pid=100) INFO 01-01 00:00:00 [launcher.py:137] Shutting down FastAPI HTTP server.",
]
"""As 0.19.1 says it."""
STOPPED_WRONG = [*plain(WRONG), *STOPPED[-2:]]
DEAD = [*RIGHT, "(EngineCore pid=101) ERROR 01-01 00:00:00 [core.py:1110] EngineCore encountered a fatal error."]
RAY = "(ServeReplica:llm:LLMServer pid={pid}, ip=10.0.0.5) "
SWITCHED = [line.replace("'fast_moe_cold_start': True", "'fast_moe_cold_start': False") for line in RIGHT]
CUT = [line[: len(line) // 2] if ENGINE in line else line for line in RIGHT]
ONE_RAY, OTHER_RAY = front(RAY.format(pid=5)), front(RAY.format(pid=6))
POD_A, POD_B = front("[pod/llm-a/vllm] "), front("[pod/llm-b/vllm] ")
ENGINE_LINE, READY_LINE = without_names([RIGHT[at(RIGHT, ENGINE)], RIGHT[at(RIGHT, READY)]])
ACTORS = [
    *RIGHT[: at(RIGHT, ENGINE)],
    f"(DPMoEEngineCoreActor pid=7, ip=10.0.0.7) {ENGINE_LINE}",
    f"(DPMoEEngineCoreActor pid=8, ip=10.0.0.8) {ENGINE_LINE}",
    f"(DPMoEEngineCoreActor pid=7, ip=10.0.0.7) {READY_LINE}",
    f"(DPMoEEngineCoreActor pid=8, ip=10.0.0.8) {READY_LINE}",
]
SERVERS = ["(ApiServer_0 pid=103) INFO:     Started", "(ApiServer_1 pid=104) INFO:     Started"]

WRAPPINGS: dict[str, Callable[[Lines], Lines]] = {
    "as recorded": lambda lines: lines,
    "colours": coloured(ESCAPE),
    "colours that lost their ESC byte": coloured(""),
    "colours as `cat -v` prints them": coloured("^["),
    "colours as rsyslog prints them": coloured("#033"),
    "colours in JSON's spelling": coloured("\\u001B"),
    "colours in the shell's spelling": coloured("\\e"),
    "colours as an editor names them": coloured("<ESC>"),
    "colours as HTML has them": coloured("&#27;"),
    "colours as an old console of Windows prints them": coloured("\u2190"),
    "a colour around each line that lost its ESC byte": around("[38;5;12m", "[0m"),
    "a colour of one byte around each line": around("\x9b32m", "\x9b0m"),
    "kubectl --prefix": front("[pod/llm-0/vllm] "),
    "kubectl --timestamps": front(f"{TIME} "),
    "kubectl --prefix --timestamps": front(f"[pod/llm-0/vllm] {TIME} "),
    "docker logs -t": front("2026-01-01T00:00:00.123456789+01:00 "),
    "compose": front("vllm-1  | "),
    "compose in colours": front("\x1b[36mvllm-1  |\x1b[0m "),
    "compose --timestamps": front(f"vllm-1  | {TIME} "),
    "journald": front("Nov 28 12:00:00 node-1 vllm[123]: "),
    "journald, short-iso": front("2026-11-28T12:00:00+0000 node-1 vllm[123]: "),
    "journald, JSON": wrapped(MESSAGE="LINE", _HOSTNAME="node-1", _PID="123", _SYSTEMD_UNIT="vllm.service"),
    "docker's json-file": wrapped(log="LINE", stream="stderr", time=TIME),
    "containerd": front(f"{TIME} stdout F "),
    "Fluent Bit": wrapped(log="LINE", stream="stderr", kubernetes={"pod_name": "llm-0", "container_name": "vllm"}),
    "logcli": front(f'{TIME} {{pod="llm-0", container="vllm"}} '),
    "logcli, JSON": wrapped(labels={"pod": "llm-0"}, line="LINE", timestamp=TIME),
    "CloudWatch": wrapped(**{"@timestamp": TIME, "@message": "LINE", "@logStream": "vllm/vllm/1"}),
    "Google Cloud": wrapped(textPayload="LINE", resource={"type": "k8s", "labels": {"pod_name": "llm-0"}}),
    "Azure": wrapped(LogMessage="LINE", PodName="llm-0", LogSource="stderr"),
    "an actor of Ray": ONE_RAY,
    "an actor of Ray in colours": front("\x1b[36m(ServeReplica:llm:LLMServer pid=5, ip=10.0.0.5)\x1b[0m "),
    "an actor of Ray whose colours lost their ESC byte": front("[36m(vLLMHttpServer pid=5)[0m "),
    "a progress bar in front": front("Loading:  50% | 1/2"),
}
"""Each changes no line, so that nothing else may come of the log."""


@dataclass(frozen=True)
class Shape:
    """A log, what it is compared with, and what must come of it.

    Attributes:
        lines: the log.
        decision: the document of `--decision`.
        code: the exit code.
        says: a part of the output, as JSON.
        encode: the bytes of the file.
    """

    lines: Lines
    decision: dict[str, Any]
    code: int
    says: str = ""
    encode: Callable[[str], bytes] = str.encode


def bytes_of(encoding: str, mark: bytes = b"", end: str = "\n") -> Callable[[str], bytes]:
    """A file in an encoding, with a byte order mark and ends of line of its own."""
    return lambda text: mark + text.replace("\n", end).encode(encoding)


SHAPES: dict[str, Shape] = {
    **{name: Shape(wrap(RIGHT), ON, 0) for name, wrap in WRAPPINGS.items()},
    **{f"{name}, otherwise": Shape(wrap(plain(WRONG)), ON, 5) for name, wrap in WRAPPINGS.items()},
    # Encodings
    "a UTF-8 byte order mark": Shape(RIGHT, ON, 0, encode=bytes_of("utf-8", b"\xef\xbb\xbf")),
    "carriage returns": Shape(RIGHT, ON, 0, encode=bytes_of("utf-8", end="\r\n")),
    "PowerShell": Shape(RIGHT, ON, 0, encode=bytes_of("utf-16-le", b"\xff\xfe", "\r\n")),
    "PowerShell, otherwise": Shape(plain(WRONG), ON, 5, encode=bytes_of("utf-16-le", b"\xff\xfe", "\r\n")),
    "UTF-16, the other order": Shape(RIGHT, ON, 0, encode=bytes_of("utf-16-be", b"\xfe\xff")),
    "UTF-16 without a mark": Shape(RIGHT, ON, 0, encode=bytes_of("utf-16-le")),
    # Formats
    "no names of processes": Shape(without_names(RIGHT), ON, 0),
    "an actor of Ray alone": Shape(ONE_RAY(without_names(RIGHT)), ON, 0),
    "Dynamo": Shape(dynamo(RIGHT), ON, 0),
    "Dynamo, otherwise": Shape(dynamo(plain(WRONG)), ON, 5),
    "Dynamo, JSON": Shape(dynamo_json(RIGHT), ON, 0),
    "Dynamo, JSON, otherwise": Shape(dynamo_json(plain(WRONG)), ON, 5),
    "JSON": Shape(JSON, INERT, 0, "has stopped since"),
    "JSON in docker's json-file": Shape(wrapped(log="LINE", stream="stderr")(JSON), INERT, 0),
    "JSON behind a time": Shape(front(f"{TIME} ")(JSON), INERT, 0),
    "JSON behind the prefix of 0.19": Shape(front("(EngineCore pid=101) ")(JSON), INERT, 0),
    "JSON behind kubectl's prefix": Shape(POD_A(JSON), INERT, 0),
    # One server, several processes
    "two ranks": Shape(ranks(RIGHT, RIGHT), ON, 0),
    "two ranks, one otherwise": Shape(ranks(RIGHT, SWITCHED), ON, 5),
    "two ranks behind an actor of Ray": Shape(ONE_RAY(ranks(RIGHT, RIGHT)), ON, 0),
    "two ranks behind an actor of Ray, the first otherwise": Shape(ONE_RAY(ranks(SWITCHED, RIGHT)), ON, 5),
    "a rank that is not ready": Shape(ranks(RIGHT, RIGHT[: at(RIGHT, READY)]), ON, 7),
    "a server a rank": Shape(supervised(RIGHT), ON, 0),
    "a server a rank, not ready": Shape(supervised(RIGHT[: at(RIGHT, READY)]), ON, 7),
    "several API servers": Shape([*without_names(RIGHT[:18]), *SERVERS, *RIGHT[18:]], ON, 0),
    "engines that are actors of Ray": Shape(ACTORS, ON, 0),
    "engines that are actors of Ray, one not ready": Shape(ACTORS[:-1], ON, 7),
    # Restarts
    "a restart after a failure": Shape([*FAILED, *RIGHT], ON, 0, "2 starts"),
    "a restart after a failure, other processes": Shape([*FAILED, *renumbered(RIGHT)], ON, 0, "2 starts"),
    "a restart after a shutdown": Shape([*STOPPED_WRONG, *RIGHT], ON, 0, "2 starts"),
    "a restart after a shutdown, other processes": Shape([*STOPPED_WRONG, *renumbered(RIGHT)], ON, 0, "2 starts"),
    "a restart after a fatal error": Shape([*DEAD, *renumbered(RIGHT)], ON, 0, "2 starts"),
    "a restart that runs otherwise": Shape([*STOPPED, *plain(WRONG)], ON, 5, "2 starts"),
    "a restart that is not ready": Shape([*STOPPED, *RIGHT[: at(RIGHT, READY)]], ON, 7),
    "a crash loop": Shape([*FAILED * 30, *RIGHT], ON, 0, "31 starts"),
    "two restarts behind one unit": Shape(front("Nov 28 12:00:00 node-1 vllm[7]: ")([*STOPPED_WRONG, *RIGHT]), ON, 0),
    "no line says that the first start ended": Shape([*RIGHT, *RIGHT], ON, 7, "no line says"),
    "the first start ran otherwise, and may run": Shape([*plain(WRONG), *RIGHT], ON, 7, "ran otherwise"),
    "the second start failed, and the first may run": Shape([*RIGHT, *renumbered(FAILED)], ON, 5),
    # Several servers
    "two replicas": Shape(woven(RIGHT, renumbered(RIGHT)), ON, 7, "2 servers write into this log"),
    "two replicas with the same processes": Shape(woven(RIGHT, RIGHT), ON, 7),
    "two replicas, the second not ready": Shape(
        woven(RIGHT, renumbered(RIGHT[: at(RIGHT, READY)])), ON, 7, "2 servers write into this log"
    ),
    "two replicas, one after the other": Shape([*RIGHT, *renumbered(RIGHT)], ON, 7),
    "two replicas, one otherwise": Shape(woven(plain(WRONG), renumbered(RIGHT)), ON, 5),
    "two replicas, nameless": Shape(without_names(woven(RIGHT, RIGHT)), ON, 7),
    "two replicas of Dynamo": Shape(dynamo_json(woven(RIGHT, RIGHT)), ON, 7),
    "two arguments before an engine is ready": Shape([RIGHT[8], *RIGHT], ON, 7),
    "a line of another server": Shape([*RIGHT, renumbered(RIGHT)[at(RIGHT, READY)]], ON, 7, "is of another server"),
    "two pods told apart": Shape(woven(POD_A(RIGHT), POD_B(RIGHT)), ON, 0),
    "two pods told apart, one otherwise": Shape(woven(POD_A(RIGHT), POD_B(plain(WRONG))), ON, 5),
    "two pods told apart, one not ready": Shape(woven(POD_A(RIGHT), POD_B(RIGHT[: at(RIGHT, READY)])), ON, 7),
    "two pods of Fluent Bit, one otherwise": Shape(
        woven(wrapped(log="LINE", pod="a")(RIGHT), wrapped(log="LINE", pod="b")(plain(WRONG))), ON, 5
    ),
    "two replicas of Ray told apart": Shape(woven(ONE_RAY(RIGHT), OTHER_RAY(renumbered(RIGHT))), ON, 0),
    "two replicas of Ray, one not ready": Shape(
        woven(ONE_RAY(RIGHT), OTHER_RAY(renumbered(RIGHT[: at(RIGHT, READY)]))), ON, 7
    ),
    "two replicas of Ray, one otherwise": Shape(woven(ONE_RAY(RIGHT), OTHER_RAY(plain(WRONG))), ON, 5),
    # Parts
    "nothing": Shape([], ON, 7),
    "cut before the engine": Shape(RIGHT[: at(RIGHT, ENGINE)], ON, 7),
    "cut before the engine is ready": Shape(RIGHT[: at(RIGHT, READY)], ON, 7),
    "cut in the engine's line": Shape(CUT, ON, 7),
    "without its beginning": Shape(RIGHT[at(RIGHT, ENGINE) + 1 :], ON, 7),
    "failed": Shape(FAILED, OFF, 5, "an engine failed"),
    "dead": Shape(DEAD, ON, 7, "an engine failed"),
    "stopped": Shape(STOPPED, ON, 0, "has stopped since"),
    # Wrong experts
    "wrong experts now": Shape(RIGHT, UNSAFE, 5, "it runs wrong experts: stop it"),
    "wrong experts before": Shape(STOPPED, UNSAFE, 5, '"kind": "none"'),
    "wrong experts, not ready": Shape(RIGHT[: at(RIGHT, READY)], UNSAFE, 5, '"kind": "none"'),
    "right experts after all": Shape(plain(WRONG), UNSAFE, 0, '"kind": "none"'),
    "perhaps wrong experts now": Shape(RIGHT, OFF, 5, "nothing proves that it runs the right experts"),
    # Why
    "why: the release": Shape(FORCED, INERT, 0, '"cause": "release"'),
    "why: the launch": Shape(RIGHT, ON, 0, '"cause": "launch"'),
    "why: a draft": Shape(FAILED, OFF, 5, '"cause": "draft"'),
    "why: the name": Shape(
        [line.replace("Qwen3MoeForCausalLM", "Ernie4_5_VLMoeForConditionalGeneration") for line in SWITCHED],
        OFF, 0, '"cause": "architecture"',
    ),
}  # fmt: skip
