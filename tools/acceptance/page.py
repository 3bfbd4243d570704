"""The page with what a run saw. Pure, but for the file."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.acceptance.latency import Latency
from tools.acceptance.promises import Row
from tools.acceptance.rollout import AT_ONCE, Rollout
from tools.evidence.page import shell_block, table, write

PAGE = "admission.md"
COMMAND = ("make", "acceptance")


@dataclass(frozen=True)
class Run:
    """What the page shows of a run.

    Attributes:
        day: when, such as `2026-11-29`.
        versions: program -> version.
        packages: the packages of Debian that the programs come from, with versions.
        rows: promises that held.
        written: kind of pod -> what the service wrote of its launch.
        latencies: of creations, the first without a webhook.
        rollouts: many pods at once.
        load: the average load of the machine in the minute before the end of the measurement.
    """

    day: str
    versions: Mapping[str, str]
    packages: Sequence[str]
    rows: Sequence[Row]
    decisions: Mapping[str, str]
    latencies: Sequence[Latency]
    rollouts: Sequence[Rollout]
    load: float


def write_page(run: Run) -> None:
    """Put the page in its place."""
    write(PAGE, *parts_of(run))


def parts_of(run: Run) -> list[str]:
    """The page's parts."""
    return [
        "# Admission by a real API server",
        shell_block(*COMMAND),
        HOW,
        table(("program", "version"), [*run.versions.items()]),
        "## What was tried",
        ENDS,
        table(("promise", "outcome", "tries"), promise_rows(run.rows)),
        "## What was written",
        "The annotation of each labelled pod: the decision for its launch, or the reason why the pod was left alone.",
        table(("pod", "decision or reason"), list(run.decisions.items())),
        "## How long the creation of a pod takes",
        LATENCY.format(number=len(run.latencies[0].seconds)),
        table(("pod", "median, ms", "more than without", "p99, ms", "pods"), latency_rows(run.latencies)),
        LOAD.format(load=run.load),
        "## Many pods at once",
        ROLLOUTS,
        table(("pods", "created", "missed"), rollout_rows(run.rollouts)),
        "## Found by this run, and mended",
        MENDED_FAULTS,
        "## What this run does not show",
        LIMITS,
        f"Made on {run.day}, {platform.machine()}, {os.cpu_count()} cores, no GPU, Python {platform.python_version()}.",
        f"Debian's packages: {', '.join(run.packages)}.",
    ]


def promise_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A row for each promise."""
    return [(row.promise, row.outcome, str(row.tries)) for row in rows]


def rollout_rows(rollouts: Sequence[Rollout]) -> list[tuple[str, ...]]:
    """A row for each rollout."""
    return [(rollout.kind, str(rollout.pods), str(rollout.missed)) for rollout in rollouts]


def latency_rows(latencies: Sequence[Latency]) -> list[tuple[str, ...]]:
    """A row for each kind of pod, its median compared with the first one's."""
    plain = latencies[0]
    rows = []
    for latency in latencies:
        more = "" if latency is plain else f"{latency.median_ms - plain.median_ms:+.1f}"
        numbers = (f"{latency.median_ms:.1f}", more, f"{latency.p99_ms:.1f}", str(len(latency.seconds)))
        rows.append((latency.kind, *numbers))
    return rows


HOW = """\
etcd, kube-apiserver and `tuner service run` are real, and so is all TLS between them.
The service has a certificate of `tuner service certificate`, the verdicts of `docs/catalogue/vllm-0.19.1-cpu.jsonl`, \
the models of `examples/models`, and the environment `examples/image.json` for the pods' image.
`kubectl` applies what `tuner export --format service --ca-bundle` writes.
One thing in it is changed: both webhooks name the service by its URL, because nothing here routes to a Service.
There are no nodes and no controllers: pods are stored, and none of them starts."""
ENDS = """\
The run ends with an error, and this page is not written, if one of these promises does not hold.
*As `tuner apply` writes it* means: the command edits the pod as a manifest, the edited pod is created without our \
label, and the API server's two stored pods are the same but for our label and our annotations."""
LATENCY = """\
The time from the request to the answer, for {number} pods of each kind.
The kinds take turns over one TLS connection, and each pod is written to etcd.
The webhook that changes nothing is a Starlette handler with TLS in a process of its own.
A launch that the service decided in the last ten seconds is not decided again."""
LOAD = """\
The average load of the machine was {load:.1f} at the end of the measurement.
With a load above its cores the 99th percentile shows how long processes wait for a core, without a webhook, too."""
ROLLOUTS = f"""\
{AT_ONCE} connections create one pod after another, all `managed` with an unsafe model.
*Missed* are pods that the API server stored without the service's arguments, because no answer came within 2 s."""
MENDED_FAULTS = """\
- A labelled pod with `ü`, `<`, `>` or `&` in its arguments was refused, under `Ignore` too.
  The patch tested the whole list, and an API server compares the bytes of two JSON texts, which Go and Python \
escape in different ways (kubernetes/apiserver 100).
  A patch now tests only text that every encoder writes alike.
- Each `kubectl apply` of the export saw a change: API servers drop an empty `egress`, which means the same as none."""
LIMITS = """\
- The API server is of Kubernetes 1.20, the last one whose source Debian has complete.
  It has no ValidatingAdmissionPolicy (1.30), so `tuner export --format validating-policy` is checked only in the \
tests, against schemas and a CEL engine.
- Kubernetes 1.20 does not label a namespace with its name. The run does it, as 1.21 and later do.
- The API server stores the exported Deployment, and nothing starts it."""
