"""Runs engines of vLLM 0.19.1 and writes which layers ran: `PYTHON hostile_engines.py JOBS.json OUT.json [PROCESSES]`.

Runs in a serving environment. A job is a model folder, a value of the flag, options of the launch, variables, and the
prompts' lengths. vLLM is imported once, and each job is a fork of this process. On a CPU vLLM calls Python for the MoE
layers; here it calls the operator that a GPU calls, so that the flag acts as there. Beside vLLM's word for "the next
layer" each call carries the name of its own layer, so that one engine shows what was meant and what ran.
"""
# ruff: noqa: PLC0415, SLF001  vLLM is imported once the variables are set; its own parts are what is watched

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT_S = 240
MARK = "|"
PAST_THE_END = "past the end"
"""In place of a layer's name: vLLM's assertion, which stops the engine unless the model catches it."""
VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_DISABLE_COMPILE_CACHE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}


def call_as_a_gpu(calls: list[tuple[str, str]]) -> None:
    """Send each MoE call through vLLM's operator, and note the layer that it means and the one that it gets."""
    import torch
    from vllm.model_executor.layers.fused_moe.runner import default_moe_runner

    def select(self: Any, _layer: Any) -> Any:
        alone = self.shared_experts is None
        return torch.ops.vllm.moe_forward if alone else torch.ops.vllm.moe_forward_shared

    runner = default_moe_runner.DefaultMoERunner
    resolve = default_moe_runner.get_layer_from_name
    encode = runner._encode_layer_name

    def encode_with_layer(self: Any) -> str:
        return f"{encode(self)}{MARK}{self.layer_name}"

    def resolve_and_note(name: str) -> Any:
        word, _, meant = name.partition(MARK)
        calls.append((meant or word, PAST_THE_END))
        layer = resolve(word)
        calls[-1] = meant or word, layer.layer_name
        return layer

    runner._select_forward, runner._encode_layer_name = select, encode_with_layer
    default_moe_runner.get_layer_from_name = resolve_and_note


def load_as_from_a_checkpoint() -> None:
    """Call the model's `load_weights` behind made-up weights, with one tensor."""
    import torch
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    draw = DummyModelLoader.load_weights

    def load(self: Any, model: Any, config: Any) -> None:
        draw(self, model, config)
        model.load_weights([("lm_head.weight", torch.zeros(1))])

    DummyModelLoader.load_weights = load


def compile_as_a_gpu() -> None:
    """Keep the mode that a GPU has, with its cache of compiled code.

    vLLM's own passes over the graph are left out: they need operators of a GPU.
    """
    from vllm.compilation.backends import PostGradPassManager
    from vllm.platforms.cpu import CpuPlatform

    settle = CpuPlatform.check_and_update_config

    def with_its_mode(config: Any) -> None:
        mode = config.compilation_config.mode
        settle(config)
        config.compilation_config.mode = mode

    CpuPlatform.check_and_update_config = staticmethod(with_its_mode)
    PostGradPassManager.configure = lambda _self, _config: None
    PostGradPassManager.__call__ = lambda _self, _graph: None
    PostGradPassManager.uuid = lambda _self: "none"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One engine: for each prompt length the layers that were meant and ran, or what stopped it."""
    from vllm import LLM, SamplingParams

    greedy = SamplingParams(max_tokens=1, temperature=0, detokenize=False)
    calls: list[tuple[str, str]] = []
    call_as_a_gpu(calls)
    load_as_from_a_checkpoint()
    if job["cached"]:
        compile_as_a_gpu()
    engine = LLM(
        model=job["folder"],
        load_format="dummy",
        skip_tokenizer_init=True,
        enable_prefix_caching=False,
        **{
            "max_model_len": 600,
            "max_num_seqs": 4,
            "max_num_batched_tokens": 512,
            "num_gpu_blocks_override": 40,
            **job["options"],
        },
        compilation_config={**job["compilation"], "fast_moe_cold_start": job["flag"]},
    )
    launch = engine.llm_engine.vllm_config.compilation_config
    answer: dict[str, Any] = {"registered": list(launch.static_all_moe_layers), "passes": {}}
    for length in job["prompts"]:
        calls.clear()
        tokens = [number % 500 for number in range(length)]
        try:
            engine.generate([{"prompt_token_ids": tokens}], greedy, use_tqdm=False)
        except BaseException as error:  # noqa: BLE001  whatever stops an engine is the answer
            return {**answer, "stopped": f"{length} tokens: {type(error).__name__}: {error}"[:300]}
        answer["passes"][str(length)] = list(calls)
    return answer


def work(job: dict[str, Any], file: Path) -> None:
    """Run a job in a fork, and write its answer."""
    os.setsid()
    os.environ.update(job["variables"])
    if job["cached"]:
        os.environ.update(VLLM_DISABLE_COMPILE_CACHE="0", VLLM_CACHE_ROOT=job["cached"])
    log = os.open(file.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        answer = run(job)
    except BaseException as error:  # noqa: BLE001  as above
        answer = {"failed": f"{type(error).__name__}: {error}"[:600]}
    file.write_text(json.dumps(answer), encoding="utf-8")
    os._exit(0)


def collect_answer(running: dict[int, tuple[int, float, Path]], answers: dict[int, Any]) -> None:
    """Wait for a fork and read its answer; a fork that hangs is killed."""
    while True:
        for process, (index, begin, file) in list(running.items()):
            ended, _ = os.waitpid(process, os.WNOHANG)
            late = time.monotonic() - begin > LIMIT_S
            if late and not ended:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
            if ended or late:
                del running[process]
                text = file.read_text(encoding="utf-8") if file.exists() else '{"failed": "the process ended"}'
                answers[index] = json.loads(text)
                return
        time.sleep(0.1)


def main() -> None:
    """Run every job."""
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    processes = int(sys.argv[3]) if sys.argv[3:] else 2
    os.environ.update(VARIABLES)
    import vllm
    import vllm.v1.engine.llm_engine
    import vllm.v1.worker.cpu_worker  # noqa: F401  as above
    from vllm.plugins import load_general_plugins

    load_general_plugins()

    answers: dict[int, Any] = {}
    running: dict[int, tuple[int, float, Path]] = {}
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    for index, job in enumerate(jobs):
        process = os.fork()
        if process == 0:
            work(job, folder / f"{index}.json")
        running[process] = index, time.monotonic(), folder / f"{index}.json"
        if len(running) == processes:
            collect_answer(running, answers)
    while running:
        collect_answer(running, answers)
    Path(sys.argv[2]).write_text(json.dumps([answers[index] for index in range(len(jobs))]), encoding="utf-8")
    os._exit(0)  # what vLLM and torch do at the end may wait for threads that forks took away


if __name__ == "__main__":
    main()
