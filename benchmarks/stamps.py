"""What the stamps of the replay probe cost, and whether each is written, whole and in order.

    PYTHON benchmarks/stamps.py [--replays 100000] trace         # with a Python that has torch; on a GPU, CUDA graphs
    PYTHON benchmarks/stamps.py [--layers 48] [--runs 10] step [-- VLLM ARGS]  # with one that has vLLM

`trace` stamps as a model of 48 MoE layers would, again and again, and compares every record with what must be there.
`step` decodes with a thin model, without stamps and with them in turn. Each run has a process of its own, a fork of one
process that has imported vLLM and has not touched the GPU.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tuner" / folder / "worker") for folder in ("engines", "processes")]

from vllm_launch_worker import engine as engines  # noqa: E402  after the path was set
from vllm_launch_worker import launch, replay  # noqa: E402  as above
from vllm_launch_worker.ring import Ring, operator, use  # noqa: E402  as above
from vllm_launch_worker.trace import CALLED, RAN  # noqa: E402  as above

LAYERS, CHUNK, STEPS, SEQUENCES = 48, 5_000, 200, 8


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description="Measure the stamps of the replay probe.")
    parser.add_argument("what", choices=["trace", "step"])
    parser.add_argument("--replays", type=int, default=100_000)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--runs", type=int, default=1, help="of `step`, without stamps and with them")
    parser.add_argument("args", nargs="*")
    options = parser.parse_args()
    if options.what == "trace":
        print(json.dumps(trace(options.replays), indent=1))
    else:
        print(json.dumps(step(options.layers, options.runs, options.args), indent=1))


def trace(replays: int) -> dict[str, Any]:
    """Stamp a pass of `LAYERS` calls `replays` times, and compare every record with the expected one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ring = Ring(device, capacity=CHUNK * LAYERS * 2)
    use(ring)
    run = pass_of_stamps(ring, device)
    faults = {"wrong": 0, "lost": 0}
    seconds = 0.0
    for start in range(0, replays, CHUNK):
        count = min(CHUNK, replays - start)
        ring.clear()
        seconds += seconds_of(lambda count=count: run_passes(ring, run, count), device)
        record_count = int(ring.cursor.item())
        faults["lost"] += count * 2 * LAYERS - record_count
        differences = ring.records[:record_count].cpu() != expected_records(count)[:record_count]
        faults["wrong"] += int(differences.any(dim=1).sum())
    idle = seconds_of(lambda: [ring.begin_pass() for _ in range(CHUNK)], device) / CHUNK
    per_stamp = (seconds / replays - idle) / (2 * LAYERS) * 1e6
    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    records = replays * 2 * LAYERS
    return {"device": name, "replays": replays, "records": records, **faults, "us_per_stamp": round(per_stamp, 3)}


def run_passes(ring: Ring, run: Callable[[], object], count: int) -> None:
    """Begin `count` passes, and run each."""
    for _ in range(count):
        ring.begin_pass()
        run()


def pass_of_stamps(ring: Ring, device: str) -> Callable[[], object]:
    """The stamps of a pass, on a GPU as a CUDA graph."""
    stamp, hidden = operator(), torch.zeros((8, 64), device=device)
    layers = [torch.tensor([index], dtype=torch.int32, device=device) for index in range(LAYERS)]

    def stamps() -> None:
        for layer in layers:
            stamp(hidden, ring.token, layer, CALLED, 8)
            stamp(hidden, ring.token, layer, RAN, 8)

    if device == "cpu":
        return stamps
    stamps()  # compiles the kernel, which a capture cannot
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stamps()
    return graph.replay


def expected_records(count: int) -> Any:
    """The records of `count` passes."""
    records = torch.tensor(
        [[kind, index, 0, 8] for index in range(LAYERS) for kind in (CALLED, RAN)], dtype=torch.int32
    )
    rows = records.repeat(count, 1)
    rows[:, 2] = torch.arange(1, count + 1, dtype=torch.int32).repeat_interleave(len(records))
    return rows


def seconds_of(function: Callable[[], object], device: str) -> float:
    """Seconds of a call, until the device has finished."""
    begin = time.monotonic()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - begin


def step(layers: int, runs: int, args: list[str]) -> dict[str, Any]:
    """Milliseconds of a decode step of a thin model, without stamps and with them: the median of several runs."""
    results: dict[str, list[dict[str, Any]]] = {"bare": [], "stamped": []}
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # before vLLM is imported
    import vllm.v1.engine.llm_engine  # noqa: PLC0415  `trace` does without vLLM
    import vllm.v1.worker.gpu_model_runner  # noqa: F401, PLC0415  as above

    with tempfile.TemporaryDirectory(prefix="stamps-") as folder:
        model = Path(folder) / "model"
        script = ROOT / "examples" / "tiny_checkpoint.py"
        subprocess.run([sys.executable, script, model, "--layers", str(layers)], check=True, stdout=sys.stderr)
        with multiprocessing.get_context("fork").Pool(1, logs_to_stderr, maxtasksperchild=1) as pool:
            for name in [*results] * runs:
                results[name].append(pool.apply(engine, ([str(model), *args],), {"stamped": name == "stamped"}))
    summaries = {name: median_of(engines) for name, engines in results.items()}
    before, after = summaries["bare"]["median_ms"], summaries["stamped"]["median_ms"]
    return {"layers": layers, "sequences": SEQUENCES, **summaries, "overhead": round(after / before - 1, 4)}


def logs_to_stderr() -> None:
    """Let this process write its standard output, such as vLLM's log, to its standard error."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def median_of(engines: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings of the last engine, the median of all engines' medians, and the medians themselves."""
    medians = [result["median_ms"] for result in engines]
    return {**engines[-1], "median_ms": round(statistics.median(medians), 4), "each_ms": medians}


def engine(args: list[str], *, stamped: bool) -> dict[str, Any]:
    """The median of `STEPS` decode steps of `SEQUENCES` sequences, in milliseconds."""
    from vllm import SamplingParams  # noqa: PLC0415  `trace` does without vLLM

    arguments = launch.engine_args(args)
    arguments.skip_tokenizer_init = True
    if stamped:
        arguments.worker_extension_cls = replay.RANK
    config = launch.config_of(arguments)
    engine = engines.start(config)
    params = SamplingParams(max_tokens=STEPS + 20, ignore_eos=True, detokenize=False)
    for index in range(SEQUENCES):
        engine.add_request(str(index), {"prompt_token_ids": [20 + index] * 16}, params)
    times = []
    while engine.has_unfinished_requests():
        begin = time.monotonic()
        engine.step()
        times.append(time.monotonic() - begin)
    steady = times[10:-5]
    return {
        "median_ms": round(statistics.median(steady) * 1e3, 4),
        "steps": len(steady),
        **engines.final_settings(config),
    }


if __name__ == "__main__":
    main()
