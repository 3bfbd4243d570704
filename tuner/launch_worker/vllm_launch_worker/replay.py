"""The replay probe: the engine of a launch, its MoE calls stamped on the device, real requests, and what ran."""

from pathlib import Path

from vllm_launch_worker import engine, images, requests, trace

RANK = "vllm_launch_worker.rank.Rank"


def observe(request: dict, control: Path) -> dict:
    """Start the engine of a launch, send requests, and read the trace of each of its processes.

    Args:
        request: see `engine.configured`.
        control: a folder of this process alone.

    Returns:
        `registered`: layer names; `passes`: see `trace.grouped`; `lost`: records that did not fit; `requests`: which
        fit; `engine`: what the launch became; `changed`: what is otherwise than in the launch.

    Raises:
        RuntimeError: the engine, or a layer, cannot be watched.
    """
    config, changed = engine.configured(request, control, RANK, with_images=True)
    made, plans = engine.started(config), plans_for(config)
    found, refused = sent_all(made, config, plans)
    engine.ended(made)
    return {
        "registered": found[-1]["registered"],
        "passes": trace.grouped([one for rank in found for one in rank["passes"]]),
        "lost": sum(rank["lost"] for rank in found),
        "requests": list(plans),
        "engine": {**engine.became(config), "processes": config.parallel_config.world_size},
        "changed": [*changed, *refused],
    }


def plans_for(config) -> dict:
    """The requests that fit this engine."""
    scheduler = config.scheduler_config
    sizes = (config.model_config.max_model_len, scheduler.max_num_batched_tokens, scheduler.max_num_seqs)
    return {**requests.plans(*sizes), **images.plans(config)}


def sent_all(made, config, plans: dict) -> tuple:
    """Send all requests: what each process recorded for each plan, and what was refused, in words."""
    found: list = []
    for name, parts in plans.items():
        try:
            found += sent(made, config, name, parts)
        except Exception as failure:
            return found, [images.refused(name, failure)]
    return found, []


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
