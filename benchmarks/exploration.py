"""What branch exploration costs: the scenarios of a model watched and explored, against the same scenarios alone.

    make bench-exploration

Both arms run in one process on one built model, in turn, the plain arm first and once more at the end; the ratio is to
the mean of the two plain arms.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tuner.probe.runner import SETTINGS, WORKER  # noqa: E402  after the path was set
from tuner.probe.shrink import shrink  # noqa: E402

DRIVER = """
import json, sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from moe_probe_worker import engine, plain_config
from moe_probe_worker.exploration import Explorer
from moe_probe_worker.passes import Passes
from moe_probe_worker.recorder import Recorder, registered_layers
from moe_probe_worker.scenarios import scenarios
from moe_probe_worker.stubs import Stubs

folder = Path(sys.argv[2])
engine.start(folder)

def timed(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin

def arms(job):
    plain_config.ensure_config_class(job["config"])
    with Stubs() as stubs:
        config, model = engine.construct(job, stubs)
        engine.fill_weights(model)
        engine.finish_weights(model, config, stubs)
        passes = Passes(model, config, Recorder(registered_layers(config)), stubs)
        planned = scenarios(*passes.inputs(job["special_tokens"]))
        plain = lambda: [passes.run(scenario) for scenario in planned]
        plain()  # kernels compiled, stand-ins found
        explorer = Explorer(passes, model, passes.recorder)
        return [timed(plain), timed(lambda: explorer.run(planned)), timed(plain)]

found = {}
for job in json.loads((folder / "jobs.json").read_text()):
    try:
        found[job["folder"]] = arms(job)
    except Exception as error:
        found[job["folder"]] = f"{type(error).__name__}: {error}"[:120]
(folder / "found.json").write_text(json.dumps(found))
"""


def main() -> None:
    """Run both arms for every example model and print the table."""
    parser = argparse.ArgumentParser(description="Seconds of exploration against the scenarios alone.")
    parser.add_argument("--python", default=str(ROOT / ".envs" / "current" / "bin" / "python"))
    found = measured(parser.parse_args().python)
    ratios = []
    print("| model | scenarios alone, s | explored, s | ratio |\n| --- | --- | --- | --- |")
    for name, seconds in found.items():
        if isinstance(seconds, str):
            print(f"| {name} | | | not built: {' '.join(seconds.split())} |")
            continue
        alone = (seconds[0] + seconds[2]) / 2
        ratios.append(seconds[1] / alone)
        print(f"| {name} | {alone:.2f} | {seconds[1]:.2f} | {ratios[-1]:.2f} |")
    print(f"\nMedian ratio {statistics.median(ratios):.2f} over {len(ratios)} models.")


def measured(python: str) -> dict[str, list[float] | str]:
    """Seconds of the arms of every example model: plain, explored, plain; or why it was not built."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jobs.json").write_text(json.dumps([job(path) for path in sorted(ROOT.glob("examples/models/*"))]))
        (folder / "driver.py").write_text(DRIVER)
        command = [python, "driver.py", str(WORKER.parent), name]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **SETTINGS}, check=False, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        return dict(json.loads((folder / "found.json").read_text()))


def job(model: Path) -> dict:
    """The worker's job for a model."""
    small = shrink(json.loads((model / "config.json").read_text(encoding="utf-8")))
    return {
        "config": small.config,
        "folder": model.name,
        "special_tokens": list(small.special_tokens),
        "model_impl": "auto",
        "trust_remote_code": False,
    }


if __name__ == "__main__":
    main()
