"""The replay probe: starts the engine of a launch, stamps its MoE calls on the device, and records real requests."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared_worker.vllm_types import Engine, VllmConfig
from vllm_launch_worker import engine, images, output, requests, trace

RANK = "vllm_launch_worker.rank.Rank"
OUTPUT = "output"
"""Name of the requests of the output probe: so this probe has seen what runs where engines' answers differ."""

Senders = dict[str, Callable[[Engine], object]]


def observe(request: dict[str, Any], control: Path) -> dict[str, Any]:
    """Start the engine of a launch, send requests, and read the trace of each of its processes.

    Args:
        request: see `engine.configured`.
        control: a folder that only this process uses.

    Returns:
        `registered`: layer names; `passes`: see `trace.grouped`; `lost`: records that did not fit; `engine`: see
        `engine.became`; `changed`: what differs from the launch, in words.

    Raises:
        RuntimeError: the engine, or a layer, cannot be watched.
    """
    config, changed = engine.configured(request, control, RANK, with_images=True)
    llm = engine.started(config)
    ranks, refused = sent_all(llm, senders(config))
    drawn = llm.collective_rpc("weights_drawn")[0]
    engine.ended(llm)
    return {
        "registered": ranks[-1]["registered"],
        "passes": trace.grouped([entry for rank in ranks for entry in rank["passes"]]),
        "lost": sum(rank["lost"] for rank in ranks),
        "engine": engine.became(config),
        "changed": [*changed, *drawn, *refused],
    }


def senders(config: VllmConfig) -> Senders:
    """The requests that fit this engine: name -> a function that sends them. Those with images are last."""
    vocabulary = config.model_config.get_vocab_size()

    def sending(plans: requests.Plans) -> Senders:
        by_name: Senders = {}
        for name, parts in plans.items():
            by_name[name] = partial(requests.send, name=name, parts=parts, vocabulary=vocabulary)
        return by_name

    answers = partial(output.answered, requests=output.prompts(config))
    return {**sending(requests.plans(config)), OUTPUT: answers, **sending(images.plans(config))}


def sent_all(llm: Engine, by_name: Senders) -> tuple[list[dict[str, Any]], list[str]]:
    """Send all requests, see `senders`: the records of each process for each name, and in words what was refused."""
    ranks: list[dict[str, Any]] = []
    for name, send in by_name.items():
        try:
            ranks += watched(llm, name, send)
        except Exception as failure:
            return ranks, [images.refused(name, failure)]
    return ranks, []


def watched(llm: Engine, name: str, send: Callable[[Engine], object]) -> list[dict[str, Any]]:
    """Send the requests of one name.

    Returns:
        The records of each process, see `rank.Rank.moe_calls`; each pass also holds the name as `request`.
    """
    llm.collective_rpc("moe_calls_clear")
    send(llm)
    ranks: list[dict[str, Any]] = llm.collective_rpc("moe_calls")
    for rank in ranks:
        rank["passes"] = [{**entry, "request": name} for entry in rank["passes"]]
    return ranks
