"""The replay probe: the engine of a launch, its MoE calls stamped on the device, real requests, and what ran."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vllm_launch_worker import engine, images, output, requests, trace

RANK = "vllm_launch_worker.rank.Rank"
OUTPUT = "output"
"""Name of the requests of the output probe: what answers part over, this probe has seen run."""


def observe(request: dict, control: Path) -> dict:
    """Start the engine of a launch, send requests, and read the trace of each of its processes.

    Args:
        request: see `engine.configured`.
        control: a folder of this process alone.

    Returns:
        `registered`: layer names; `passes`: see `trace.grouped`; `lost`: records that did not fit; `engine`: what
        the launch became; `changed`: what is otherwise than in the launch.

    Raises:
        RuntimeError: the engine, or a layer, cannot be watched.
    """
    config, changed = engine.configured(request, control, RANK, with_images=True)
    made = engine.started(config)
    found, refused = sent_all(made, senders(config))
    drawn = made.collective_rpc("weights_drawn")[0]
    engine.ended(made)
    return {
        "registered": found[-1]["registered"],
        "passes": trace.grouped([one for rank in found for one in rank["passes"]]),
        "lost": sum(rank["lost"] for rank in found),
        "engine": engine.became(config),
        "changed": [*changed, *drawn, *refused],
    }


def senders(config) -> dict:
    """The requests that fit this engine: by name, what sends them to it. Those with images are last."""

    def sending(plans: dict) -> dict:
        told = {"vocabulary": config.model_config.get_vocab_size()}
        return {name: partial(requests.send, name=name, parts=parts, **told) for name, parts in plans.items()}

    answers = partial(output.answered, asked=output.prompts(config))
    return {**sending(requests.plans(config)), OUTPUT: answers, **sending(images.plans(config))}


def sent_all(made, wanted: dict) -> tuple:
    """Send requests, see `senders`: what each process recorded for each name, and what was refused, in words."""
    found: list = []
    for name, send in wanted.items():
        try:
            found += watched(made, name, send)
        except Exception as failure:
            return found, [images.refused(name, failure)]
    return found, []


def watched(made, name: str, send: Callable) -> list:
    """Send the requests of one name.

    Returns:
        What each process recorded meanwhile, see `rank.Rank.moe_calls`; each pass carries the name.
    """
    made.collective_rpc("moe_calls_clear")
    send(made)
    ranks = made.collective_rpc("moe_calls")
    return [{**rank, "passes": [{**one, "request": name} for one in rank["passes"]]} for rank in ranks]
