"""Makes a config for an architecture from the defaults of its config class, without a published config.json.

It uses only the config classes in transformers and in this vLLM, so it needs
neither the network nor remote code. It finds the class of an architecture by
name: through transformers' maps from model classes to model types, and by a
config class with the same name. If that fails, it tries other names: those of
the model class and its bases, the config classes in its module's source text
(`config: XConfig`), and the classes that it is built from.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from moe_probe_worker import completion, rereading
from moe_probe_worker.published import published, text_of, text_of_transformers
from shared_worker.vllm_types import Json

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
"""Keys for the number of routed experts in a layer. The host filters by the same list."""
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_k", "moe_topk")
"""Keys for the number of experts that compute each token."""
EXPERTS, TOP_K = 8, 2
"""The number of experts, and of experts per token, for a config class whose defaults have no experts."""
ENDINGS = re.compile(r"(For[A-Z]\w*|Model|MTP|LMHeadModel|ChatModel|TextConfig|Config)$")
"""How the names of model classes and config classes end."""
NO_CLASS = "neither transformers nor this vLLM has a config class for it"


class ConfigClass(NamedTuple):
    """A config class: the library that has it (`vllm` or `transformers`), its model type and its name."""

    library: str
    model_type: str
    name: str


class Target(NamedTuple):
    """An architecture that needs a config.

    Attributes:
        architecture: its name.
        relatives: other names of its class, and names of the bases, nearest first.
        parts: names of the classes that it is built from, nearest first.
        module: the module that defines its class.
        multimodal: whether its class takes more than text. Then a config with nested configs is preferred.
        modules: the model modules that define its class and its inner models.
        by_config: whether the config names the inner model.
    """

    architecture: str
    relatives: list[str]
    parts: list[str]
    module: str
    multimodal: bool
    modules: list[str]
    by_config: bool


class Finder:
    """Finds config classes by name. It lists the classes of transformers and vLLM once.

    Args:
        modules: takes an architecture, returns the model modules that define it. Empty if it is not registered.
    """

    def __init__(self, modules: Callable[[str], list[str]]) -> None:
        self.modules = modules
        self.model_types = architectures_of_transformers()
        self._by_type: dict[str, list[ConfigClass]] = {}
        self._by_name: dict[str, list[ConfigClass]] = {}
        self._cache: dict[ConfigClass, tuple[Json, str] | None] = {}
        for config_class in config_classes():
            self._by_type.setdefault(config_class.model_type, []).append(config_class)
            for name in {config_class.name, stem(config_class.name)}:
                self._by_name.setdefault(name, []).append(config_class)

    def find(self, target: Target) -> Json:
        """The config of an architecture.

        A config class that belongs to the architecture itself is used even if its defaults have no experts: the model
        may be dense. The class of a relative is used only if its defaults have experts.

        Returns:
            `config`: the config, or None; `source`: where it comes from; `reason`: why there is none.
        """
        best = self._best(target.architecture, target) or self._relative(target)
        if best is None:
            return {"config": None, "source": "", "reason": NO_CLASS}
        config, source = self._fit(*best, target)
        return {"config": {**config, "architectures": [target.architecture]}, "source": source, "reason": ""}

    def _fit(self, config: Json, source: str, target: Target) -> tuple[Json, str]:
        """The config in a form that vLLM can read, with the further fields that the model's code reads."""
        config, loaded, left_out = rereading.make_readable({**config, "architectures": [target.architecture]})
        source = f"{source} without {', '.join(left_out)}" if left_out else source
        config, inner = self._name_inner_models(config, target)
        modules = [*target.modules]
        for name in inner:
            modules += self.modules(name)
        text = "".join(map(text_of, dict.fromkeys(modules)))
        reads = completion.Reads(text + text_of_transformers(target.module, loaded))
        config, added = completion.complete(config, loaded, reads)
        return config, completion.with_additions(source, added)

    def _name_inner_models(self, config: Json, target: Target) -> tuple[Json, list[str]]:
        """Write the architecture of the language model into nested configs, if only the config names it.

        Returns:
            The config, and the architectures.
        """
        inner: list[str] = []
        for key, value in nested_configs(config).items() if target.by_config else ():
            names = value.get("architectures") or self._architectures(value.get("model_type", ""))
            if names:
                config = {**config, key: {**value, "architectures": names}}
                inner += names
        return config, inner

    def _architectures(self, model_type: str) -> list[str]:
        """The first registered language model with this model type, in a list. Empty if there is none."""
        names = [name for name, types in self.model_types.items() if model_type in types]
        stems = [config_class.name.removesuffix("Config") for config_class in self._by_type.get(model_type, ())]
        names += [f"{stem_of_class}ForCausalLM" for stem_of_class in stems]
        for name in names:
            if name.endswith("ForCausalLM") and self.modules(name):
                return [name]
        return []

    def _relative(self, target: Target) -> tuple[Json, str] | None:
        """The defaults of a relative's config class, with experts, and their source; None if there is no such class.

        Tried in order: names of the class and its bases, config classes that its module names, classes that it uses.
        """
        tiers = ((target.relatives, "akin to"), (config_names_in(target.module), "read by"), (target.parts, "used by"))
        for names, how in tiers:
            for name in dict.fromkeys(names):
                best = self._best(name, target)
                if best and declares_experts(best[0]) and has_parts(best[0]) == target.multimodal:
                    return best[0], f"{best[1]}: {name} is {how} this class"
        return None

    def _best(self, name: str, target: Target) -> tuple[Json, str] | None:
        """The best defaults of the config classes for a name, and their source; None if there is no such class.

        Defaults with experts come first, then those with nested configs exactly if the target is multimodal.
        """
        classes: list[ConfigClass] = []
        for model_type in self.model_types.get(name, ()):
            classes += self._by_type.get(model_type, ())
        classes += [*self._by_name.get(name, ()), *self._by_name.get(stem(name), ())]
        candidates = list(filter(None, map(self._defaults, dict.fromkeys(classes))))

        def distance(candidate: tuple[Json, str]) -> tuple[bool, bool]:
            config, _ = candidate
            return not declares_experts(config), has_parts(config) != target.multimodal

        return min(candidates, key=distance, default=None)

    def _defaults(self, config_class: ConfigClass) -> tuple[Json, str] | None:
        """The cached result of `defaults`. None if the class cannot be loaded or built."""
        if config_class not in self._cache:
            self._cache[config_class] = None
            with suppress(Exception):
                self._cache[config_class] = defaults(config_class)
        return self._cache[config_class]


def architectures_of_transformers() -> dict[str, list[str]]:
    """Architecture -> model types, from all maps of transformers' auto classes, in the order of the maps."""
    from transformers.models.auto import modeling_auto

    model_types: dict[str, list[str]] = {}
    for name, mapping in vars(modeling_auto).items():
        if name.endswith("_MAPPING_NAMES") and name.startswith("MODEL_"):
            for model_type, classes in mapping.items():
                for architecture in [classes] if isinstance(classes, str) else classes:
                    model_types.setdefault(architecture, []).append(model_type)
    return model_types


def config_classes() -> list[ConfigClass]:
    """Every config class that has a model type, best first.

    First come the classes that vLLM uses to read a config.json. If vLLM reads a model type with the class of another
    type, the class in transformers comes before it, because it has more of the fields.
    """
    from transformers.models.auto import configuration_auto
    from vllm.transformers_utils import config, configs

    own_classes: list[ConfigClass] = []  # vLLM reads their own model type with them
    shared_classes: list[ConfigClass] = []  # vLLM reads a further model type with them
    further_classes: list[ConfigClass] = []  # vLLM has them, but its registry does not
    for model_type in list(config._CONFIG_REGISTRY):
        with suppress(Exception):
            cls = config._CONFIG_REGISTRY[model_type]
            classes = own_classes if cls.model_type == model_type else shared_classes
            classes.append(ConfigClass("vllm", model_type, cls.__name__))
    registered_names = {config_class.name for config_class in own_classes + shared_classes}
    for name in sorted({*getattr(configs, "__all__", ())} - registered_names):
        with suppress(Exception):
            further_classes.append(ConfigClass("vllm", getattr(configs, name).model_type, name))
    of_transformers = [ConfigClass("transformers", *item) for item in configuration_auto.CONFIG_MAPPING_NAMES.items()]
    return [*own_classes, *of_transformers, *shared_classes, *further_classes]


def load(config_class: ConfigClass) -> Any:
    """Import a config class."""
    from transformers import CONFIG_MAPPING
    from vllm.transformers_utils import config, configs

    if config_class.library == "transformers":
        return CONFIG_MAPPING[config_class.model_type]
    if config_class.model_type in config._CONFIG_REGISTRY:
        return config._CONFIG_REGISTRY[config_class.model_type]
    return getattr(configs, config_class.name)


def defaults(config_class: ConfigClass) -> tuple[Json, str]:
    """The default config of a class as JSON, and its source for the report.

    If the defaults have no experts, the class is built again with a few experts.
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
    """Arguments that set every expert count that is null, 0 or 1, in the config and in nested configs."""
    settings: Json = {}
    for key, value in nested_configs(config).items():
        inside = with_experts(value)
        if inside:
            settings[key] = inside
    dense = [key for key in EXPERT_COUNTS if key in config and config[key] in (None, 0, 1)]
    if dense:
        settings |= dict.fromkeys(dense, EXPERTS)
        settings |= {key: TOP_K for key in EXPERTS_PER_TOKEN if key in config and config[key] in (None, 0)}
    return settings


def declares_experts(config: Json) -> bool:
    """Whether the config has more than one routed expert outside its encoders."""
    for key in EXPERT_COUNTS:
        count = config.get(key)
        counts = count if isinstance(count, list) else [count]
        if any(type(item) is int and item > 1 for item in counts):
            return True
    return any(map(declares_experts, nested_configs(config).values()))


def nested_configs(config: Json) -> Json:
    """The nested configs by key, without those of encoders and quantization."""
    encoders = ("vision", "audio", "quant")
    inside: Json = {}
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("config") and not key.startswith(encoders):
            inside[key] = value
    return inside


def has_parts(config: Json) -> bool:
    """Whether the config has nested configs with a model type, as multimodal models have."""
    return any(isinstance(value, dict) and "model_type" in value for value in config.values())


def leaves(settings: Any) -> list[tuple[str, Any]]:
    """The key and value of each setting in a nested dict that is not a dict."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += leaves(value) if isinstance(value, dict) else [(key, value)]
    return pairs


def stem(name: str) -> str:
    """The name of a class without its ending, in lower case, letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", ENDINGS.sub("", name).lower())


def common_prefix(name: str, other: str) -> int:
    """The length of the common prefix of two names, in characters."""
    length = 0
    for letter, other_letter in zip(name, other, strict=False):
        if letter != other_letter:
            break
        length += 1
    return length


def config_names_in(module: str) -> list[str]:
    """Names of config classes in a module's source text. Those most like the module's name come first."""
    names = re.findall(r"\b[A-Z]\w*Config\b", text_of(module))
    last = module.rpartition(".")[2].replace("_", "")
    return sorted(names, key=lambda name: -common_prefix(stem(name), last))
