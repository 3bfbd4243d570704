"""The environment variables that vLLM hashes, as it reads them."""

from typing import Any

from vllm_launch_worker.plain import conceal, plain


def factors() -> dict[str, Any]:
    """The environment variables in vLLM's keys.

    vLLM hashes all variables that it knows, except those on a list (`compile_factors` in vllm/envs.py). It sets some of
    them while it makes the config, so call this function after that.

    Returns:
        `hash`: the hash of all variables. `values`: name -> value, or the default if it is not set. The value of a
        secret is replaced by a digest.
    """
    from vllm import envs
    from vllm.config.utils import hash_factors

    variables = envs.compile_factors()
    values = {name: conceal(name, plain(value)) for name, value in variables.items()}
    return {"hash": hash_factors(variables), "values": values}
