"""The environment variables that vLLM hashes, as it reads them."""

from typing import Any

from vllm_launch_worker.plain import concealed, plain


def factors() -> dict[str, Any]:
    """`hash`: of all variables; `values`: name -> value or default. The value of a secret is a digest.

    vLLM counts every variable that it knows and does not leave out (vllm/envs.py, `compile_factors`). It sets some
    while it makes the config, so call this afterwards.
    """
    from vllm import envs
    from vllm.config.utils import hash_factors

    variables = envs.compile_factors()
    values = {name: concealed(name, plain(value)) for name, value in variables.items()}
    return {"hash": hash_factors(variables), "values": values}
