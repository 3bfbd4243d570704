"""Writes service.md: the service under faults, hostile requests and load.

.venv/bin/python -m tools.evidence.make_service                     # everything, then the page
.venv/bin/python -m tools.evidence.make_service kills --kills 20    # one part; the page, once all have been run
.venv/bin/python -m tools.evidence.make_service page                # the page alone

What each part counted is kept in `.cache/service`, for the page. The load needs a quiet machine.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import service_load
from fuzz import fuzz_service
from fuzz.running import run as run_cases
from service_faults import certificates, cut_off, forged, full_disk, kills, slow_clients

from tools.evidence import ROOT
from tools.evidence.page import made_here, table, write
from tuner.service.endpoints import ENDPOINTS

RESULTS = ROOT / ".cache" / "service"
FAULTS: dict[str, Callable[[Path, Any], dict[str, Any]]] = {
    "kills": kills,
    "full disk": full_disk,
    "cut off": cut_off,
    "forged": forged,
    "certificates": certificates,
    "slow clients": slow_clients,
}
FUZZ, LOAD = "requests", "load"
PARTS = [*FAULTS, FUZZ, LOAD]


def main() -> None:
    """Run what is named, and write the page if nothing is missing."""
    parser = argparse.ArgumentParser(description="Write docs/evidence/service.md anew.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "page", []], default=[])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stores", type=int, default=20, help="that cannot grow")
    parser.add_argument("--cut-off", type=float, default=60, help="seconds without network")
    parser.add_argument("--lines", type=int, default=1_000, help="that are forged")
    parser.add_argument("--certificates", type=int, default=20)
    parser.add_argument("--clients", type=int, default=200, help="that are slow")
    parser.add_argument("--requests", type=int, default=10_000, help="of each endpoint")
    parser.add_argument("--seconds", type=float, default=60, help="of load")
    options = parser.parse_args()
    counts = {
        "kills": options.kills,
        "full disk": options.stores,
        "cut off": options.cut_off,
        "forged": options.lines,
        "certificates": options.certificates,
        "slow clients": options.clients,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in [part for part in options.parts or PARTS if part != "page"]:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            if part == FUZZ:
                counted = fuzzed(Path(folder), options.requests)
            elif part == LOAD:
                counted = service_load.measure(Path(folder), options.seconds, 300, 64)
            else:
                counted = FAULTS[part](Path(folder), counts[part])
        result_file(part).write_text(json.dumps({"counted": counted, "took": time.monotonic() - begin}))
        print(part, json.dumps(counted), flush=True)
    if all(result_file(part).exists() for part in PARTS):
        page()


def result_file(part: str) -> Path:
    """The file with what one part counted."""
    return RESULTS / f"{part.replace(' ', '-')}.json"


def fuzzed(folder: Path, count: int) -> dict[str, Any]:
    """Requests of chance to each endpoint; one that breaks a promise ends the run."""
    ground = fuzz_service.ground(folder)
    statuses: dict[str, int] = {}
    for endpoint in ENDPOINTS:
        tally = run_cases(lambda draw, shared, at=endpoint: fuzz_service.case(draw, shared, at), ground, count)
        if tally.findings:
            sys.exit(f"{endpoint.method} {endpoint.path}: {tally.findings}")
        for word, times in tally.words.items():
            status = word.rpartition(" ")[2]
            statuses[status] = statuses.get(status, 0) + times
    return {
        "endpoints": len(ENDPOINTS),
        "requests": sum(statuses.values()),
        **dict(sorted(statuses.items())),
        "wrong": 0,
    }


def page() -> None:
    """Write the page from what was kept."""
    load = json.loads(result_file(LOAD).read_text())["counted"]
    write(
        "service.md",
        "# The service under faults, hostile requests and load",
        "```sh\nmake evidence-service\n```",
        READING,
        table(("fault", "counted", "lost or wrong", "seconds"), [fault_row(part) for part in [*FAULTS, FUZZ]]),
        "## Load",
        LOADED,
        table(LOAD_HEADS, [load_row("the service", load["service"]), load_row("a constant answer", load["bare"])]),
        f"Open loop, {load['rate']} requests a second for {load['seconds']:g} s over {load['connections']} "
        f"connections, at a load of {load['load']:.1f} on {load['cores']} cores when it ended. "
        f"One request of the service takes {load['cpu_ratio']} times the CPU time of a constant answer.",
        made_here("evidence-service"),
    )


def fault_row(part: str) -> tuple[str, ...]:
    """One fault's line of the table."""
    document = json.loads(result_file(part).read_text())
    counts = document["counted"]
    failed = counts.pop("lost", counts.pop("wrong", 0))
    return (
        part,
        ", ".join(f"{what} {number:,}" for what, number in counts.items()),
        str(failed),
        f"{document['took']:.0f}",
    )


LOAD_HEADS = (
    "server",
    "requests",
    "wrong",
    "errors",
    "p50, ms",
    "p99, ms",
    "p99.9, ms",
    "CPU a request, ms",
    "peak, MB",
)


def load_row(name: str, counted: dict[str, Any]) -> tuple[str, ...]:
    """One server's line of the table."""
    names = ("sent", "wrong", "errors", "p50_ms", "p99_ms", "p99.9_ms", "cpu_ms", "peak_mb")
    return name, *(str(counted[word]) for word in names)


READING = (
    "A run ends with an error, and the page is not made, where a promise does not hold. *kills*: `kill -9` of the "
    "writer at a moment of chance, half a second at most after the first answer, "
    "while four clients send verdicts; *acknowledged* counts, in the clients' process, "
    "answers that were read, and a replica follows over all of it. *full disk*: the writer's files cannot grow beyond "
    "half a megabyte (`RLIMIT_FSIZE`); its readers are answered, and with room again it takes verdicts. *cut off*: the "
    "writer is stopped, so that nothing it is sent is answered; its replica goes on and catches up. *forged*: a writer "
    "without signatures, with empty ones, with a changed byte, with a key of its own, with garbage, with a longer "
    "line; the replica demands signatures, and *wrong* counts what it stored. *certificates*: exchanged while four "
    "clients connect anew for each request; *lost* counts requests without an answer. *slow clients*: each begins a "
    "request and does not end it. *requests*: damaged requests to each endpoint, by the statuses of their answers; a "
    "status of 500 or more, a refusal that is no JSON document, or a verdict that is stored would end the run. The "
    "limits of rate, time and age use the monotonic clock, so a jump of the system's clock does not reach them."
)
LOADED = (
    "Decisions and admissions by turns, of three models in five launches each, from a process of its own. Before the "
    "load each answer was compared with `tuner plan`, or with what `tuner apply` writes into the pod; under the load "
    "each must have the same bytes. A latency counts from the moment at which the request was due. The second line is "
    "a Starlette handler that reads the body and answers a constant, under the same load in the same run."
)


if __name__ == "__main__":
    main()
