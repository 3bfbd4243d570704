"""Image requests: whether a model's processor is on this machine, and prompts with a picture from vLLM's own code."""

import copy
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from shared_worker.vllm_types import EngineArgs, VllmConfig
from vllm_launch_worker import launch
from vllm_launch_worker.requests import FIRST_ID, Plans, batch, room

NAMES = ("image", "image_joins", "image_alone")
SIDE = 112
"""Pixels of a picture's width and height; a processor that wants more scales it up.

That is 16 tokens where a token is 28 or 32 pixels wide (ERNIE-4.5-VL, Qwen3-VL). vLLM captures CUDA graphs for 16
tokens, so a batch of the picture alone is not padded.
"""
BEFORE, BEHIND = 3, 4
"""Text tokens around a picture."""
PLAIN = 997
"""Number of different tokens in texts; a prime, so that prompts with different indices begin differently."""
COMPANION = 33
"""Length of the text request that a picture joins."""
TEXT_ONLY = {"image": 0, "video": 0, "audio": 0}
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "tekken.json")
"""One of them lies beside every model that takes images (transformers; the last is Mistral's own format)."""
CARRIED = (
    *PROCESSORS,
    "*processor_config.json",
    "tokenizer*",
    "*.model",
    "*.tiktoken",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)
"""The files of a processor and its tokenizer."""
LAYER_COUNTS = ("depth", "num_hidden_layers", "num_layers", "n_layers", "encoder_layers", "vt_num_hidden_layers")
"""Keys of an encoder's config."""
TOKENS = ("prompts are token ids", "prompts are token ids: no tokenizer is loaded")
BOUND = "at most one image a prompt, and the encoder is not profiled at start"


def configured(arguments: EngineArgs, *, thin: bool, with_images: bool) -> tuple[VllmConfig, list[str]]:
    """The VllmConfig of a launch, with images where they can be sent.

    Args:
        arguments: AsyncEngineArgs; not changed.
        thin: whether a thin model stands for the real one. Its encoder is slow on a CPU and then gets small pictures.
        with_images: False for text alone.

    Returns:
        The config, and in words what differs from the launch.
    """
    plain = copy.deepcopy(arguments)
    plain.skip_tokenizer_init = True
    plain.limit_mm_per_prompt = TEXT_ONLY  # without a tokenizer no release makes a multimodal processor
    config = launch.config_of(plain)
    if not config.model_config.is_multimodal_model:
        return config, [TOKENS[1]]
    if not with_images:
        return config, [TOKENS[1], "no images: the prompts are text alone"]
    with_pictures, reason = attempted(arguments, thin=thin)
    if with_pictures is None or reason:
        return config, [TOKENS[1], f"no image was sent: {reason}; the engine takes text alone"]
    return with_pictures, [TOKENS[0], *([BOUND] if thin else [])]


def attempted(arguments: EngineArgs, *, thin: bool) -> tuple[VllmConfig | None, str]:
    """The VllmConfig with images, and the reason why none can be sent, empty if they can; never raises."""
    if reason := unwanted(arguments):
        return None, reason
    changed = copy.deepcopy(arguments)
    if thin:
        changed.limit_mm_per_prompt = {**TEXT_ONLY, "image": {"count": 1, "width": SIDE, "height": SIDE}}
        changed.skip_mm_profiling = True
    try:
        config = launch.config_of(changed)
        return config, obstacle(config)
    except Exception as failure:
        return None, f"the model's processor cannot be made: {in_a_line(failure)}"


def unwanted(arguments: EngineArgs) -> str:
    """Why the launch or the model's folder allows no image; empty where they allow one."""
    if arguments.skip_tokenizer_init:
        return "the launch loads no tokenizer"
    if count(arguments.limit_mm_per_prompt) == 0 or getattr(arguments, "language_model_only", False):
        return "the launch allows none"
    folder = Path(arguments.model)
    if folder.is_dir() and not any((folder / name).is_file() for name in PROCESSORS):
        return f"the model's folder holds no processor ({' or '.join(PROCESSORS[:2])})"
    return ""


def count(limits: dict[str, Any]) -> Any:
    """Images that a prompt may have: a number, or options that hold a number (config/multimodal.py, 0.19.1, 0.32.0)."""
    limit = limits.get("image", 1)
    return limit.get("count", 1) if isinstance(limit, dict) else getattr(limit, "count", limit)


class Picture:
    """A small picture, and the tokens that it becomes in a prompt.

    vLLM makes it as it makes the largest picture with which it profiles a model. The words and the picture come from
    the model's `BaseDummyInputsBuilder` (multimodal/processing/dummy_inputs.py, the same from 0.16.0 to 0.32.0), so
    that this file needs no knowledge of any model.

    Attributes:
        words: tokens that ask for one picture.
        start: how many of the tokens stand before the picture.
        length: how many tokens the picture becomes.
        rest: how many tokens stand behind it.
        plain: tokens for the text around it; neither the words nor the picture use them.
        allowed: how many pictures a prompt may have.
    """

    def __init__(self, config: VllmConfig) -> None:
        from vllm.config.multimodal import ImageDummyOptions
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.utils.torch_utils import set_default_torch_num_threads

        counts = {"image": 1}
        processor = MULTIMODAL_REGISTRY.create_processor(config.model_config)
        small = {"image": ImageDummyOptions(count=1, width=SIDE, height=SIDE)}
        inputs = processor.dummy_inputs.get_dummy_mm_data(config.model_config.max_model_len, counts, small)
        self.data = {"image": inputs["image"]}
        self.words = processor.info.get_tokenizer().encode(processor.dummy_inputs.get_dummy_text(counts))
        with set_default_torch_num_threads(1):  # as vLLM does: a fork of a process with more threads would hang
            items = processor.info.parse_mm_data(self.data, validate=False)
            read = processor(self.words, items, hf_processor_mm_kwargs={})
        place = read["mm_placeholders"]["image"][0]
        self.start, self.length = place.offset, place.length
        self.rest = len(read["prompt_token_ids"]) - self.start - self.length
        ids = range(FIRST_ID, config.model_config.get_vocab_size())
        used = {*self.words, *read["prompt_token_ids"]}
        self.plain: list[int] = list(islice((token for token in ids if token not in used), PLAIN))
        self.allowed = processor.info.allowed_mm_limits.get("image", 0)

    def prompt(self, index: int, before: int, behind: int) -> dict[str, Any]:
        """Text, the words with the picture, text.

        Args:
            index: of the text; each prompt needs a different one, or its passes come from the prefix cache.
            before: tokens of the text before the picture.
            behind: tokens of the text behind it; -1 ends the prompt with the picture itself.
        """
        words = self.words if behind >= 0 else self.words[: len(self.words) - self.rest]
        ids = [*self.text(index, before), *words, *self.text(index, behind)]
        return {"prompt_token_ids": ids, "multi_modal_data": self.data}

    def text(self, index: int, length: int) -> list[int]:
        """Tokens of plain text."""
        return [self.plain[(index * 31 + place) % len(self.plain)] for place in range(length)]


def obstacle(config: VllmConfig) -> str:
    """Why an image cannot be sent although the processor is on this machine; empty where it can.

    Raises:
        Exception: any that the model's processor raises.
    """
    picture = Picture(config)
    if picture.allowed < 1:
        return "the model or the launch takes none"
    length = picture.start + picture.length + picture.rest + BEFORE + BEHIND
    if length > room(config):
        return f"a small one is a prompt of {length} tokens, and the launch has room for {room(config)}"
    plans_with(picture, config)  # an error is raised here, not when requests are sent
    return ""


def plans(config: VllmConfig) -> Plans:
    """The image requests that fit this engine, in the form of `requests.plans`; empty for text alone.

    `image`: a picture in a little text. `image_joins`: the same, while text is under way. `image_alone`: the text
    before the picture fills a batch, so that the next batch is nothing but the picture. A model that gives text and
    pictures to different experts (ERNIE-4.5-VL) may treat it differently.
    """
    model = config.model_config
    if not model.is_multimodal_model or model.skip_tokenizer_init:
        return {}
    return plans_with(Picture(config), config)


def plans_with(picture: Picture, config: VllmConfig) -> Plans:
    """The requests of `plans` with this picture."""
    longest, most = room(config), batch(config)
    requests: Plans = {
        "image": [(picture.prompt(20, BEFORE, BEHIND), 0)],
        "image_joins": [(min(COMPANION, longest), 0), (picture.prompt(21, BEFORE, BEHIND), 2)],
    }
    if picture.start < most and picture.length <= most and most + picture.length <= longest:
        requests["image_alone"] = [(picture.prompt(22, most - picture.start, -1), 0)]
    most_parts = config.scheduler_config.max_num_seqs
    return {name: parts for name, parts in requests.items() if len(parts) <= most_parts}


def refused(name: str, failure: Exception) -> str:
    """The note on an image request that failed; raises the failure of any other request."""
    if name not in NAMES:
        raise failure
    return f"no image was sent from {name} on: the engine refused it: {in_a_line(failure)}"


def in_a_line(failure: Exception) -> str:
    """The type of an exception and the first line of its message."""
    lines = str(failure).strip().splitlines() or [""]
    return f"{type(failure).__name__}: {lines[0][:200]}"


def carry(arguments: EngineArgs, folder: Path) -> None:
    """Copy the processor's files of a launch's model beside the thin one's config.json."""
    for source in (arguments.model, arguments.tokenizer):
        if not source:
            continue
        for pattern in CARRIED:
            for file in filter(Path.is_file, Path(source).glob(pattern)):
                shutil.copy(file, folder)
    fit_encoders(folder / "config.json")


def fit_encoders(file: Path) -> None:
    """Change the numbers of layers in a cut encoder's config to layers that it has.

    The encoder of Qwen3-VL also hands on the output of three layers (`deepstack_visual_indexes`).
    """
    config = json.loads(file.read_text(encoding="utf-8"))
    for name, node in config.items():
        if isinstance(node, dict) and name.startswith(("vision", "audio")):
            fit_encoder(node)
    file.write_text(json.dumps(config), encoding="utf-8")


def fit_encoder(encoder: dict[str, Any]) -> None:
    """As `fit_encoders`, for the config of one encoder."""
    layers = next((encoder[key] for key in LAYER_COUNTS if isinstance(encoder.get(key), int)), 0)
    for key, value in encoder.items():
        if names_layers(key, value, layers):
            encoder[key] = among(value, layers)


def names_layers(key: str, value: Any, layers: int) -> bool:
    """Whether these are ascending numbers of layers, some of which the encoder lacks."""
    if not key.endswith(("indexes", "indices", "_layers", "_layer")) or not isinstance(value, list) or not value:
        return False
    if any(type(item) is not int for item in value):
        return False
    return value == sorted(set(value)) and value[0] >= 0 and value[-1] >= layers > 0


def among(numbers: list[int], layers: int) -> list[int]:
    """As many numbers, of the last layers that the encoder has."""
    return [max(0, layers - len(numbers) + place) for place in range(len(numbers))]
