"""What a decision wrote into a launch, read from the document of `tuner plan --json`.

Pure, except for a `--config` file that the launch's own arguments name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rules.arms import BACKEND_OPTION, GRAPHS_KEY, PASSES_KEY
from rules.decide import FLAG_KEY, MODE_KEY, MODE_NONE, Refusal
from rules.ladder_finding import ArmWord
from rules.releases import FlagStatus
from rules.verdict import Word
from tuner.arguments.serve_arguments import parse
from tuner.launch.cache_root import CACHE_ROOT
from tuner.launch.decision_document import not_a_decision, one_decision
from tuner.launch.plan import as_bool
from tuner.server_log.engine_line import mode_name, mode_number

CACHE_DIR = "cache_dir"
NOTHING = "nothing"
_GRAPHS = {"0": "NONE", "1": "PIECEWISE", "2": "FULL"}
"""The numbers of `CUDAGraphMode` (vllm/config/compilation.py, 0.14.1 to 0.33.0)."""
_FALSE = {"false", "0", "no", "off", "f", "n"}
"""Words that vLLM reads as false (pydantic, all releases)."""


@dataclass(frozen=True)
class Setting:
    """What a decision wrote because of the arms of the launch, and what these showed.

    Attributes:
        graphs: the CUDA graph mode that it wrote.
        passes: the compiler passes that it switched.
        backend: the MoE backend that it chose.
        options: all options that it added.
        is_wrong: without what was written, or if nothing was, the launch answers wrongly.
        right_graphs: CUDA graph modes with which alone the launch was found to answer rightly.
    """

    graphs: str | None = None
    passes: Mapping[str, bool] = field(default_factory=dict)
    backend: str | None = None
    options: tuple[str, ...] = ()
    is_wrong: bool = False
    right_graphs: frozenset[str] = frozenset()

    @property
    def is_written(self) -> bool:
        """Whether anything was written."""
        return bool(self.graphs or self.passes or self.options)


NO_SETTING = Setting()
"""The setting of a launch whose arms were not tried."""


@dataclass(frozen=True)
class Written:
    """What a running server is compared with; None stands for "nothing was written".

    Attributes:
        vllm: the version that the decision is for.
        model: the model as the launch names it.
        architecture: the class that vLLM runs for the model; None where it is a generic one.
        flag: the value of `fast_moe_cold_start`.
        status: what the flag can do there.
        verdict: the verdict that the decision rests on; None if none is stored.
        refused: the decision refused this launch.
        mode: the compile mode's number, of the compilation config.
        eager: `--enforce-eager` or `-O0`, as written; either means mode 0.
        speculative: the speculative config; None: the launch has none.
        cache_root: VLLM_CACHE_ROOT.
        cache_dir: `compilation_config.cache_dir`.
        setting: what the arms of the launch asked for, and what they showed.
        graphs: the CUDA graph mode of the launch, whoever set it.
    """

    vllm: str
    model: str
    architecture: str | None
    flag: bool | None
    status: FlagStatus
    verdict: Word | None
    refused: bool
    mode: int | None
    eager: str | None
    speculative: Mapping[str, Any] | None
    cache_root: str | None
    cache_dir: str | None
    setting: Setting = NO_SETTING
    graphs: str | None = None

    def expected_modes(self) -> set[int]:
        """The compile modes that fit what was written; empty if nothing was written.

        Of a mode and `--enforce-eager` releases before 0.19 keep the first, later ones the second
        (vllm/config/vllm.py).
        """
        modes = {self.mode} if self.mode is not None else set()
        return modes | ({MODE_NONE} if self.eager else set())

    def texts(self) -> dict[str, str]:
        """What was written about each fact of `tuner.confirm.compare`, for people."""
        modes = [mode_name(self.mode)] if self.mode is not None else []
        unset = "nothing: vLLM forces false" if self.status is FlagStatus.INERT else NOTHING
        draft = self.speculative
        keys = ("method", "model", "num_speculative_tokens")
        return {
            "start": "refused" if self.refused else "a server",
            "vllm": self.vllm,
            "model": self.model,
            "flag": unset if self.flag is None else str(self.flag).lower(),
            "mode": " and ".join([*modes, *filter(None, [self.eager])]) or NOTHING,
            "graphs": self.graphs or NOTHING,
            "passes": switches_text(self.setting.passes) or NOTHING,
            "backend": self.setting.backend or NOTHING,
            "speculative": "none" if draft is None else draft_text(*(draft.get(key) for key in keys)),
            "cache": self.cache_dir or self.cache_root or NOTHING,
        }


def read_written(document: object, name: str = "The document") -> Written:
    """Read the document of one decision; `name` is what it is called in an error.

    Raises:
        TunerError: it is none (kind `decision`), or its arguments are none of `vllm serve` (kind `usage`).
    """
    decision = one_decision(document, name)
    try:
        return _written(decision)
    except (KeyError, TypeError, ValueError) as error:
        raise not_a_decision(name, f"{type(error).__name__} at {str(error)[:200]}") from None


def _written(decision: Mapping[str, Any]) -> Written:
    launch, environment = decision["launch"], decision["environment"]
    config, word = launch["compilation_config"], decision["verdict"]
    args = [str(arg) for arg in launch["args"]]
    serving = parse(args).serving
    level = serving.optimization_level
    no_compile = "-O0" if level is not None and level.strip() == "0" else None
    return Written(
        vllm=_text(environment["vllm"]),
        model=_text(decision["model"]["name"]),
        architecture=_architecture(decision["model"]),
        flag=_boolean(config.get(FLAG_KEY)),
        status=FlagStatus(environment["flag_status"]),
        verdict=None if word is None else Word(word),
        refused=Refusal(decision["refusal"]) is not Refusal.NONE,
        mode=_mode(config.get(MODE_KEY)),
        eager="--enforce-eager" if serving.enforce_eager else no_compile,
        speculative=serving.speculative,
        cache_root=_optional(launch["env"].get(CACHE_ROOT)),
        cache_dir=_optional(config.get(CACHE_DIR)),
        setting=_setting(launch.get("written"), decision.get("ladder")),
        graphs=graphs_name(config.get(GRAPHS_KEY)),
    )


def _setting(written: Mapping[str, Any] | None, ladder: Mapping[str, Any] | None) -> Setting:
    """The parts that a document of an earlier release lacks say nothing."""
    config, options = (written["compilation_config"], written["options"]) if written else ({}, [])
    arms = ladder["arms"] if ladder else []
    return Setting(
        graphs=graphs_name(config.get(GRAPHS_KEY)),
        passes={str(name): bool(value) for name, value in config.get(PASSES_KEY, {}).items()},
        backend=_backend(options),
        options=tuple(map(str, options)),
        is_wrong=ladder is not None and ladder["word"] == ArmWord.WRONG,
        right_graphs=frozenset(filter(None, map(_right_graphs, arms))),
    )


def _backend(options: Sequence[str]) -> str | None:
    """The MoE backend among options, as vLLM spells it."""
    if BACKEND_OPTION not in options:
        return None
    return _text(options[options.index(BACKEND_OPTION) + 1]).lower().replace("-", "_")


def _right_graphs(arm: Mapping[str, Any]) -> str | None:
    """The CUDA graph mode of an arm that sets nothing else and answers rightly."""
    if arm["word"] != ArmWord.RIGHT or arm["options"] or set(arm["config"]) != {GRAPHS_KEY}:
        return None
    return graphs_name(arm["config"][GRAPHS_KEY])


def graphs_name(value: object) -> str | None:
    """The name of a CUDA graph mode that is given by name or number, as vLLM takes both."""
    text = str(value).strip().upper()
    return None if value is None else _GRAPHS.get(text, text)


def switches_text(passes: Mapping[str, bool]) -> str:
    """Compiler passes for people, as `fuse_norm_quant=false`."""
    return ", ".join(f"{name}={str(is_on).lower()}" for name, is_on in passes.items())


def draft_text(method: object, model: object, tokens: object) -> str:
    """Speculative decoding for people, as `ngram, 2 tokens`."""
    parts = (method, model, f"{tokens} tokens" if tokens else None)
    return ", ".join(str(part) for part in parts if part) or "a draft"


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r}, where a text belongs")
    return value


def _architecture(model: Mapping[str, Any]) -> str | None:
    return None if model["model_impl"] == "transformers" else _text(model["architecture"])


def _optional(value: object) -> str | None:
    return None if value in {None, ""} else _text(value)


def _boolean(value: object) -> bool | None:
    if value is None:
        return None
    flag = as_bool(value)
    if not flag and str(value).strip().lower() not in _FALSE:
        raise ValueError(f"{FLAG_KEY}: {value!r}")
    return flag


def _mode(value: object) -> int | None:
    if value is None:
        return None
    number = mode_number(value)
    if number is None:
        raise ValueError(f"{MODE_KEY}: {value!r}")
    return number
