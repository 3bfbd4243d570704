"""Launches in recipes of srt-slurm, which starts a vLLM engine for each role of a job.

Of NVIDIA/srt-slurm (src/srtctl/backends/vllm.py of 009a4fa3: `_build_worker_command`, `_config_to_cli_args`). Two forms
are published: `backend.vllm_config.ROLE` with `backend.ROLE_environment`, and `roles.ROLE.args` with
`roles.ROLE.env` and `engine.type`. The model is the recipe's; `python3 -m dynamo.vllm` or `vllm serve` takes it.
"""

from collections.abc import Iterator

from tuner.manifests.launch import Argument, ManifestLaunch
from tuner.manifests.yaml.kubernetes import environment_of
from tuner.manifests.yaml.option_words import option_words
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Node, text_of

_ROLES = ("aggregated", "agg", "prefill", "decode")
_OTHERS = frozenset({"connector", "model"})
"""Options that srt-slurm reads itself; it gives the engine the model of the recipe."""


def srt_slurm_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """One launch a role; none for documents of another kind, and none for roles of another engine."""
    document = reading.document
    if not isinstance(document, Mapping) or not isinstance(document.get("model"), Mapping):
        return
    for role, options, env in _roles(document):
        if isinstance(options, Mapping):
            yield _launch(document, role, options, env)


def _roles(document: Mapping) -> Iterator[tuple[str, Node | None, Node | None]]:
    """Each role with its options and its variables, in either form."""
    of_vllm = text_of(document.get("engine", "type")) == "vllm"
    for role in _ROLES:
        yield role, document.get("backend", "vllm_config", role), document.get("backend", f"{role}_environment")
        if of_vllm:
            yield role, document.get("roles", role, "args"), document.get("roles", role, "env")


def _launch(document: Mapping, role: str, options: Mapping, env: Node | None) -> ManifestLaunch:
    path = document.get("identity", "model", "repo") or document.get("model", "path")
    model = [Argument("--model", path.line), Argument(text_of(path) or "", path.line)] if path else []
    image = document.get("identity", "container", "image") or document.get("model", "container")
    return ManifestLaunch(
        "srt-slurm",
        "/".join(filter(None, [text_of(document.get("name")), role])),
        options.line,
        (*model, *option_words(options, without=_OTHERS)),
        image=text_of(image),
        image_line=image.line if image else 0,
        env=environment_of(document.get("environment")) | environment_of(env),
    )
