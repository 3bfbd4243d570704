"""Starts one arm of a launch, sends it the prompts that every arm gets, and measures what enters its experts.

The arm is an ordinary launch: all that sets it apart from the others stands in its arguments. Its compiled graphs hold
nothing of ours, because the inputs of experts are measured within vLLM's own MoE operator.
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
        request: see `engine.configured`.
        control: a folder that only this process uses.

    Returns:
        `prompts`: see `prompts.described`. `inputs`: see `inputs_of`. `engine` and `passes`: see `became`; besides,
        `weights`: the bytes of all weights, over all processes. `backends`: see `backends.described`. `seconds`:
        seconds by phase (`timing.phases`), of a start and of a decode step. `cache`: bytes of the caches that this
        start wrote. `changed`: one sentence for each difference from the launch.

    Raises:
        RuntimeError: the engine cannot be started on this machine, or did not answer every prompt.
    """
    config, changed = engine.configured(request, control, RANK, with_images=True)
    clock = timing.Clock()
    llm = engine.started(config)
    seconds = clock.phases(control, llm.collective_rpc("phases")[0], config)
    answers, inputs, refused = answered(llm, config)
    weight_notes = llm.collective_rpc("weights_drawn")[0]
    backends = llm.collective_rpc("moe_backends")[0]
    weights = sum(llm.collective_rpc("weight_bytes"))
    engine.ended(llm)
    tokenizer = tokenizer_of(config)
    return {
        "prompts": [prompts.described(answer, tokenizer) for answer in answers.values()],
        "inputs": inputs,
        "engine": {**became(config), "weights": weights},
        "passes": passes(config),
        "backends": backends,
        "seconds": {**seconds, **timing.of_steps(answers)},
        "cache": timing.cache_size(control),
        "changed": [*changed, *weight_notes, *refused],
    }


def tokenizer_of(config: VllmConfig) -> Any:
    """The model's tokenizer, which the engine itself does not load. None if its files are not here."""
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


def answered(llm: Engine, config: VllmConfig) -> tuple[dict[str, prompts.Answer], list[dict[str, Any]], list[str]]:
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
            answers |= prompts.sent(llm, wave)
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


def became(config: VllmConfig) -> dict[str, Any]:
    """The settings of `engine.became`, and those that arms vary besides.

    Returns:
        `dtype`: of the model. `quantization`: its method, None without one. `moe_backend`: the launch's choice, None if
        this release has none. `captured`: how many sizes of batches are captured as CUDA graphs. `largest`: the largest
        of them.
    """
    sizes = config.compilation_config.__dict__.get("cudagraph_capture_sizes") or []
    kernels = getattr(config, "kernel_config", None)
    return {
        **engine.became(config),
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
