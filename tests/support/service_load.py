"""Test support: puts a service under an open load of decisions and admissions, and a bare handler under the same load.

    python tests/support/service_load.py --seconds 60 FILE

Requests come at fixed moments, whether answers are there or not, over TLS connections of one process. A latency counts
from the moment at which its request was due, so a request that waits for a free connection waits visibly. Before the
load each answer is held against `tuner plan`, or `tuner apply` for a pod; under the load each must have the same bytes.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonpatch
import uvicorn
from fake_environment import ERNIE, LLAMA, MIXTRAL, MODELS, SETTABLE, Serving, serving_in, tuner
from live_service import Live, free_port, until, write_pair
from service_bench import READER, bearing, launch_request, tokens_in
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuner.environment.document import environment_document
from tuner.manifests.managed import LABEL, MANAGED

ROOT = Path(__file__).resolve().parents[2]
STORE = "verdicts.sqlite"
IMAGE = "registry.example/vllm:1"
LAUNCHES = ([], ["--max-model-len", "4096"], ["--enforce-eager"], ["--tensor-parallel-size", "2"], ["--dtype", "half"])
NAMES = {
    MIXTRAL: "mistralai/Mixtral-8x7B-v0.1",
    LLAMA: "meta-llama/Meta-Llama-3.1-8B",
    ERNIE: "baidu/ERNIE-4.5-VL-28B-A3B-PT",
}
UID = "00000000-0000-4000-8000-000000000000"
"""Of a review in its stored form; each request has another one."""
WARM_S = 2.0
"""Seconds of the same load before anything is counted."""


@dataclass(frozen=True)
class Asking:
    """One kind of request.

    Attributes:
        path: where it goes.
        body: what is sent.
        answer: SHA-256 of the right answer.
    """

    path: str
    body: str
    answer: str


def main() -> None:
    """Run the load, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--part", choices=["generate", "bare"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "generate":
        sys.stdout.write(json.dumps(asyncio.run(generate(json.loads(options.file.read_text())))))
        return
    if options.part == "bare":
        serve_bare(json.loads(options.file.read_text()))
        return
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), options.seconds, options.rate, options.connections)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_text(json.dumps(measured, indent=1) + "\n")
    sys.stdout.write(json.dumps(measured, indent=1) + "\n")


def measure(folder: Path, seconds: float, rate: float, connections: int) -> dict[str, Any]:
    """What the service and the bare handler did under the same load."""
    serving = serving_in(folder / "env", SETTABLE)
    store = serving.store_of(folder / STORE, MIXTRAL, ERNIE, LLAMA)
    (folder / "env.json").write_text(json.dumps(environment_document(serving.read())))
    (folder / "tuner.toml").write_text(f'[images]\n"{IMAGE.partition("/")[0]}/*" = "env.json"\n')
    crt, key = write_pair(folder / "served")
    tokens = tokens_in(folder)
    port = free_port()
    words = [sys.executable, "-m", "tuner", "service", "run", "--port", port, "--store", store, "--configs", MODELS]
    words += ["--certificate", crt, "--key", key, "--read-tokens", tokens["read"]]
    load = {"seconds": seconds, "rate": rate, "connections": connections, "trusted": str(crt)}
    with running(words, folder, port, crt) as live:
        askings = checked_askings(live, serving, folder)
        ours = loaded(live, folder, load, [asdict(asking) for asking in askings])
    constant = {"answer": "x" * 2000, "port": free_port(), "crt": str(crt), "key": str(key)}
    (folder / "bare.json").write_text(json.dumps(constant))
    words = [sys.executable, __file__, "--part", "bare", folder / "bare.json"]
    digest = hashlib.sha256(str(constant["answer"]).encode()).hexdigest()
    with running(words, ROOT, int(str(constant["port"])), crt) as live:
        bare = loaded(live, folder, load, [{**asdict(asking), "answer": digest} for asking in askings])
    del load["trusted"]
    real_time = os.sched_getscheduler(0) in {os.SCHED_RR, os.SCHED_FIFO}
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "real_time": real_time,
        **load,
        "service": ours,
        "bare": bare,
        "cpu_ratio": round(ours["cpu_ms"] / bare["cpu_ms"], 2),
    }


class running:  # noqa: N801  used as a function
    """A server in a process of its own, once it answers; killed at the end."""

    def __init__(self, words: list[object], folder: Path, port: int, crt: Path) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TUNER_")}
        log = folder / f"{port}.log" if folder != ROOT else Path(os.devnull)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [str(word) for word in words], cwd=folder, env={**environ, "PYTHONPATH": str(ROOT)}, stderr=stream
            )
        self.live = Live(process, f"https://127.0.0.1:{port}", port, log, crt)

    def __enter__(self) -> Live:
        until(self._answers)
        return self.live

    def __exit__(self, *_: object) -> None:
        self.live.process.kill()
        self.live.process.wait()

    def _answers(self) -> bool:
        assert self.live.process.poll() is None, self.live.log.read_text()
        try:
            return self.live.get("/healthz")[0] == 200
        except OSError:
            return False


# ---- what is asked, and what is right


def checked_askings(live: Live, serving: Serving, folder: Path) -> list[Asking]:
    """Decisions and admissions by turns, whose answers are those of the commands."""
    askings = []
    for model in (MIXTRAL, LLAMA, ERNIE):
        for launch in LAUNCHES:
            askings += [decision_asking(live, serving, folder, model, launch)]
            askings += [admission_asking(live, folder, NAMES[model], launch)]
    metrics = live.get("/metrics")[1].decode()
    assert 'tuner_admissions_total{outcome="patched"}' in metrics, "no pod was patched"
    return askings


def decision_asking(live: Live, serving: Serving, folder: Path, model: Path, launch: list[str]) -> Asking:
    """A decision that is the one of `tuner plan`."""
    body = json.dumps(launch_request(serving, *launch, model=model, variables={"HOME": "/home/somebody"}))
    answer = asked(live, "/v1/decisions", body)
    document = json.loads(answer)
    where = ("--environment", folder / "env.json", "--store", folder / STORE, "--json")
    env = {"HOME": "/home/somebody", "XDG_CACHE_HOME": "", "TUNER_CACHE_ROOT": ""}
    plan = tuner("plan", model, *where, "--", *launch, env=env).document
    if plan["proof"] is None:
        assert document.pop("proof") == "missing"
        assert document.pop("differs")
        plan.pop("proof")
    assert document == plan, "the service decides otherwise than tuner plan"
    return Asking("/v1/decisions", body, hashlib.sha256(answer).hexdigest())


def admission_asking(live: Live, folder: Path, name: str, launch: list[str]) -> Asking:
    """An admission that gives a pod the arguments that `tuner apply` writes."""
    container = {"name": "vllm", "image": IMAGE, "command": ["vllm", "serve"], "args": [name, *launch]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "llm", "labels": {LABEL: MANAGED}},
        "spec": {"containers": [container]},
    }
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": UID, "kind": kind, "operation": "CREATE", "object": pod}
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    answer = asked(live, "/v1/admission", body)
    response = json.loads(answer)["response"]
    patch = json.loads(base64.b64decode(response.get("patch", "W10=")))
    patched = jsonpatch.apply_patch(pod, patch)["spec"]["containers"][0]
    file = folder / "pod.yaml"
    file.write_text(json.dumps(pod))
    where = ("--environment", folder / "env.json", "--store", folder / STORE)
    tuner("apply", file, "--write", *where, env={"TUNER_CONFIGS": str(MODELS)})
    written = json.loads(file.read_text())["spec"]["containers"][0]
    assert patched["args"] == written["args"], (patched["args"], written["args"])
    return Asking("/v1/admission", body, hashlib.sha256(answer).hexdigest())


def asked(live: Live, path: str, body: str) -> bytes:
    """The answer to one request, which must be a good one."""
    with closing(live.connection()) as connection:
        connection.request("POST", path, body, bearing(READER))
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return data


# ---- the load


def loaded(live: Live, folder: Path, load: dict[str, Any], askings: list[dict[str, str]]) -> dict[str, Any]:
    """What one server did under the load, its CPU time and memory included."""
    file = folder / "load.json"
    file.write_text(json.dumps({**load, "port": live.port, "askings": askings}))
    before = cpu_seconds(live.process.pid)
    words = [sys.executable, __file__, "--part", "generate", str(file)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    counted: dict[str, Any] = json.loads(done.stdout)
    assert counted["wrong"] == counted["errors"] == 0, counted
    counted["cpu_ms"] = round(1000 * (cpu_seconds(live.process.pid) - before) / counted["sent"], 3)
    counted["peak_mb"] = peak_megabytes(live.process.pid)
    return counted


def cpu_seconds(process: int) -> float:
    """CPU time of a process until now."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(process: int) -> int:
    """The most memory that a process has had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) // 1024


async def generate(load: dict[str, Any]) -> dict[str, Any]:
    """Send requests at their moments, and count what comes back."""
    context = ssl.create_default_context(cafile=load["trusted"])
    due: asyncio.Queue[tuple[float, int] | None] = asyncio.Queue()
    seen = Counter[str]()
    latencies: list[float] = []
    begin = time.perf_counter() + 1.0
    counted_from = begin + WARM_S

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", load["port"], ssl=context)
        while (item := await due.get()) is not None:
            moment, number = item
            outcome = await exchanged(reader, writer, load["askings"][number % len(load["askings"])], number)
            seen[outcome] += 1
            if moment >= counted_from:
                latencies.append(time.perf_counter() - moment)
        writer.close()

    tasks = [asyncio.create_task(connection()) for _ in range(load["connections"])]
    for number in range(int((load["seconds"] + WARM_S) * load["rate"])):
        moment = begin + number / load["rate"]
        if (wait := moment - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        due.put_nowait((moment, number))
    for _ in tasks:
        due.put_nowait(None)
    await asyncio.gather(*tasks)
    latencies.sort()
    shares = {
        f"p{share:g}_ms": round(1000 * latencies[int(len(latencies) * share / 100)], 2) for share in (50, 99, 99.9)
    }
    return {"sent": seen.total(), "right": seen["right"], "wrong": seen["wrong"], "errors": seen["error"], **shares}


async def exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asking: dict[str, str], number: int
) -> str:
    """`right`, `wrong` or `error`."""
    uid = f"{number:08x}" + UID[8:]
    body = asking["body"].replace(UID, uid).encode()
    head = f"POST {asking['path']} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READER}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer_head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(answer_head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    answer = (await reader.readexactly(length)).replace(uid.encode(), UID.encode())
    if not answer_head.startswith(b"http/1.1 200"):
        return "error"
    return "right" if hashlib.sha256(answer).hexdigest() == asking["answer"] else "wrong"


def serve_bare(settings: dict[str, Any]) -> None:
    """A handler that reads the body and answers a constant."""

    async def constant(request: Request) -> Response:
        await request.body()
        return Response(settings["answer"])

    routes = [Route(path, constant, methods=["POST"]) for path in ("/v1/decisions", "/v1/admission")]
    app = Starlette(routes=[*routes, Route("/healthz", constant)])
    uvicorn.run(
        app, port=settings["port"], http="h11", loop="asyncio", ws="none", log_config=None, access_log=False,
        ssl_certfile=settings["crt"], ssl_keyfile=settings["key"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
