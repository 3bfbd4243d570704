"""The replay probe: starts the engine of a launch, sends requests, and records the MoE calls on the device."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared_worker.vllm_types import Engine, VllmConfig
from vllm_launch_worker import engine, images, output, requests, trace

RANK = "vllm_launch_worker.rank.Rank"
OUTPUT = "output"
"""The name of the requests of `output.prompts`. `tuner tune` compares their answers. Here their passes are recorded."""

Senders = dict[str, Callable[[Engine], object]]


def observe(request: dict[str, Any], control: Path) -> dict[str, Any]:
    """Start the engine of a launch, send requests, and read the records of each of its processes.

    Args:
        request: see `engine.make_config`.
        control: a folder that only this process uses.

    Returns:
        `registered`: the names of the MoE layers. `passes`: see `trace.group`. `lost`: the number of records that did
        not fit into the buffers. `engine`: see `engine.final_settings`. `changed`: one sentence for each difference
        from the launch.

    Raises:
        RuntimeError: the MoE calls of the engine, or of a layer, cannot be recorded.
    """
    config, changed = engine.make_config(request, control, RANK, with_images=True)
    llm = engine.start(config)
    ranks, refusals = send_all(llm, senders(config))
    weight_notes = llm.collective_rpc("weights_drawn")[0]
    engine.end(llm)
    passes: list[dict[str, Any]] = []
    for rank in ranks:
        passes += rank["passes"]
    return {
        "registered": ranks[-1]["registered"],
        "passes": trace.group(passes),
        "lost": sum(rank["lost"] for rank in ranks),
        "engine": engine.final_settings(config),
        "changed": [*changed, *weight_notes, *refusals],
    }


def senders(config: VllmConfig) -> Senders:
    """The requests that fit this engine: name -> a function that sends them. Image requests come last."""
    vocabulary = config.model_config.get_vocab_size()
    return {
        **senders_of(requests.plans(config), vocabulary),
        OUTPUT: partial(output.send, requests=output.prompts(config)),
        **senders_of(images.plans(config), vocabulary),
    }


def senders_of(plans: requests.Plans, vocabulary: int) -> Senders:
    """Name of each plan -> a function that sends its requests. `vocabulary` is the number of token ids."""
    by_name: Senders = {}
    for name, parts in plans.items():
        by_name[name] = partial(requests.send, name=name, parts=parts, vocabulary=vocabulary)
    return by_name


def send_all(llm: Engine, by_name: Senders) -> tuple[list[dict[str, Any]], list[str]]:
    """Send all requests. If the engine refuses an image request, the rest are not sent.

    Args:
        llm: the engine.
        by_name: see `senders`.

    Returns:
        The records of each process for each name, and a list with a sentence about the refused request.

    Raises:
        Exception: a request without an image failed.
    """
    ranks: list[dict[str, Any]] = []
    for name, send in by_name.items():
        try:
            ranks += send_and_read(llm, name, send)
        except Exception as failure:
            return ranks, [images.refusal(name, failure)]
    return ranks, []


def send_and_read(llm: Engine, name: str, send: Callable[[Engine], object]) -> list[dict[str, Any]]:
    """Send the requests of one name.

    Returns:
        The records of each process (see `rank.Rank.moe_calls`). Each pass also holds the name, as `request`.
    """
    llm.collective_rpc("moe_calls_clear")
    send(llm)
    ranks: list[dict[str, Any]] = llm.collective_rpc("moe_calls")
    for rank in ranks:
        rank["passes"] = [{**entry, "request": name} for entry in rank["passes"]]
    return ranks
