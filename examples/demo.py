"""The main job, shown: probe published models, see what a launch would say, and serve one through the tuner.

    make demo

Everything is written below `.cache/demo`, and a second run starts afresh.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from vllm_server import SERVER_ENVIRONMENT, effective_flag, running_server

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".envs" / "current" / "bin" / "python"
TUNER = Path(sys.executable).with_name("tuner")
WORK = ROOT / ".cache" / "demo"
OURS = ("--python", str(PYTHON.relative_to(ROOT)), "--store", str((WORK / "verdicts.sqlite").relative_to(ROOT)))
UNIFORM = "examples/models/Qwen--Qwen3-30B-A3B"
CONDITIONAL = "examples/models/baidu--ERNIE-4.5-VL-28B-A3B-PT"
PROMPT = "the river carries"


def main() -> None:
    """Run the steps in order; the first that fails ends the demo with its exit code."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    tuner("env", *OURS[:2])
    heading("Two published models, run inside a real vLLM and judged")
    tuner("probe", *OURS, UNIFORM, CONDITIONAL)
    heading("What is remembered, and the launch it leads to")
    tuner("verdicts", "list", *OURS[2:])
    tuner("plan", UNIFORM, *OURS, "--", "--max-model-len", "4096")
    tuner("plan", CONDITIONAL, *OURS)
    heading("A real server through the tuner, on a small checkpoint made here")
    serve_a_checkpoint(WORK / "checkpoint")


def heading(text: str) -> None:
    """Set a step apart."""
    print(f"\n=== {text}\n", flush=True)


def tuner(*arguments: str) -> None:
    """Run one command of the tuner and show it as typed."""
    print(f"$ tuner {shlex.join(arguments)}", flush=True)
    done = subprocess.run([TUNER, *arguments], cwd=ROOT, check=False)
    print(flush=True)
    if done.returncode:
        sys.exit(done.returncode)


def serve_a_checkpoint(model: Path) -> None:
    """Make a checkpoint, probe it, serve it, and ask for one completion."""
    environment = {**os.environ, **SERVER_ENVIRONMENT}
    subprocess.run([PYTHON, ROOT / "examples" / "tiny_checkpoint.py", model], cwd=WORK, env=environment, check=True)
    tuner("probe", *OURS, str(model.relative_to(ROOT)))
    absolute = ("--python", str(PYTHON), "--store", str(WORK / "verdicts.sqlite"))
    serve = ("serve", *absolute, str(model), "--enforce-eager", "--max-model-len", "256")
    print(f"$ tuner {shlex.join(serve)}   (a CPU takes one to two minutes to start)", flush=True)
    begin = time.monotonic()
    with running_server((str(TUNER), *serve), WORK / "server") as server:
        print(next(line for line in server.log_text().splitlines() if line.startswith("tuner: ")))
        print(f"the server is up after {time.monotonic() - begin:.0f} s, with fast_moe_cold_start =", end=" ")
        print(effective_flag(server.log_text()), "in the engine's own log line")
        print(f"prompt:     {PROMPT}\ncompletion: {server.complete(PROMPT)}")


if __name__ == "__main__":
    main()
