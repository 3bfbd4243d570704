"""The server that a manifest starts: its name, image, arguments, port, devices and cache. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cache.secrets import SECRET_OPTIONS, secrets_in
from rules.errors import ErrorKind, TunerError
from tuner.arguments.serve_arguments import parse
from tuner.arguments.serving import Serving
from tuner.arguments.vllm_options import indexes_of_field
from tuner.exports.choices import Choices
from tuner.launch.cache_root import CACHE_ROOT
from tuner.launch.plan import Plan
from tuner.launch.startup_budget import budget, budget_sentence
from tuner.model.hub import is_hub_id

IMAGES = {"cuda": "vllm/vllm-openai", "rocm": "vllm/vllm-openai-rocm", "cpu": "vllm/vllm-openai-cpu"}
"""Platform -> vLLM's own image. Each release is tagged `vRELEASE`: CUDA all, ROCm from 0.14.0, CPU from 0.16.0."""
DEVICES = {"cuda": "nvidia.com/gpu", "rocm": "amd.com/gpu"}
"""Platform -> the resource of its device plugin."""
PORT = 8000
MAX_PORT = 65_535
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_LONGEST_NAME = 50  # of 63: suffixes of ours and of controllers come behind it


@dataclass(frozen=True)
class Server:
    """One `vllm serve` in a cluster.

    Attributes:
        name: of its objects.
        model: what is served, as the user named it.
        args: the complete list after `vllm serve`.
        without_model: `args` without the model.
        port: where it listens.
        scheme: `HTTP`, or `HTTPS` where it has a certificate.
        serving: the facts that its arguments state.
        devices: how many accelerators it needs in all.
        resource: the resource that names one; None: no device plugin is known for the platform.
        cache_root: the folder that is mounted for compile caches; None: none is.
        cache_value: value of VLLM_CACHE_ROOT; None: it is not set. It lies in that folder where there is one.
        startup_seconds: how long it may take to start.
        notes: what must be true in the cluster for it to start; whole sentences.
        weights_claim: the claim that holds or keeps the weights; None: there is none.
    """

    name: str
    model: str
    args: tuple[str, ...]
    without_model: tuple[str, ...]
    port: int
    scheme: str
    serving: Serving
    devices: int
    resource: str | None
    cache_root: str | None
    cache_value: str | None
    startup_seconds: int
    notes: tuple[str, ...]
    weights_claim: str | None = None


def server_of(plan: Plan, choices: Choices, name: str | None = None) -> Server:
    """The server of a plan.

    Args:
        plan: the launch.
        choices: the user's; a name there wins.
        name: the format's own default name; None: one made of the model's.

    Raises:
        TunerError: the chosen name is none that Kubernetes takes.
    """
    args = plan.launch.args
    serving = parse(args).serving
    model = plan.subject.model.name
    devices = serving.tensor_parallel_size * serving.pipeline_parallel_size * serving.data_parallel_size
    return Server(
        name=checked_name(choices.name) if choices.name else name or _name_of(model),
        model=model,
        args=args,
        without_model=_without_model(args),
        port=_port(args),
        scheme="HTTPS" if _last(args, "--ssl-certfile") else "HTTP",
        serving=serving,
        devices=devices,
        resource=DEVICES.get(plan.subject.environment.platform),
        cache_root=plan.launch.cache_root,
        cache_value=plan.launch.env.get(CACHE_ROOT),
        startup_seconds=budget(choices.cold_start),
        notes=(*_notes(plan, choices), *([budget_sentence(choices.cold_start)] if choices.cold_start else [])),
        weights_claim=choices.weights_claim,
    )


def image_of(plan: Plan, choices: Choices) -> str:
    """The container image: the user's, or vLLM's own of the plan's release.

    Raises:
        TunerError: none is known for the platform and release, or the user's names neither tag nor digest.
    """
    environment = plan.subject.environment
    if choices.image is not None:
        return pinned_image(choices.image)
    repository = IMAGES.get(environment.platform)
    if repository is None or re.search(r"dev|rc", environment.vllm or ""):
        message = f"No published image is known for vLLM {environment.vllm} on {environment.platform}."
        raise TunerError(message, hint="Name the image that was probed with --image.", kind=ErrorKind.USAGE)
    return f"{repository}:v{environment.vllm}"


def pinned_image(image: str) -> str:
    """The user's image.

    Raises:
        TunerError: it names neither tag nor digest.
    """
    if not re.search(r"[:@][^/]+$", image):
        raise TunerError(f"The image {image} names no tag.", hint=f"Pin it, as in {image}:TAG.", kind=ErrorKind.USAGE)
    return image


def is_folder(plan: Plan, choices: Choices) -> bool:
    """Whether the server gets the model as a path, which a container has only if it is mounted there."""
    if choices.model_name is not None:
        return not is_hub_id(choices.model_name)
    return plan.subject.model.revision is None or not is_hub_id(plan.subject.model.name)


def _notes(plan: Plan, choices: Choices) -> list[str]:
    args, name = plan.launch.args, plan.subject.model.name
    notes = []
    if is_folder(plan, choices):
        other = "" if choices.model_name else ", or --model-name NAME says what the server calls it"
        notes.append(f"the model {name} is a folder: the container needs it at that path{other}")
    if "--config" in args:
        notes.append("the arguments read a --config file: the container needs it at that path")
    notes += secret_notes(args)
    if plan.launch.cache["source"] == "compilation_config.cache_dir":
        notes.append(
            f"compile caches go to {plan.launch.cache['location']}; they last as long as what is mounted there"
        )
    return notes


def secret_notes(args: Sequence[str]) -> list[str]:
    """What to say of each option that carries a secret into a file, and what to do instead."""
    notes = []
    for option in secrets_in(args):
        variable = SECRET_OPTIONS[option][1]
        instead = f"{variable} from a Secret keeps it out of files" if variable else "keep the file to yourself"
        notes.append(f"the arguments hold a secret ({option}); {instead}")
    return notes


def _port(args: Sequence[str]) -> int:
    """The port of a launch. A value that is not a port is vLLM's to refuse; then its default stands here."""
    stated = _last(args, "--port") or ""
    is_short = stated.isdecimal() and len(stated) <= len(str(MAX_PORT))
    return int(stated) if is_short and int(stated) <= MAX_PORT else PORT


def _without_model(args: Sequence[str]) -> tuple[str, ...]:
    """The arguments behind the model, which `tuner export` always puts first; `--model` is the model's too."""
    indexes = {0, *indexes_of_field(args, "model")}
    return tuple(argument for index, argument in enumerate(args) if index not in indexes)


def _last(args: Sequence[str], option: str) -> str | None:
    """The last value of a plain option, which is the one that vLLM takes; None if the option is not used."""
    last = None
    for index, argument in enumerate(args):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == option:
            last = value if equals else next(iter(args[index + 1 :]), None)
    return last


def _name_of(model: str) -> str:
    """A name for objects: the model's last part as a DNS label that begins with a letter, as a Service's must."""
    label = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(model).name.lower()).strip("-")
    label = label if label[:1].isalpha() else f"model-{label}"
    return label[:_LONGEST_NAME].strip("-")


def checked_name(name: str) -> str:
    """The name of an object.

    Raises:
        TunerError: Kubernetes would not take it, or not with what controllers put behind it.
    """
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        hint = f"Use at most {_LONGEST_NAME} lower-case letters, digits and dashes, a letter first."
        raise TunerError(f"{name} is not a name for a Kubernetes object here.", hint=hint, kind=ErrorKind.USAGE)
    return name
