"""The environment variables that vLLM hashes, as it reads them."""

from vllm_launch_worker.plain import concealed, plain


def factors() -> dict:
    """`hash`: of all; `values`: each by name, defaults filled in; those of secrets are a digest.

    vLLM itself counts every variable that it knows and does not leave out (vllm/envs.py, `compile_factors`), and it
    sets some on its way, so this is asked once the config is made.
    """
    from vllm import envs
    from vllm.config.utils import hash_factors

    found = envs.compile_factors()
    return {"hash": hash_factors(found), "values": {name: concealed(name, plain(found[name])) for name in found}}
