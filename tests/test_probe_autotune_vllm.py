"""Real Triton's autotuner as the worker leaves it: one configuration that runs, and no search.

The kernel is a stand-in that counts, since no machine of the tests has a GPU to compile for.
"""

import json
import subprocess

import pytest
from fake_environment import ROOT

from tuner.probe.runner import WORKER
from tuner.verdicts.identity import SHARED_WORKER

pytestmark = pytest.mark.vllm

SCRIPT = """
import json, sys

sys.path[:0] = sys.argv[1].split(":")
from moe_probe_worker.autotune import take_the_first
from triton.runtime.autotuner import Autotuner, Config
from triton.runtime.errors import OutOfResources

take_the_first()

class Kernel:
    fn = staticmethod(lambda x: x)
    ran = []

    def run(self, *arguments, BLOCK, **_):
        self.ran.append([arguments[0], BLOCK])
        if BLOCK == too_large:
            raise OutOfResources(BLOCK, 1, "shared memory")

def launches(*sizes):
    Kernel.ran = []
    kernel = Autotuner(Kernel(), ["x"], [Config({"BLOCK": size}) for size in (16, 32, 64)], ["x"], None, None)
    for size in sizes:
        kernel.run(size, grid=(1,))
    return Kernel.ran

too_large = None
found = {"all fit": launches(7, 7, 9)}
too_large = 16
found["the first is too large"] = launches(7)
print(json.dumps(found))
"""


@pytest.mark.parametrize("name", ["current", "flag-live"])
def test_the_first_configuration_that_runs_is_kept(name: str) -> None:
    """Each shape tries until one ran, then launches that; a shape seen before tries nothing."""
    python = ROOT / ".envs" / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{name}.")
    process = subprocess.run(
        [python, "-c", SCRIPT, f"{WORKER.parent}:{SHARED_WORKER.parent}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    document = json.loads(process.stdout)
    assert document["all fit"] == [[7, 16], [7, 16], [7, 16], [9, 16], [9, 16]]
    assert document["the first is too large"] == [[7, 16], [7, 32], [7, 32]]
