"""Writes service.md: the service under faults, hostile requests and load.

.venv/bin/python -m tools.evidence.make_service                     # everything, then the page
.venv/bin/python -m tools.evidence.make_service load                # one part, and the page with the others as before
.venv/bin/python -m tools.evidence.make_service page                # the page alone

The counts of each part are stored in `docs/evidence/service.json`, for the page. The load needs a quiet machine.
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
from service_clock import clock
from service_faults import certificates, cut_off, forged, full_disk, kills, older_lines, slow_clients

from tools.evidence.page import PAGES, footer, table, write
from tuner.service.endpoints import ENDPOINTS

RESULTS = PAGES / "service.json"
FAULTS: dict[str, Callable[[Path, Any], dict[str, Any]]] = {
    "kills": kills,
    "full disk": full_disk,
    "cut off": cut_off,
    "forged": forged,
    "older lines": older_lines,
    "clock": clock,
    "certificates": certificates,
    "slow clients": slow_clients,
}
FUZZ, LOAD = "requests", "load"
PARTS = [*FAULTS, FUZZ, LOAD]


def main() -> None:
    """Run the parts that the command line names, and write the page if no part is missing."""
    parser = argparse.ArgumentParser(description="Write docs/evidence/service.md anew.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "page", []], default=[])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stores", type=int, default=20, help="that cannot grow")
    parser.add_argument("--cut-off", type=float, default=60, help="seconds without network")
    parser.add_argument("--lines", type=int, default=1_000, help="that are forged")
    parser.add_argument("--older", type=int, default=500, help="lines in place of newer ones")
    parser.add_argument("--rounds", type=int, default=5, help="of jumps of the clock")
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
        "older lines": options.older,
        "clock": options.rounds,
        "certificates": options.certificates,
        "slow clients": options.clients,
    }
    for part in [part for part in options.parts or PARTS if part != "page"]:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            if part == FUZZ:
                numbers = send_damaged_requests(Path(folder), options.requests)
            elif part == LOAD:
                numbers = service_load.measure(Path(folder), options.seconds, 300, 64)
            else:
                numbers = FAULTS[part](Path(folder), counts[part])
        if numbers.get("lost") or numbers.get("wrong"):
            sys.exit(f"{part}: a promise does not hold: {json.dumps(numbers)}")
        keep(part, {"counted": numbers, "took": round(time.monotonic() - begin)})
        print(part, json.dumps(numbers), flush=True)
    page()


def results() -> dict[str, Any]:
    """Part -> its last counts, and the seconds that it took."""
    numbers: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return numbers


def keep(part: str, result: dict[str, Any]) -> None:
    """Store the counts of a part in place of its last ones."""
    draft = RESULTS.with_suffix(".draft")
    draft.write_text(json.dumps({**results(), part: result}, indent=1) + "\n")
    draft.replace(RESULTS)


def send_damaged_requests(folder: Path, count: int) -> dict[str, Any]:
    """Send damaged requests to each endpoint. A request that breaks a promise ends the run."""
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
    """Write the page from the stored counts, unless a part was never run."""
    numbers = results()
    missing = [part for part in PARTS if part not in numbers]
    if missing:
        print(f"The page is not made: these parts were never run: {', '.join(missing)}.", file=sys.stderr)
        return
    load = numbers[LOAD]["counted"]
    write(
        "service.md",
        "# The service under faults, hostile requests and load",
        "```sh\nmake evidence-service\n```",
        READING,
        table(FAULT_HEADS, [fault_row(part, numbers[part]) for part in FAULT_TEXTS]),
        "\n".join(f"- *{part}*: {sentences}" for part, sentences in FAULT_TEXTS.items()),
        "## Load",
        ABOUT_LOAD,
        table(LOAD_HEADS, [load_row("the service", load["service"]), load_row("a constant answer", load["bare"])]),
        f"Open loop, {load['rate']} requests a second for {load['seconds']:g} s over {load['connections']} "
        f"connections, at a load of {load['load']:.1f} on {load['cores']} cores when it ended"
        f"{', with priority in real time (`chrt --rr`) before whatever else ran' if load['real_time'] else ''}. "
        f"One request of the service takes {load['cpu_ratio']} times the CPU time of a constant answer.",
        footer("evidence-service"),
    )


def fault_row(part: str, document: dict[str, Any]) -> tuple[str, ...]:
    """The row of a fault."""
    counts = dict(document["counted"])
    failed = counts.pop("lost", counts.pop("wrong", 0))
    return (
        part,
        ", ".join(f"{what}: {number:,}" for what, number in counts.items()),
        str(failed),
        f"{document['took']:.0f}",
    )


FAULT_HEADS = ("fault", "counted", "lost or wrong", "seconds")
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


def load_row(name: str, numbers: dict[str, Any]) -> tuple[str, ...]:
    """The row of a server."""
    names = ("sent", "wrong", "errors", "p50_ms", "p99_ms", "p99.9_ms", "cpu_ms", "peak_mb")
    return name, *(str(numbers[word]) for word in names)


READING = "A run ends with an error, and the page is not written, if a promise does not hold."
FAULT_TEXTS = {
    "kills": "`kill -9` of the writer at a random moment, at most half a second after the first answer, "
    "while four clients send verdicts. *acknowledged* counts, in the clients' process, answers that "
    "were read; a replica follows.",
    "full disk": "The writer's files cannot grow beyond half a megabyte (`RLIMIT_FSIZE`). "
    "It still answers readers, and once there is room again it takes verdicts.",
    "cut off": "The writer is stopped, so that it answers nothing. Its replica continues, and catches up later.",
    "forged": "A writer without signatures, with empty ones, with a changed byte, with a key of its own, with "
    "garbage, with a longer line. The replica demands signatures, and *wrong* counts what it stored.",
    "older lines": "A writer gives a line of each verdict, one that the key signed later, and the older one again, "
    "also after it started anew. *wrong* counts older ones that the replica has in the end.",
    "clock": "The time of day of a writer, its replica and a service with a certificate jumps by -1 h, +1 h, "
    "+10 years and back while they run (`tests/support/shifted_clock.c`), and by ten years between "
    "two starts of the writer. *lost* counts leases that ended early or late, verdicts that did not "
    "reach the replica, refused readers, and wrong readiness: ten years later the certificate has "
    "expired.",
    "certificates": "The certificate is replaced while four clients connect anew for each request. "
    "*lost* counts requests without an answer.",
    "slow clients": "Each client begins a request and does not end it.",
    FUZZ: "Damaged requests to each endpoint, by the statuses of their answers. A status of 500 or more, a "
    "refusal that is not a JSON document, or a verdict that is stored would end the run.",
}
"""Fault -> what it is, and what is counted."""
ABOUT_LOAD = (
    "Decisions and admissions in turn, for three models with five launches each, from a process of its own. Before the "
    "load each answer was compared with `tuner plan`, or with what `tuner apply` writes into the pod; under the load "
    "each must have the same bytes. A latency counts from the moment at which the request was due. The second line is "
    "a Starlette handler that reads the body and answers a constant, under the same load in the same run."
)


if __name__ == "__main__":
    main()
