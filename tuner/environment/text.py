"""An environment as text."""

from rules.releases import Flag
from tuner.environment.environment import Environment
from tuner.text import line


def environment_text(environment: Environment, flag: Flag) -> str:
    """What `tuner env` prints."""
    versions = {name: getattr(environment, name) or "not installed" for name in ("torch", "triton", "transformers")}
    vllm = f"{environment.vllm} ({environment.vllm_distribution})" if environment.vllm else "not installed"
    gpus = f"{environment.gpu_count} x {environment.gpu}" if environment.gpu else "none"
    rows = {"python": environment.python, "vllm": vllm, **versions, "platform": environment.platform, "gpu": gpus}
    plugins = {"plugins": ", ".join(environment.platform_plugins)} if environment.platform_plugins else {}
    said = {"flag status": flag.status, "": flag.reason, "source": flag.source or "none"}
    return "\n".join(line(label, text) for label, text in (rows | plugins | said).items())
