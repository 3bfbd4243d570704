"""A config for an architecture without any published file: the defaults of its own config class.

No network and no remote code: the classes are those that transformers and this
vLLM ship. Which class belongs to an architecture is found by name, in two
ways: transformers' own maps from model classes to model types, and a config
class named like the architecture. Where there is none, the same is tried with
the names of its relatives: other names of the class and its bases, the config
classes that its module's text names (`config: XConfig`), and the classes it is
built from.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from moe_probe_worker import completion, rereading
from moe_probe_worker.published import published, text_of, text_of_transformers
from shared_worker.vllm_types import Json

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
"""Keys that say how many routed experts a layer has; the same list as the host's, which filters by it."""
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_k", "moe_topk")
EXPERTS, TOP_K = 8, 2
"""What a class is asked for whose defaults leave experts off."""
ENDINGS = re.compile(
    r"(For[A-Z]\w*|Model|MTP|LMHeadModel|ChatModel|TextConfig|Config)$"  # what a model's and a config's name end in
)
NO_CLASS = "neither transformers nor this vLLM has a config class for it"


class Known(NamedTuple):
    """A config class: the library that lists it, its model type and its name."""

    library: str
    model_type: str
    name: str


class Wanted(NamedTuple):
    """What is known of an architecture that needs a config.

    Attributes:
        architecture: its name.
        akin: other names of its class, and those of its bases, nearest first.
        built: names of the classes that it leads to, nearest first.
        module: where its class is defined.
        multimodal: whether its class takes more than text: then a config with nested ones is preferred.
        modules: those that define what the class leads to.
        by_config: whether the config names the inner model.
    """

    architecture: str
    akin: list[str]
    built: list[str]
    module: str
    multimodal: bool
    modules: list[str]
    by_config: bool


class Finder:
    """Looks for config classes by name; what transformers and vLLM have is listed once.

    Args:
        modules: the modules that define what an architecture leads to, by its name; only registered ones have any.
    """

    def __init__(self, modules: Callable[[str], list[str]]) -> None:
        self.modules = modules
        self.model_types = architectures_of_transformers()
        self._by_type: dict[str, list[Known]] = {}
        self._by_name: dict[str, list[Known]] = {}
        self._made: dict[Known, tuple[Json, str] | None] = {}
        for config_class in known_classes():
            self._by_type.setdefault(config_class.model_type, []).append(config_class)
            for name in {config_class.name, stem(config_class.name)}:
                self._by_name.setdefault(name, []).append(config_class)

    def find(self, target: Wanted) -> Json:
        """`config`, `source` and `reason`.

        A class of the architecture's own name is taken even if its defaults have no experts: a dense sibling looks
        like that. Others are only taken with experts.
        """
        best = self._best(target.architecture, target) or self._relative(target)
        if best is None:
            return {"config": None, "source": "", "reason": NO_CLASS}
        config, source = self._fitted(*best, target)
        return {"config": {**config, "architectures": [target.architecture]}, "source": source, "reason": ""}

    def _fitted(self, config: Json, source: str, target: Wanted) -> tuple[Json, str]:
        """The config as vLLM can read it, with what the code behind the class reads besides."""
        config, loaded, left_out = rereading.readable({**config, "architectures": [target.architecture]})
        source = f"{source} without {', '.join(left_out)}" if left_out else source
        config, inner = self._named_inside(config, target)
        modules = [*target.modules]
        for name in inner:
            modules += self.modules(name)
        text = "".join(map(text_of, dict.fromkeys(modules)))
        reads = completion.Reads(text + text_of_transformers(target.module, loaded))
        config, added = completion.complete(config, loaded, reads)
        return config, completion.with_additions(source, added)

    def _named_inside(self, config: Json, target: Wanted) -> tuple[Json, list[str]]:
        """The config with the architecture of its language model, where nothing but the config names it."""
        inner: list[str] = []
        for key, value in nested(config).items() if target.by_config else ():
            names = value.get("architectures") or self._architectures(value.get("model_type", ""))
            if names:
                config, inner = {**config, key: {**value, "architectures": names}}, [*inner, *names]
        return config, inner

    def _architectures(self, model_type: str) -> list[str]:
        """The registered language model that has this model type."""
        named = [name for name, types in self.model_types.items() if model_type in types]
        named += [
            f"{config_class.name.removesuffix('Config')}ForCausalLM"
            for config_class in self._by_type.get(model_type, ())
        ]
        named = [name for name in named if name.endswith("ForCausalLM") and self.modules(name)]
        return named[:1]

    def _relative(self, target: Wanted) -> tuple[Json, str] | None:
        """Defaults with experts, of a class akin, else of one that the module names, else of one that it uses."""
        tiers = ((target.akin, "akin to"), (in_text(target.module), "read by"), (target.built, "used by"))
        for names, how in tiers:
            for name in dict.fromkeys(names):
                best = self._best(name, target)
                if best and declares_experts(best[0]) and has_parts(best[0]) == target.multimodal:
                    return best[0], f"{best[1]}: {name} is {how} this class"
        return None

    def _best(self, name: str, target: Wanted) -> tuple[Json, str] | None:
        """Defaults of the classes that belong to a name: with experts if any has them, of the right shape if any is."""
        classes: list[Known] = []
        for model_type in self.model_types.get(name, ()):
            classes += self._by_type.get(model_type, ())
        classes += [*self._by_name.get(name, ()), *self._by_name.get(stem(name), ())]
        candidates = list(filter(None, map(self._defaults, dict.fromkeys(classes))))
        candidates.sort(
            key=lambda candidate: (not declares_experts(candidate[0]), has_parts(candidate[0]) != target.multimodal)
        )
        return candidates[0] if candidates else None

    def _defaults(self, config_class: Known) -> tuple[Json, str] | None:
        """`defaults`, or None for a class that has no usable ones."""
        if config_class not in self._made:
            self._made[config_class] = None
            with suppress(Exception):
                self._made[config_class] = defaults(config_class)
        return self._made[config_class]


def architectures_of_transformers() -> dict[str, list[str]]:
    """Architecture -> model types, from every map of transformers' auto classes, in their order."""
    from transformers.models.auto import modeling_auto

    model_types: dict[str, list[str]] = {}
    for name, mapping in vars(modeling_auto).items():
        if name.endswith("_MAPPING_NAMES") and name.startswith("MODEL_"):
            for model_type, classes in mapping.items():
                for architecture in [classes] if isinstance(classes, str) else classes:
                    model_types.setdefault(architecture, []).append(model_type)
    return model_types


def known_classes() -> list[Known]:
    """Every config class with a model type, those that vLLM reads a config.json with first.

    Where vLLM reads a model type with the class of another one, transformers' own class knows more of its fields.
    """
    from transformers.models.auto import configuration_auto
    from vllm.transformers_utils import config, configs

    own: list[Known] = []
    lent: list[Known] = []
    further: list[Known] = []
    for model_type in list(config._CONFIG_REGISTRY):
        with suppress(Exception):
            cls = config._CONFIG_REGISTRY[model_type]
            (own if cls.model_type == model_type else lent).append(Known("vllm", model_type, cls.__name__))
    for name in sorted({*getattr(configs, "__all__", ())} - {config_class.name for config_class in own + lent}):
        with suppress(Exception):
            further.append(Known("vllm", getattr(configs, name).model_type, name))
    others = [Known("transformers", *item) for item in configuration_auto.CONFIG_MAPPING_NAMES.items()]
    return [*own, *others, *lent, *further]


def load(config_class: Known) -> Any:
    """Import a config class."""
    from transformers import CONFIG_MAPPING
    from vllm.transformers_utils import config, configs

    if config_class.library == "transformers":
        return CONFIG_MAPPING[config_class.model_type]
    if config_class.model_type in config._CONFIG_REGISTRY:
        return config._CONFIG_REGISTRY[config_class.model_type]
    return getattr(configs, config_class.name)


def defaults(config_class: Known) -> tuple[Json, str]:
    """The class's default config as JSON, and where it comes from.

    Where the defaults leave experts off, the class is asked again for a few.
    """
    cls = load(config_class)
    source = f"{cls.__module__.partition('.')[0]} {cls.__name__}"
    config = published(cls)
    settings = {} if declares_experts(config) else with_experts(config)
    if settings:
        arguments = ", ".join(dict.fromkeys(f"{key}={value}" for key, value in leaves(settings)))
        with suppress(Exception):
            config, source = published(cls, **settings), f"{source}({arguments})"
    config["model_type"] = config_class.model_type
    return config, source


def with_experts(config: Json) -> Json:
    """Arguments that set every expert count of the config that is unset, also in nested configs."""
    settings: Json = {}
    for key, value in nested(config).items():
        inside = with_experts(value)
        if inside:
            settings[key] = inside
    off = [key for key in EXPERT_COUNTS if key in config and config[key] in (None, 0, 1)]
    if off:
        settings |= dict.fromkeys(off, EXPERTS)
        settings |= {key: TOP_K for key in EXPERTS_PER_TOKEN if key in config and config[key] in (None, 0)}
    return settings


def declares_experts(config: Json) -> bool:
    """Whether the config asks for more than one routed expert outside its encoders."""
    for key in EXPERT_COUNTS:
        count = config.get(key)
        counts = count if isinstance(count, list) else [count]
        if any(type(item) is int and item > 1 for item in counts):
            return True
    return any(map(declares_experts, nested(config).values()))


def nested(config: Json) -> Json:
    """The configs inside that describe no encoder."""
    encoders = ("vision", "audio", "quant")
    inside: Json = {}
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("config") and not key.startswith(encoders):
            inside[key] = value
    return inside


def has_parts(config: Json) -> bool:
    """Whether the config holds one for each kind of input, or describes the language model alone."""
    return any(isinstance(value, dict) and "model_type" in value for value in config.values())


def leaves(settings: Any) -> list[tuple[str, Any]]:
    """The settings at the ends of a nested dict."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += leaves(value) if isinstance(value, dict) else [(key, value)]
    return pairs


def stem(name: str) -> str:
    """The name of a class without its endings, in small letters."""
    return re.sub(r"[^a-z0-9]", "", ENDINGS.sub("", name).lower())


def common(name: str, other: str) -> int:
    """Length of the common beginning."""
    length = 0
    for own, others in zip(name, other, strict=False):
        if own != others:
            break
        length += 1
    return length


def in_text(module: str) -> list[str]:
    """Names of config classes in a module's text, those named like the module first."""
    names = re.findall(r"\b[A-Z]\w*Config\b", text_of(module))
    last = module.rpartition(".")[2].replace("_", "")
    return sorted(names, key=lambda name: -common(stem(name), last))
