"""The small files beside `config.json` by which vLLM decides what it builds: which they are, and what they say here.

Read in the Python files of vLLM 0.16.0, 0.17.1, 0.18.1, 0.19.1, 0.20.2, 0.26.0 and 0.32.0: every call of
`get_hf_file_to_dict`, `get_hf_file_bytes`, `try_get_local_file`, `file_or_path_exists`, `any_pattern_in_repo_files` and
`get_config_filenames`, and every path below the model's folder. `READ` holds what can change a class, a layer or a
field of the configuration; `LEFT_OUT` holds the other files, each with the reason.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import Struct, field

from rules.assumptions import SIDE_FILE
from rules.errors import ErrorKind, TunerError
from tuner.model.hub import CONFIG, MISTRAL_WEIGHTS, is_absent
from tuner.untrusted.files import read_plain
from tuner.untrusted.json_text import MAX_BYTES, UnusableError, parse_object


class SideFile(Struct, frozen=True):
    """A file that vLLM reads beside `config.json`.

    Attributes:
        name: below the model's folder.
        decides: what it can change of what is built.
        source: releases and source file of vLLM where it is read.
    """

    name: str
    decides: str
    source: str


QUANTISATION = "hf_quant_config.json"
MISTRAL = "params.json"
JOINT_HEAD = "joint_head_config.json"
MODULES = "modules.json"

_SENTENCE = "get_sentence_transformer_tokenizer_config"
_LENGTH = "the longest sequence (`max_seq_length`), a field of the configuration"

READ: tuple[SideFile, ...] = (
    SideFile(
        QUANTISATION,
        "the quantisation, where config.json has no `quantization_config`; with `modelopt_mixed` that of each layer",
        "0.16.0 to 0.32.0, transformers_utils/config.py, get_config; model_loader/weight_utils.py, get_quant_config",
    ),
    SideFile(
        MISTRAL,
        "the whole configuration and its class, where the folder holds consolidated*.safetensors",
        "0.16.0 to 0.32.0, transformers_utils/config.py, get_config (config_format `auto`) and MistralConfigParser",
    ),
    SideFile(
        JOINT_HEAD,
        "the class: ClefOmniForJointSchema in place of Qwen3OmniMoeForConditionalGeneration",
        "0.32.0, transformers_utils/model_arch_config_convertor.py, Qwen3OmniMoeModelArchConfigConvertor",
    ),
    SideFile(
        MODULES,
        "that the class is wrapped as an embedding model, and its dense layers",
        "0.16.0 to 0.32.0, config/model.py, _get_default_runner_type; transformers_utils/config.py, "
        "get_pooling_config and try_get_dense_modules",
    ),
    SideFile(
        "quant_config.json",
        "the quantisation of `--quantization awq`, where config.json has none",
        "0.16.0 to 0.20.2, layers/quantization/awq.py; 0.26.0 and 0.32.0, auto_awq.py: get_config_filenames",
    ),
    SideFile(
        "quantize_config.json",
        "the quantisation of `--quantization awq`, `gptq` and `moe_wna16`, where config.json has none",
        "0.16.0 to 0.32.0, layers/quantization/*.py, get_config_filenames",
    ),
    SideFile(
        "quantization_config.json",
        "the quantisation of `--quantization inc`, where config.json has none",
        "0.16.0 to 0.32.0, layers/quantization/inc.py or inc/inc.py, get_config_filenames",
    ),
    SideFile(
        "sparse_attention_config.json",
        "the sparse attention of a configuration with `dual_chunk_attention_config`",
        "0.16.0 to 0.32.0, config/model.py, verify_dual_chunk_attention_config",
    ),
    *(
        SideFile(
            f"sentence_{kind}_config.json", _LENGTH, f"0.16.0 to 0.32.0, transformers_utils/config.py, {_SENTENCE}"
        )
        for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
)
"""Beside these: the `config.json` in each folder that `modules.json` names, and what `configuration_files` of
`config.json` names, of which transformers reads one in its place (configuration_utils.py, get_config_dict)."""

LEFT_OUT: dict[str, str] = {
    "generation_config.json": (
        "defaults of sampling; of models only Llama 4 reads it for more, a factor inside attention "
        "(0.16.0 to 0.32.0, models/llama4.py), Gemma 4 and DiffusionGemma for the sampler (0.26.0, 0.32.0)"
    ),
    "tokenizer.json, tekken.json, vocabularies": "texts become token ids before the model is entered",
    "tokenizer_config.json": (
        "its `model_max_length` bounds the sequence of embedding models with absolute positions alone "
        "(config/model.py, get_and_verify_max_len); none of those has MoE layers"
    ),
    "preprocessor_config.json, processor_config.json, video_preprocessor_config.json, added_tokens.json": (
        "shape what an encoder is given (transformers_utils/processor.py; models/nemotron_vl.py, moss_audio.py; "
        "0.32.0, models/dots3_note); its output enters the language model as embeddings"
    ),
    "model.safetensors.index.json, consolidated.safetensors.index.json and headers of weights": (
        "the names of weight files, the data type where config.json names none, and whether an output head is tied "
        "(0.32.0, transformers_utils/config.py, checkpoint_has_lm_head)"
    ),
    "adapter_config.json, adapters/*/adapter_config.json": (
        "LoRA adapters, which a launch names itself (lora/peft_helper.py); those of Jina's embedding model are merged "
        "into weights (0.20.2 to 0.32.0, models/jina.py)"
    ),
    "mask_embedding.pt": "a weight of a draft (0.26.0, 0.32.0, models/qwen3_dflash.py)",
    "audio_tokenizer/config.json": "an encoder of its own (0.26.0, 0.32.0, models/mimo_audio.py)",
    "config_sentence_transformers.json": "texts put before a prompt (0.32.0, entrypoints/pooling/embed)",
    "torchao_config.json": "named by `--hf-overrides` with a path of its own (layers/quantization/torchao.py)",
    "*.py": "the model's own code, which tuner/model/remote_code.py reads where it may run",
}
"""Files that vLLM reads and that cannot change which class or layers are built -> why."""

_QUANTISATIONS = ("quant_config.json", "quantize_config.json", "quantization_config.json")
"""vLLM takes a file by the end of its name (model_loader/weight_utils.py, get_quant_config)."""
_MAX_ENTRIES = 100_000
_MAX_NAMED = 20
"""Files that one file may name."""
_MAX_NAME = 200
"""Characters of such a name."""


class SideFiles(Struct, frozen=True):
    """What the files beside a `config.json` say.

    Attributes:
        digests: sha256 of each by its name below the folder; part of the fingerprint.
        quantization: what vLLM takes for the `quantization_config` that config.json lacks; None without such a file.
        foreign: names of files by which vLLM may build something else than config.json names.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    quantization: dict[str, Any] | None = None
    foreign: tuple[str, ...] = ()

    @property
    def assumptions(self) -> tuple[dict[str, str], ...]:
        """What a probe or a proof may do otherwise than the launch because of them, as in a report."""
        return tuple({"kind": SIDE_FILE, "detail": name} for name in self.foreign)

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of the files that stand beside the config.json of a probe, for vLLM to read them by itself."""
        return tuple(name for name in self.digests if name == MODULES or name.endswith("/" + CONFIG))


def side_names(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all files for which vLLM would look, below the model's folder.

    Raises:
        TunerError: kind `model`: as `read_side_files`.
    """
    names = [file.name for file in READ]
    return (*names, *_of_modules(folder), *_configuration_files(config))


def read_side_files(folder: Path, config: Mapping[str, Any]) -> SideFiles:
    """Read the files beside a `config.json` as vLLM does: what is not a regular file is not there.

    Args:
        folder: the model's; a snapshot in the hub's cache holds what the repository has (tuner/model/hub.py, complete).
        config: content of its config.json.

    Raises:
        TunerError: kind `model`: a file cannot be read, is too large, or is not what vLLM expects.
    """
    names = [*side_names(folder, config), *_other_quantisations(folder)]
    contents: dict[str, bytes] = {}
    for name in dict.fromkeys(names):
        data = _content(folder / name)
        if data is not None:
            contents[name] = data
    if not _has_mistral_weights(folder, contents):
        contents.pop(MISTRAL, None)
    return SideFiles(
        digests={name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())},
        quantization=_quantization(folder, contents, config),
        foreign=_foreign(contents, config),
    )


def _quantization(folder: Path, contents: Mapping[str, bytes], config: Mapping[str, Any]) -> dict[str, Any] | None:
    if QUANTISATION not in contents or config.get("quantization_config") is not None:
        return None
    return _parsed(contents[QUANTISATION], folder / QUANTISATION)


def _foreign(contents: Mapping[str, bytes], config: Mapping[str, Any]) -> tuple[str, ...]:
    choosing = [name for name in (MISTRAL, JOINT_HEAD) if name in contents]
    if config.get("configuration_files"):
        choosing += _configuration_files(config) or ["configuration_files"]
    return tuple(choosing)


def _has_mistral_weights(folder: Path, contents: Mapping[str, bytes]) -> bool:
    """Whether vLLM finds weights of Mistral's format anywhere below the folder, which is what chooses params.json.

    Of a snapshot in the hub's cache the weights need not be here: the repository has them unless it is known not to.
    """
    if MISTRAL not in contents or is_absent(folder, MISTRAL_WEIGHTS):
        return False
    if is_snapshot(folder):
        return True
    entries = 0
    for place, _, files in os.walk(folder):
        entries += len(files) + 1
        if entries > _MAX_ENTRIES:  # too many to look at: what is not known counts as there
            return True
        if any(PurePosixPath(file).match(MISTRAL_WEIGHTS) and Path(place, file).is_file() for file in files):
            return True
    return False


def is_snapshot(folder: Path) -> bool:
    """Whether a folder is a snapshot in a hub cache, which may lack files that the repository has."""
    return folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")


def _of_modules(folder: Path) -> list[str]:
    """The `config.json` of each module that `modules.json` lists, as vLLM joins path and name."""
    data = _content(folder / MODULES)
    if data is None:
        return []
    # The file is a list, and the bounded reader takes objects.
    modules = _parsed(b'{"modules":' + data + b"}", folder / MODULES)["modules"]
    paths = [module.get("path") for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
    named = [f"{path}/config.json" for path in paths if isinstance(path, str) and path]
    return _below([name for name in named if name != "config.json"])


def _configuration_files(config: Mapping[str, Any]) -> list[str]:
    named = config.get("configuration_files")
    return _below([name for name in named if isinstance(name, str)]) if isinstance(named, list) else []


def _below(names: list[str]) -> list[str]:
    """The names that stay below the model's folder and break no line."""
    parts = {name: PurePosixPath(name).parts for name in names if name.isprintable() and len(name) <= _MAX_NAME}
    return [name for name, path in parts.items() if path and path[0] != "/" and ".." not in path][:_MAX_NAMED]


def _other_quantisations(folder: Path) -> list[str]:
    """Files of a name of their own that end as a quantisation's do."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MAX_ENTRIES)]
    except OSError:
        return []
    return _below(sorted(name for name in names if name.endswith(_QUANTISATIONS)))


def _content(file: Path) -> bytes | None:
    """A file's bytes; None where vLLM would find no file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return None
        data = read_plain(file, MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a NUL
        return None
    except OSError as error:
        raise _bad(f"{file} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_BYTES:
        raise _bad(f"{file} is larger than {MAX_BYTES >> 20} MiB.")
    return data


def _parsed(data: bytes, file: Path) -> dict[str, Any]:
    try:
        return parse_object(data)
    except UnusableError as error:
        raise _bad(f"{file} {error}.") from None


def _bad(message: str) -> TunerError:
    hint = "vLLM reads this file beside config.json; take the one that was published with the model."
    return TunerError(message, hint=hint, kind=ErrorKind.MODEL)
