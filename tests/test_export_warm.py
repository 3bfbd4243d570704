"""What a warm-up gives to an export: the budget of a startupProbe, and the Job that warms."""

from pathlib import Path
from typing import Any

import pytest
from exported import Bench, bench_in

from cache.compiled.warm_record import WarmRecord, write_record
from tuner.cli.inputs import Inputs, Launching, planned
from tuner.compile_cache.launch_digest import launch_digest
from tuner.launch.startup_budget import LEAST_S, UNMEASURED_S, budget

MODEL = "mistralai/Mixtral-8x7B-v0.1"
IMAGE = ("--image", "registry:5000/vllm-and-tuner:1")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Where the launch decides the flag."""
    return bench_in(tmp_path_factory.mktemp("settable"), "flag-live")


def warmed(bench: Bench, root: Path, seconds: float, *args: str) -> None:
    """Record a warm-up of a launch below a cache root."""
    environ = {"HOME": "/home/somebody", "HF_HOME": str(bench.folder / "hub"), "HF_HUB_OFFLINE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        inputs = Inputs(environment=bench.environment, store=str(bench.store))
        plan = planned([MODEL, *args], inputs, Launching(cache_root=str(root)), environ)
    facts: dict[str, Any] = {"model": MODEL, "architecture": "M", "vllm": "0.19.1", "torch": None, "gpu": None}
    record = WarmRecord(
        digest=launch_digest(plan, environ),
        made_at="2026-01-02T03:04:05+00:00",
        platform="cuda",
        args=(MODEL, *args),
        entries=(),
        size=0,
        cold_seconds=seconds,
        **facts,
    )
    own = Path(plan.launch.cache["location"])
    own.mkdir(parents=True, exist_ok=True)
    write_record(own, record)


def probe_in(document: dict[str, Any]) -> dict[str, Any]:
    """The startupProbe of a Deployment's container."""
    found: dict[str, Any] = document["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    return found


def deployment(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The Deployment of a manifest."""
    return next(document for document in documents if document["kind"] == "Deployment")


@pytest.mark.parametrize(
    ("cold", "seconds"), [(None, UNMEASURED_S), (1, LEAST_S), (200, LEAST_S), (201, 610), (467, 1410), (2219, 6660)]
)
def test_a_start_gets_three_times_what_it_took(cold: float | None, seconds: int) -> None:
    """In whole periods; ten minutes at least, an hour where nothing was measured."""
    assert budget(cold) == seconds


def test_a_recorded_cold_start_sets_the_probe(bench: Bench, tmp_path: Path) -> None:
    """The record of this very launch, and of no other; `--cold-start` wins."""
    root = tmp_path / "root"
    warmed(bench, root, 467, "--max-model-len", "64")
    cached = ("--cache-root", str(root))
    same, other = ("--", "--max-model-len", "64"), ("--", "--max-model-len", "128")

    def allowed(*args: str) -> int:
        probe = probe_in(deployment(bench.documents("deployment", *cached, *args)))
        return int(probe["periodSeconds"] * probe["failureThreshold"])

    assert allowed(*same) == 1410
    assert allowed("--cold-start", "1000", *same) == 3000
    assert allowed(*other) == UNMEASURED_S
    assert "# a start may take 1410 s: 3 times the 467 s of a cold one" in bench.text("deployment", *cached, *same)


def test_a_deployment_waits_longer_than_its_probe(bench: Bench) -> None:
    """Or the roll-out fails while the start goes on."""
    document = deployment(bench.documents("deployment", "--cold-start", "2000"))
    probe = probe_in(document)
    assert document["spec"]["progressDeadlineSeconds"] > probe["periodSeconds"] * probe["failureThreshold"] == 6000


def test_the_job_warms_on_the_servers_kind_of_gpu(bench: Bench) -> None:
    """The claim, the devices and the label of its nodes are the server's."""
    (job,) = bench.documents("warm-job", "--cache-root", "/cache", *IMAGE, "--", "-tp", "2")
    server = deployment(bench.documents("deployment", "--cache-root", "/cache", "--", "-tp", "2"))
    pods = [one["spec"]["template"]["spec"] for one in (job, server)]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert pods[0]["containers"][0]["resources"] == pods[1]["containers"][0]["resources"]
    assert pods[0]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--cache-root", "", *IMAGE], "No cache root is named"),
        (["--cache-root", "/cache", "--image", ""], "names no tag"),
        (["--cache-root", "/cache", *IMAGE, "--", "--ssl-keyfile=/k"], "A cache is warmed without TLS."),
    ],
)
def test_a_job_that_could_not_warm_is_refused(bench: Bench, args: list[str], said: str) -> None:
    """Before a cluster runs it in vain."""
    assert said in bench.ask("warm-job", *args, code=2).err
