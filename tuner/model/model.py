"""The identity of a model: its configuration, read and checked, and a fingerprint of everything that may matter."""

import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from cache.key import digest
from rules.errors import ErrorKind, TunerError
from tuner.model.hub import complete, is_hub_id, snapshot
from tuner.model.side_files import SideFiles, read_side_files, side_names
from tuner.untrusted.files import read_plain
from tuner.untrusted.json_text import MAX_BYTES, UnusableError, parse_object

CONFIG = "config.json"
MAX_NAME = 200
"""Characters of an architecture, which is the name of a Python class."""

PROVENANCE = frozenset({"_name_or_path", "transformers_version"})
"""Keys that say who wrote the file."""

TRAINING = frozenset(
    {
        "aux_loss_alpha",
        "embd_pdrop",
        "gradient_checkpointing",
        "initializer_factor",
        "initializer_range",
        "resid_pdrop",
        "attn_pdrop",
        "router_aux_loss_coef",
        "router_z_loss_coef",
        "use_cache",
    }
)
"""Initial weights, losses and dropout act only in training, and so does every key that ends in `_dropout`. `use_cache`
is about transformers' own cache, which vLLM replaces."""

LABELS = frozenset({"id2label", "label2id"})
"""Names of a classifier's outputs."""

GENERATION = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "suppress_tokens",
        "temperature",
        "top_p",
        "typical_p",
    }
)
"""Defaults for sampling, which transformers before 5 wrote here. `top_k` is missing: some models mean experts by it."""

IRRELEVANT = PROVENANCE | TRAINING | LABELS | GENERATION
"""Keys that cannot change which MoE layer runs, at any depth of the configuration.

Every other key counts: a key that is missing here causes a needless miss, but a wrong key would apply a verdict to
another model. The data type counts, because some fused decode paths that bypass MoE layers exist only for one type
(Flint's for bfloat16, vLLM 0.33.0).
"""

TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "decoder", "generator", "text_encoder")


class Model(Struct, frozen=True):
    """A model's identity.

    Attributes:
        name: as the user wrote it.
        folder: absolute path of the folder with its `config.json`.
        config: the content of that file.
        architecture: the first architecture, which vLLM tries first.
        architectures: all of them, in order.
        model_type: transformers' name for the kind of configuration.
        remote_code: whether the configuration names the model's own Python code (`auto_map`).
        revision: commit on the hub; None for a folder of the user.
        fingerprint: SHA-256 over the configuration without `IRRELEVANT`, and over the side files, as hexadecimal.
        side: what the folder's other small files say that vLLM reads.
    """

    name: str
    folder: str
    config: dict[str, Any]
    architecture: str
    architectures: tuple[str, ...]
    model_type: str | None
    remote_code: bool
    revision: str | None
    fingerprint: str
    side: SideFiles = field(default_factory=SideFiles)

    @property
    def served_config(self) -> dict[str, Any]:
        """The configuration as vLLM completes it: with the quantisation from its own file."""
        if self.side.quantization is None:
            return self.config
        return {**self.config, "quantization_config": self.side.quantization}


def identify(name: str, *, revision: str | None = None) -> Model:
    """Find a model and read its configuration.

    An existing folder wins. A name that can only be a path must be a folder. Any other name is a hub id: the local hub
    cache is read, and what it lacks of `config.json` and the small files beside it that vLLM reads is fetched.

    Args:
        name: a folder, or a hub id `organisation/name`.
        revision: branch, tag or commit on the hub; it has no effect on a folder, as in vLLM.

    Raises:
        TunerError: there is no such model, or its configuration cannot be used.
    """
    path = Path(name).expanduser() if name.startswith("~/") else Path(name)
    commit = None
    if not name or not _is_folder(path):
        if not is_hub_id(name):
            raise _no_folder(name, path)
        path, commit = snapshot(name, revision)
        complete(name, path, lambda: side_names(path, read_config(path)))
    config = read_config(path)
    return describe(name, path.absolute(), config, commit, read_side_files(path, config))


def model_in(configs: Path, name: str) -> Model | None:
    """The model of a hub id in a folder of folders ORGANISATION--NAME with a `config.json` each; None if it is missing.

    Raises:
        TunerError: its configuration cannot be used.
    """
    if not is_hub_id(name):
        return None
    folder = configs / name.replace("/", "--")
    if not (folder / CONFIG).is_file():
        return None
    config = read_config(folder)
    return describe(name, folder.absolute(), config, side=read_side_files(folder, config))


def describe(
    name: str, folder: Path, config: dict[str, Any], revision: str | None = None, side: SideFiles | None = None
) -> Model:
    """The identity of a model whose files were read; without side files, the identity of its configuration alone.

    Raises:
        TunerError: the configuration names no architecture.
    """
    beside = side or SideFiles()
    architectures = _architectures(config, str(folder / CONFIG))
    model_type = config.get("model_type")
    return Model(
        name=name,
        folder=str(folder),
        config=config,
        architecture=architectures[0],
        architectures=architectures,
        model_type=model_type if isinstance(model_type, str) else None,
        remote_code=bool(config.get("auto_map")),
        revision=revision,
        fingerprint=fingerprint(config, beside.digests),
        side=beside,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model folder's `config.json`.

    Raises:
        TunerError: it is missing, cannot be read or is not a configuration.
    """
    file = folder / CONFIG
    try:
        data = read_plain(file, MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_config(folder) from None
    except OSError as error:
        raise _bad(f"{file} cannot be read: {error.strerror}.", "It must be a file that you may read.") from error
    return parse_config(data, str(file))


def parse_config(data: bytes, where: str) -> dict[str, Any]:
    """Parse a configuration as transformers does, within the bounds of `tuner/untrusted/json_text.py`.

    `Infinity` is not JSON, but published configurations have it (`time_step_limit` of Nemotron-H).

    Args:
        data: the file's bytes.
        where: the file's name, for messages.

    Raises:
        TunerError: the bytes are not a JSON object, too many, nested too deeply, or contradict themselves.
    """
    try:
        return parse_object(data)
    except UnusableError as error:
        raise _bad(f"{where} {error}.") from None


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model; for a text model, all of it.

    It follows vLLM's get_hf_text_config and transformers' get_text_config, with `thinker_config` of omni models.
    """
    thinker = config.get("thinker_config")
    if isinstance(thinker, Mapping):
        return text_config(thinker)
    for name in TEXT_CONFIGS:
        part = config.get(name)
        if isinstance(part, Mapping):
            return part
    return config


def fingerprint(config: Mapping[str, Any], side_files: Mapping[str, str] | None = None) -> str:
    """SHA-256 over the configuration without `IRRELEVANT`, independent of the order of keys, and over the side files.

    Args:
        config: content of config.json.
        side_files: sha256 of each file beside it that vLLM reads; without any, only the configuration counts.
    """
    relevant = _relevant(config)
    return digest({"config": relevant, "side_files": dict(side_files)} if side_files else relevant)


def _relevant(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _relevant(item) for key, item in value.items() if not _irrelevant(key)}
    if isinstance(value, list):
        return [_relevant(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        # As transformers 5 writes it, so that a saved copy has the fingerprint of its original.
        return {"__float__": "Infinity" if value > 0 else "-Infinity"}
    return value


def _irrelevant(key: str) -> bool:
    return key in IRRELEVANT or key.endswith("_dropout")


def _architectures(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = config.get("architectures")
    if names is None or names == []:
        hint = "vLLM chooses the model's code by it; take the config.json that was published with the model."
        raise _bad(f"{where} names no `architectures`.", hint)
    if not isinstance(names, list) or not all(map(_is_name, names)):
        raise _bad(f"The `architectures` in {where} are not a list of names: {names!r:.80}.")
    return tuple(names)


def _is_name(value: object) -> bool:
    """Whether a value can be an architecture: text that does not break a line or flood a terminal."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable() and len(value) <= MAX_NAME


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def _no_folder(name: str, path: Path) -> TunerError:
    if "://" in name:
        return _bad(f"{name} is a remote address.", "Copy its config.json into a folder and name that folder.")
    try:
        exists = path.is_file()
    except (OSError, ValueError):
        exists = False
    if exists:
        return _bad(f"{name} is a file.", f"Name its folder, {path.parent}, which must hold a {CONFIG}.")
    return _bad(
        f"There is no folder {name or 'without a name'}.",
        "MODEL is a folder with a config.json, or a hub id: organisation/name.",
    )


def _no_config(folder: Path) -> TunerError:
    if (folder / "params.json").is_file():
        return _bad(
            f"{folder} has no {CONFIG}, only a params.json in Mistral's own format.", "Add the published config.json."
        )
    return _bad(f"{folder} has no {CONFIG}.", "Name the folder that holds the model's config.json.")


def _bad(message: str, hint: str = "Take the config.json that was published with the model.") -> TunerError:
    return TunerError(message, hint=hint, kind=ErrorKind.MODEL)


def unidentified(name: str) -> Model:
    """A model of which only the name is known; no stored verdict can match it."""
    return Model(
        name=name,
        folder="",
        config={},
        architecture="",
        architectures=(),
        model_type=None,
        remote_code=False,
        revision=None,
        fingerprint="",
    )
