"""`tuner sweep --ray`: a cluster of one node that says it has four GPUs; the probes are stand-ins.

`make test-ray` runs it, because Ray is 0.3 GB and takes half a minute to start.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fleet_stand_in
import pytest
from fake_environment import MIXTRAL, SETTABLE, Serving, model_like, sample, serving_in
from live_service import free_port, until

from cache.verdicts.store import VerdictStore

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not here: make test-ray")
ROOT = Path(__file__).parents[1]
MODELS = 6
TOKEN = "t" * 40
STAND_IN = """
import json, os, sys, time
from pathlib import Path

folder = Path({folder!r})
with (folder / "devices").open("a") as notes:
    notes.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + " " + str(os.getppid()) + "\\n")
"""


class Cluster:
    """A Ray cluster, a folder of models, and a store.

    Attributes:
        address: of the cluster.
        folder: of everything.
        variables: of those that ask it.
    """

    def __init__(self, folder: Path, address: str, variables: dict[str, str]) -> None:
        self.folder, self.address, self.variables = folder, address, variables
        self.serving: Serving = serving_in(folder / "env", SETTABLE)
        self.store = folder / "verdicts.sqlite"
        fleet_stand_in.install(folder, lambda *_: None)
        order = folder / "moe_probe_worker"
        order.write_text(STAND_IN.format(folder=str(folder)) + order.read_text(encoding="utf-8"), encoding="utf-8")
        fleet_stand_in.hand_back(folder, self.serving.probed_here(sample(MIXTRAL, "flag-live")))
        for number in range(MODELS):
            model_like(MIXTRAL, folder / "configs" / f"made--model-{number}", vocab_size=32_000 + number)

    def sweep(self, *options: str) -> "subprocess.Popen[str]":
        """Begin a sweep."""
        named = ["--configs", self.folder / "configs", "--release", "0.19.1", "--platform", "cpu", "--json"]
        ray = ["--ray", self.address, "--node-python", f"0.19.1={self.serving.python}", "--store", self.store]
        words = [sys.executable, "-m", "tuner", "sweep", *named, *ray, *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [str(word) for word in words], env=self.variables, stdout=pipe, stderr=pipe, text=True, cwd=ROOT
        )

    def swept(self, *options: str, code: int = 0) -> dict[str, Any]:
        """The result of a sweep."""
        out, err = self.sweep(*options).communicate(timeout=300)
        assert out, err
        document: dict[str, Any] = json.loads(out)
        assert (document["failed"] == []) is (code == 0), (document, err)
        return document

    def devices(self) -> list[list[str]]:
        """Of each probe that was begun: the devices that it saw, and its task's process."""
        notes = self.folder / "devices"
        return [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []

    def verdicts(self) -> int:
        """Stored verdicts."""
        return len(list(VerdictStore(self.store).entries()))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], Path]]:
    """A cluster with four GPUs that are not there; it demands a token, as clusters do by default from 2.61 on."""
    folder = tmp_path_factory.mktemp("ray")
    program = str(Path(sys.executable).with_name("ray"))
    port = free_port()
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}:{folder}",
        "FLEET_STAND_IN": str(folder / "stand-in"),
    }
    (folder / "stand-in").mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "if 'ray' in ''.join(sys.orig_argv) and 'default_worker' in ''.join(sys.orig_argv):\n"
        "    import fleet_stand_in\n"
        "    fleet_stand_in.install(Path(os.environ['FLEET_STAND_IN']), setattr)\n",
        encoding="utf-8",
    )
    words = ["start", "--head", f"--port={port}", "--num-gpus=4", "--num-cpus=4", "--include-dashboard=false"]
    words += ["--disable-usage-stats", f"--temp-dir={folder / 't'}"]
    subprocess.run([program, *words], env=variables, check=True, capture_output=True, timeout=300)
    try:
        yield f"127.0.0.1:{port}", variables, folder / "stand-in"
    finally:
        subprocess.run([program, "stop"], env=variables, check=False, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def cluster(started: tuple[str, dict[str, str], Path]) -> Cluster:
    """The cluster with models to probe; the tests stand in the order in which they use it up."""
    address, variables, folder = started
    return Cluster(folder, address, variables)


def test_a_driver_that_is_killed_loses_nothing_that_came(cluster: Cluster) -> None:
    """Its tasks end with it, and the same command goes on."""
    (cluster.folder / "hold").touch()
    driver = cluster.sweep()
    until(lambda: len(cluster.devices()) >= 4, 240)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    parents = [int(parent) for _, parent in cluster.devices()]
    until(lambda: not any(Path(f"/proc/{parent}").exists() for parent in parents), 120)
    assert cluster.verdicts() == 0
    assert sorted({seen for seen, _ in cluster.devices()}) == ["0", "1", "2", "3"]


def test_a_task_that_is_killed_is_tried_again(cluster: Cluster) -> None:
    """Every verdict is there at the end, and each probe had a GPU of its own."""
    (cluster.folder / "devices").unlink()
    driver = cluster.sweep()
    until(lambda: len(cluster.devices()) >= 4, 240)
    os.kill(int(cluster.devices()[0][1]), signal.SIGKILL)
    time.sleep(1)
    (cluster.folder / "hold").unlink()
    out, err = driver.communicate(timeout=300)
    assert json.loads(out) == {"schema_version": 2, "states": {"answered": MODELS}, "failed": []}, err
    assert cluster.verdicts() == MODELS
    assert len(cluster.devices()) == MODELS + 1


def test_what_has_a_verdict_is_not_probed_again(cluster: Cluster) -> None:
    """No task is started, and the cluster is not asked."""
    before = len(cluster.devices())
    assert cluster.swept("--ray", "127.0.0.1:1")["states"] == {"answered": MODELS}
    assert len(cluster.devices()) == before


def test_a_node_with_another_release_says_so(cluster: Cluster) -> None:
    """The launch fails with the node's release, and nothing is stored."""
    other = ["--release", "0.18.1", "--node-python", f"0.18.1={cluster.serving.python}"]
    document = cluster.swept(*other, code=3)
    assert {failure["reason"].partition(" is vLLM ")[2] for failure in document["failed"]} == {"0.19.1 on cpu"}
    assert cluster.verdicts() == MODELS


def test_a_cluster_that_cannot_be_used_is_named(cluster: Cluster) -> None:
    """With a sentence about its token, and exit code 1."""
    wrong = {**cluster.variables, "RAY_AUTH_TOKEN": "x" * 40}
    cluster.variables, right = wrong, cluster.variables
    driver = cluster.sweep("--setting", "--max-model-len 4096")
    _, err = driver.communicate(timeout=300)
    cluster.variables = right
    assert (driver.returncode, "cannot be used" in err, "Traceback" in err) == (1, True, False), err
