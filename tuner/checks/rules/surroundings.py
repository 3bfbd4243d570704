"""What the arguments of a launch and its pod say together: shared by the rules on pods. Pure.

What is not stated for certain is None, and no rule judges it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from rules.autotune import Keeping, autotune_of
from rules.compile_variables import RELEASES
from rules.decide import MODE_KEY
from rules.releases import named_release, numbers_of
from tuner.arguments.autotune import autotune_is_on, measuring_ranks
from tuner.arguments.vllm_options import scan
from tuner.checks.cache_place import root_of, volume_of
from tuner.checks.examine import Examined, launch_platform
from tuner.launch.plan import as_bool, compiles
from tuner.manifests.launch import STACK, WHOLE, ManifestLaunch, Pod, Runtime

DEFAULT_PORT = "8000"
"""Of `vllm serve` (`port` of vllm/entrypoints/openai/cli_args.py, 0.14.1 to 0.32.0)."""
COMPILED = "torch_compile_cache"
"""Folder of the compile cache below the cache root (vllm/compilation/backends.py, all releases)."""
AUTOTUNE = "flashinfer_autotune_cache"
"""Folder of the trees of FlashInfer's autotune below the cache root (`cache.compiled.autotune`)."""
TREES = "VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR"
"""The folder of these trees, in place of one below the cache root (vllm/envs.py, 0.22.0 to 0.33.0)."""
_OF_AUTOTUNE = ("flashinfer_autotune", "kernel_config", "optimization_level", "data_parallel_size")
UNSPECIFIED = "unspecified"
"""What an environment calls a platform that nothing states."""
_NEVER_CACHED = "VLLM_DISABLE_COMPILE_CACHE"
_NO_CACHE = re.compile(r"cpu\Z|tpu\Z|oot:")
"""Platforms with another mode (`check_and_update_config` of vllm/platforms/cpu.py), or another compiler."""
_CACHED_MODES = frozenset({"3", "VLLM_COMPILE"})
"""The mode that has a cache; the others compile in memory (`CompilationMode` of vllm/config/compilation.py)."""
_FIRST_KNOWN = numbers_of(RELEASES[0])
"""The first release that was read; vLLM 0.6 does not compile."""
_NO_PORT = ("--headless", "--uds", "--data-parallel-multi-port-external-lb", "-dpm")
"""With these vLLM listens at no port, or at several."""


@dataclass(frozen=True)
class Stated:
    """The value of an option.

    Attributes:
        text: None where it is not known.
        line: where it is stated.
    """

    text: str | None
    line: int


def whole_pod(examined: Examined) -> Pod | None:
    """What surrounds a launch whose manifest states all of it; None for any other."""
    launch = examined.launch
    if launch.pod is None or not launch.image:
        return None
    is_pod = launch.pod.runtime is Runtime.KUBERNETES
    return launch.pod if not is_pod or launch.shape in WHOLE else None


def sized_pod(examined: Examined) -> Pod | None:
    """The same, or the pod that production-stack's chart makes: its values state the GPUs and shared memory of it."""
    launch = examined.launch
    return launch.pod if launch.image and launch.shape == STACK else whole_pod(examined)


def unit_of(pod: Pod) -> str:
    """What is made anew when a launch starts anew: a pod, or a container of Docker."""
    return "pod" if pod.runtime is Runtime.KUBERNETES else "container"


def platform_of(examined: Examined) -> str:
    """The platform that serves, by the environment or else by the image's name; empty if neither says."""
    stated = examined.plan.subject.environment.platform if examined.plan else launch_platform(examined.launch)
    return "" if stated in {None, UNSPECIFIED} else str(stated)


def are_seen(examined: Examined) -> bool:
    """Whether all arguments are seen."""
    return examined.arguments is not None and not examined.hidden and stated(examined.launch, "--config") is None


def stated(launch: ManifestLaunch, *spellings: str) -> Stated | None:
    """The last value of an option, which is the one that counts; None where it is not set."""
    value = None
    for index, word in enumerate(launch.words):
        name, equals, text = word.text.partition("=")
        if _plain(name) not in spellings:
            continue
        if equals:
            value = Stated(None if word.unknown else text, word.line)
        else:
            behind = next(iter(launch.words[index + 1 : index + 2]), None)
            value = Stated(None if behind is None or behind.unknown else behind.text, word.line)
    return value


def options_of(launch: ManifestLaunch) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each option of a launch with its values, in order; bare words in front of all options belong to an empty name."""
    name = ""
    values: list[str] = []
    for word in launch.words:
        if word.text.startswith("-") and not word.text.lstrip("-")[:1].isdigit():
            yield name, tuple(values)
            option, equals, value = word.text.partition("=")
            name, values = _plain(option), [value] if equals else []
        else:
            values.append(word.text)
    yield name, tuple(values)


def are_known(examined: Examined, *fields: str) -> bool:
    """Whether the arguments state these fields of `Serving` as values, and not as variables."""
    launch = examined.launch
    settings = [setting for setting in scan(launch.args)[0] if setting.option.field in fields]
    return not any(word.unknown for setting in settings for word in launch.words[setting.start : setting.stop])


def api_port(examined: Examined) -> Stated | None:
    """The port at which vLLM answers; None where there is not one, or it is not known."""
    launch = examined.launch
    if not are_seen(examined) or stated(launch, *_NO_PORT):
        return None
    port = stated(launch, "--port")
    if port is None:
        return Stated(DEFAULT_PORT, launch.line) if whole_pod(examined) else None
    return port if port.text and port.text.isdecimal() else None


def fills_a_cache(examined: Examined) -> bool:
    """Whether the launch surely compiles, and vLLM keeps what it compiled."""
    arguments, release = examined.arguments, named_release(examined.version)
    if arguments is None or examined.hidden or as_bool(examined.launch.env.get(_NEVER_CACHED) or ""):
        return False
    if _NO_CACHE.match(platform_of(examined)) or (release is not None and release.release < _FIRST_KNOWN):
        return False
    mode = arguments.compilation_config.get(MODE_KEY)
    if mode is not None:
        return str(mode).strip().upper() in _CACHED_MODES
    return compiles(arguments) is not False


def cache_folder(examined: Examined) -> str | None:
    """The folder of the compile cache, with `/root` for a home that is not stated; None where a variable hides it."""
    root = root_of(examined.launch)
    if root is None:
        return None
    config = examined.arguments.compilation_config if examined.arguments else {}
    return str(config.get("cache_dir") or f"{root.rstrip('/')}/{COMPILED}")


def tree_folder(examined: Examined) -> str | None:
    """The folder of the trees of FlashInfer's autotune; None where a variable hides it."""
    env, root = examined.launch.env, root_of(examined.launch)
    if root is None or env.get(TREES, "") is None:
        return None
    return env.get(TREES) or f"{root.rstrip('/')}/{AUTOTUNE}"


def keeps_a_tree(examined: Examined) -> bool:
    """Whether FlashInfer's autotune may run, and this vLLM keeps what it measures of such a launch."""
    span, arguments = autotune_of(examined.version), examined.arguments
    if span is None or arguments is None or not are_seen(examined) or not are_known(examined, *_OF_AUTOTUNE):
        return False
    if platform_of(examined) != "cuda" or not autotune_is_on(arguments):
        return False
    if span.keeping is Keeping.ONE_RANK:
        return measuring_ranks(arguments) == 1
    return span.keeping is not Keeping.NOWHERE


def named(folder: str) -> str:
    """The folder of a compile cache as a message names it: the cache root, or the `cache_dir` that is set."""
    return folder.removesuffix(f"/{COMPILED}")


def place_of(examined: Examined, folder: str) -> str | None:
    """What tells a folder on a pod's volume from others; None if it lies on none, or on one of the pod's own.

    Claims of one name in several folders of manifests may be of several namespaces.
    """
    volume = volume_of(folder, examined.launch.pod) if examined.launch.pod else None
    if volume is None or not volume.source:
        return None
    near = str(PurePath(examined.path).parent)
    return f"{near} {volume.source}/{folder.removeprefix(volume.path.rstrip('/')).strip('/')}"


def _plain(name: str) -> str:
    """An option's name as vLLM's parser reads it: underscores in front of dotted keys are dashes."""
    option, dot, keys = name.partition(".")
    return (option.replace("_", "-") if option.startswith("--") else option) + dot + keys
