"""The replay probe: the engine of a launch, its MoE calls stamped on the device, real requests, and what ran."""

from pathlib import Path

from vllm_launch_worker import engine, requests, trace

RANK = "vllm_launch_worker.rank.Rank"


def observe(request: dict, control: Path) -> dict:
    """Start the engine of a launch, send requests, and read the trace of each of its processes.

    Args:
        request: see `engine.configured`.
        control: a folder of this process alone.

    Returns:
        `registered`: layer names; `passes`: see `trace.grouped`; `lost`: records that did not fit; `requests`: which
        were sent; `engine`: what the launch became; `changed`: what is otherwise than in the launch.

    Raises:
        RuntimeError: the engine, or a layer, cannot be watched.
    """
    config, changed = engine.configured(request, control, RANK)
    made = engine.started(config)
    found = [one for name, parts in plans_for(config).items() for one in sent(made, config, name, parts)]
    engine.ended(made)
    return {
        "registered": found[-1]["registered"],
        "passes": trace.grouped([one for rank in found for one in rank["passes"]]),
        "lost": sum(rank["lost"] for rank in found),
        "requests": list(plans_for(config)),
        "engine": {**engine.became(config), "processes": config.parallel_config.world_size},
        "changed": changed,
    }


def plans_for(config) -> dict:
    """The requests that fit this engine."""
    scheduler = config.scheduler_config
    return requests.plans(config.model_config.max_model_len, scheduler.max_num_batched_tokens, scheduler.max_num_seqs)


def sent(made, config, name: str, parts: list) -> list:
    """Send the requests of one plan.

    Returns:
        What each process recorded meanwhile, see `rank.Rank.moe_calls`; each pass carries the plan's name.
    """
    made.collective_rpc("moe_calls_clear")
    for _ in requests.send(made, name, parts, config.model_config.get_vocab_size()):
        pass
    ranks = made.collective_rpc("moe_calls")
    return [{**rank, "passes": [{**one, "request": name} for one in rank["passes"]]} for rank in ranks]
