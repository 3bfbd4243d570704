"""An environment as text."""

from rules.releases import Flag
from tuner.environment.environment import Environment
from tuner.text import line, lines

NO_VLLM = "This Python has no vLLM. Name the one that serves: `tuner env --python /path/to/its/bin/python`."


def environment_text(environment: Environment, flag: Flag) -> str:
    """The output of `tuner env`."""
    vllm = f"{environment.vllm} ({environment.vllm_distribution})" if environment.vllm else "not installed"
    gpus = f"{environment.gpu_count} x {environment.gpu}" if environment.gpu else "none"
    rows = [line("python", environment.python), line("vllm", vllm)]
    rows += [line(name, getattr(environment, name) or "not installed") for name in ("torch", "triton", "transformers")]
    platform = "unspecified (no device was found)" if environment.platform == "unspecified" else environment.platform
    rows += [line("platform", platform), line("gpu", gpus)]
    if environment.platform_packages:
        rows.append(lines("platform of", environment.platform_packages))
    reason = flag.reason if environment.vllm else NO_VLLM
    rows += [line("flag status", flag.status), line("", reason), line("source", flag.source or "none")]
    return "\n".join(rows)
