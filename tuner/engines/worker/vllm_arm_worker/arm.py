"""Starts one arm of a launch, sends it the prompts that every arm gets, and measures what enters its experts.

An arm is an ordinary launch. It differs from the other arms only in its arguments. Its compiled graphs are those of
that launch, because the inputs of experts are measured within vLLM's own MoE operator.
"""

from pathlib import Path
from typing import Any

from shared_worker.vllm_types import Engine, VllmConfig
from vllm_arm_worker import prompts, timing
from vllm_launch_worker import engine

RANK = "vllm_arm_worker.rank.ArmRank"


def observe(request: dict[str, Any], control: Path) -> dict[str, Any]:
    """Start the engine of an arm, send all prompts, and time its start and its steps.

    Args:
        request: see `engine.make_config`.
        control: a folder that only this process uses.

    Returns:
        `prompts`: see `prompts.as_values`. `inputs`: see `inputs_of`. `engine`: see `final_settings`, and `weights`:
        the bytes of all weights, over all processes. `passes`: see `passes`. `backends`: see
        `backends.model_backends`. `seconds`: the seconds of each phase of the start (`timing.Clock.phases`), and of a
        decode step (`timing.of_steps`). `cache`: the bytes of the caches that this start wrote. `changed`: one sentence
        for each difference from the launch.

    Raises:
        RuntimeError: the engine cannot be started on this machine, or did not answer every prompt.
    """
    config, changed = engine.make_config(request, control, RANK, with_images=True)
    clock = timing.Clock()
    llm = engine.start(config)
    seconds = clock.phases(control, llm.collective_rpc("phases")[0], config)
    answers, inputs, refusals = send_waves(llm, config)
    weight_notes = llm.collective_rpc("weights_drawn")[0]
    backends = llm.collective_rpc("moe_backends")[0]
    weights = sum(llm.collective_rpc("weight_bytes"))
    engine.end(llm)
    tokenizer = tokenizer_of(config)
    return {
        "prompts": [prompts.as_values(answer, tokenizer) for answer in answers.values()],
        "inputs": inputs,
        "engine": {**final_settings(config), "weights": weights},
        "passes": passes(config),
        "backends": backends,
        "seconds": {**seconds, **timing.of_steps(answers)},
        "cache": timing.cache_size(control),
        "changed": [*changed, *weight_notes, *refusals],
    }


def tokenizer_of(config: VllmConfig) -> Any:
    """The model's tokenizer, which the engine itself does not load. None if it cannot be loaded."""
    model: Any = config.model_config
    try:
        from vllm.tokenizers import get_tokenizer

        return get_tokenizer(
            model.tokenizer,
            tokenizer_mode=model.tokenizer_mode,
            revision=model.tokenizer_revision,
            trust_remote_code=model.trust_remote_code,
        )
    except Exception:  # each library of tokenizers has errors of its own
        return None


def send_waves(llm: Engine, config: VllmConfig) -> tuple[dict[str, prompts.Answer], list[dict[str, Any]], list[str]]:
    """Send the waves of prompts one after another.

    If the engine refuses a wave with an image, the waves behind it are not sent.

    Returns:
        The answers by the names of their prompts, the inputs of experts (see `inputs_of`), and a list with a sentence
        about the wave that was refused.

    Raises:
        Exception: a wave without an image failed.
    """
    answers: dict[str, prompts.Answer] = {}
    inputs: list[dict[str, Any]] = []
    for wave in prompts.waves(config):
        llm.collective_rpc("inputs_clear")
        try:
            answers |= prompts.send_wave(llm, wave)
        except Exception as failure:
            if not wave.image:
                raise
            return answers, inputs, [f"no image was sent: the engine refused it: {type(failure).__name__}"]
        if wave.watched:
            inputs += inputs_of(wave, llm.collective_rpc("inputs"))
    return answers, inputs, []


def inputs_of(wave: prompts.Wave, ranks: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What entered the MoE calls of a wave with one prompt.

    Args:
        wave: the wave.
        ranks: of each process, its calls (see `inputs.Tap.read`).

    Returns:
        One entry for each call: `prompt`: the name of the prompt. `rank`: the number of the process. The other fields
        are those of the call.
    """
    entries: list[dict[str, Any]] = []
    for rank, calls in enumerate(ranks):
        entries += [{"prompt": wave.prompts[0].name, "rank": rank, **call} for call in calls]
    return entries


def final_settings(config: VllmConfig) -> dict[str, Any]:
    """The settings of `engine.final_settings`, and further settings in which arms differ.

    Returns:
        `dtype`: the data type of the model. `quantization`: its quantisation method, or None. `moe_backend`: the value
        of `--moe-backend`, None if this release does not have it. `captured`: how many sizes of batches are captured as
        CUDA graphs. `largest`: the largest of them, in tokens.
    """
    sizes = config.compilation_config.__dict__.get("cudagraph_capture_sizes") or []
    kernels = getattr(config, "kernel_config", None)
    return {
        **engine.final_settings(config),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "quantization": getattr(config.model_config, "quantization", None),
        "moe_backend": getattr(kernels, "moe_backend", None),
        "captured": len(sizes),
        "largest": max(sizes, default=0),
    }


def passes(config: VllmConfig) -> dict[str, bool]:
    """Each compiler pass of this release that is a switch -> whether it is on in this engine."""
    switches = vars(config.compilation_config.__dict__["pass_config"])
    return {name: value for name, value in switches.items() if isinstance(value, bool)}
