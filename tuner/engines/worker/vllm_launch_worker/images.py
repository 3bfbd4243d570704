"""Image requests: checks whether images can be sent, and makes prompts with a picture by vLLM's own code."""

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
"""The names of the image requests (see `plans`)."""
SIDE = 112
"""The width and height of a picture in pixels. If a processor needs a larger picture, it enlarges this one.

In models with 28 or 32 pixels a token (ERNIE-4.5-VL, Qwen3-VL) such a picture has 16 tokens. vLLM captures CUDA graphs
for 16 tokens, so it does not pad a batch that holds only the picture.
"""
BEFORE, BEHIND = 3, 4
"""The number of text tokens before and behind a picture."""
PLAIN = 997
"""The number of different tokens in texts. It is prime, so that prompts with different indices start differently."""
COMPANION = 33
"""The number of tokens in the text request that runs when the picture of `image_joins` arrives."""
TEXT_ONLY = {"image": 0, "video": 0, "audio": 0}
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "tekken.json")
"""The files of a processor. Every model that takes images has one of them. The last one is Mistral's own format."""
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
"""Patterns of the files of a processor and its tokenizer."""
LAYER_COUNTS = ("depth", "num_hidden_layers", "num_layers", "n_layers", "encoder_layers", "vt_num_hidden_layers")
"""The keys that hold the number of layers in an encoder's config."""
TOKENS = "prompts are token ids"
NO_TOKENIZER = "prompts are token ids: no tokenizer is loaded"
BOUND = "at most one image a prompt, and the encoder is not profiled at start"


def make_config(arguments: EngineArgs, *, thin: bool, with_images: bool) -> tuple[VllmConfig, list[str]]:
    """The VllmConfig of a launch. It accepts images if they can be sent.

    Args:
        arguments: AsyncEngineArgs. They are not changed.
        thin: whether a thin model replaces the real model. Then pictures are limited to a small size, because the
            encoder is slow on a CPU.
        with_images: whether to try images. If False, the engine accepts only text.

    Returns:
        The config, and one sentence for each difference from the launch.
    """
    text_alone = copy.deepcopy(arguments)
    text_alone.skip_tokenizer_init = True
    text_alone.limit_mm_per_prompt = TEXT_ONLY  # without a tokenizer, vLLM cannot make a multimodal processor
    config = launch.config_of(text_alone)
    if not config.model_config.is_multimodal_model:
        return config, [NO_TOKENIZER]
    if not with_images:
        return config, [NO_TOKENIZER, "no images: the prompts are text alone"]
    with_pictures, reason = config_with_images(arguments, thin=thin)
    if with_pictures is None or reason:
        return config, [NO_TOKENIZER, f"no image was sent: {reason}; the engine takes text alone"]
    return with_pictures, [TOKENS, BOUND] if thin else [TOKENS]


def config_with_images(arguments: EngineArgs, *, thin: bool) -> tuple[VllmConfig | None, str]:
    """Try to make the VllmConfig with images. This function does not raise exceptions.

    Returns:
        The config, or None, and the reason why images cannot be sent. The reason is empty if they can.
    """
    if reason := launch_obstacle(arguments):
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


def launch_obstacle(arguments: EngineArgs) -> str:
    """Why the launch or the model's folder does not allow images. Empty if they allow them."""
    if arguments.skip_tokenizer_init:
        return "the launch loads no tokenizer"
    if count(arguments.limit_mm_per_prompt) == 0 or getattr(arguments, "language_model_only", False):
        return "the launch allows none"
    folder = Path(arguments.model)
    if folder.is_dir() and not any((folder / name).is_file() for name in PROCESSORS):
        return f"the model's folder holds no processor ({' or '.join(PROCESSORS[:2])})"
    return ""


def count(limits: dict[str, Any]) -> Any:
    """The number of images that a prompt may have.

    The limit is a number, or options that hold a number (config/multimodal.py, 0.19.1 and 0.32.0).
    """
    limit = limits.get("image", 1)
    return limit.get("count", 1) if isinstance(limit, dict) else getattr(limit, "count", limit)


class Picture:
    """A small picture, and its tokens in a prompt.

    The words and the picture come from the model's `BaseDummyInputsBuilder` (multimodal/processing/dummy_inputs.py, the
    same from 0.16.0 to 0.32.0). vLLM uses it to make the largest picture for the profile run. So this file does not
    depend on a certain model.

    Attributes:
        data: the picture, as vLLM's `multi_modal_data`.
        words: the token ids that stand for one picture in the text.
        start: the number of tokens before the picture, once vLLM has put it into the words.
        length: the number of tokens of the picture.
        rest: the number of tokens behind it.
        plain: the token ids for the text around it. The words and the picture do not use them.
        allowed: the number of pictures that a prompt may have.
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
        with set_default_torch_num_threads(1):  # as vLLM does, because a fork of a process with more threads hangs
            items = processor.info.parse_mm_data(self.data, validate=False)
            prompt = processor(self.words, items, hf_processor_mm_kwargs={})
        place = prompt["mm_placeholders"]["image"][0]
        self.start, self.length = place.offset, place.length
        self.rest = len(prompt["prompt_token_ids"]) - self.start - self.length
        ids = range(FIRST_ID, config.model_config.get_vocab_size())
        used_ids = {*self.words, *prompt["prompt_token_ids"]}
        self.plain: list[int] = list(islice((token for token in ids if token not in used_ids), PLAIN))
        self.allowed = processor.info.allowed_mm_limits.get("image", 0)

    def prompt(self, index: int, before: int, behind: int) -> dict[str, Any]:
        """A prompt of text, the picture, and text.

        Args:
            index: the number of the text. Each prompt needs another one, because vLLM's prefix cache skips the passes
                for a text that it knows.
            before: the number of text tokens before the picture.
            behind: the number of text tokens behind it. With -1 the prompt ends with the picture.
        """
        words = self.words if behind >= 0 else self.words[: len(self.words) - self.rest]
        ids = [*self.text(index, before), *words, *self.text(index, behind)]
        return {"prompt_token_ids": ids, "multi_modal_data": self.data}

    def text(self, index: int, length: int) -> list[int]:
        """The token ids of a text. See `prompt` for `index`."""
        return [self.plain[(index * 31 + place) % len(self.plain)] for place in range(length)]


def obstacle(config: VllmConfig) -> str:
    """Why an image cannot be sent although the processor is on this machine. Empty if it can be sent.

    Raises:
        Exception: the model's processor failed.
    """
    picture = Picture(config)
    if picture.allowed < 1:
        return "the model or the launch takes none"
    length = picture.start + picture.length + picture.rest + BEFORE + BEHIND
    if length > room(config):
        return f"a small one is a prompt of {length} tokens, and the launch has room for {room(config)}"
    plans_with(picture, config)  # so that an error is raised now, and not when requests are sent
    return ""


def plans(config: VllmConfig) -> Plans:
    """The image requests that fit this engine, in the form of `requests.plans`. Empty if it accepts only text.

    Returns:
        `image`: a picture with a few text tokens. `image_joins`: the same, sent while the engine answers a text.
        `image_alone`: the text before the picture fills a batch, so that the next batch holds only the picture. A model
        that sends text and pictures to different experts (ERNIE-4.5-VL) may treat this batch differently.
    """
    model = config.model_config
    if not model.is_multimodal_model or model.skip_tokenizer_init:
        return {}
    return plans_with(Picture(config), config)


def plans_with(picture: Picture, config: VllmConfig) -> Plans:
    """The requests of `plans`, made with this picture."""
    longest, most = room(config), batch(config)
    requests: Plans = {
        "image": [(picture.prompt(20, BEFORE, BEHIND), 0)],
        "image_joins": [(min(COMPANION, longest), 0), (picture.prompt(21, BEFORE, BEHIND), 2)],
    }
    if picture.start < most and picture.length <= most and most + picture.length <= longest:
        requests["image_alone"] = [(picture.prompt(22, most - picture.start, -1), 0)]
    most_parts = config.scheduler_config.max_num_seqs
    return {name: parts for name, parts in requests.items() if len(parts) <= most_parts}


def refusal(name: str, failure: Exception) -> str:
    """The sentence about an image request that failed.

    Raises:
        Exception: `failure` itself, if the request does not have an image.
    """
    if name not in NAMES:
        raise failure
    return f"no image was sent from {name} on: the engine refused it: {in_a_line(failure)}"


def in_a_line(failure: Exception) -> str:
    """The type of an exception and the first line of its message."""
    lines = str(failure).strip().splitlines() or [""]
    return f"{type(failure).__name__}: {lines[0][:200]}"


def carry(arguments: EngineArgs, folder: Path) -> None:
    """Copy the files of the model's processor and tokenizer into the folder of the thin model."""
    for source in (arguments.model, arguments.tokenizer):
        if not source:
            continue
        for pattern in CARRIED:
            for file in filter(Path.is_file, Path(source).glob(pattern)):
                shutil.copy(file, folder)
    fit_encoders(folder / "config.json")


def fit_encoders(file: Path) -> None:
    """Change the layer numbers in the config of a cut encoder, so that they name layers that it has.

    For example, the encoder of Qwen3-VL passes on the output of three layers (`deepstack_visual_indexes`).
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
            encoder[key] = last_layers(value, layers)


def names_layers(key: str, value: Any, layers: int) -> bool:
    """Whether a value is a list of ascending layer numbers, and the encoder does not have all these layers.

    Args:
        key: the key of the value in the encoder's config.
        value: the value.
        layers: the number of layers in the encoder.
    """
    if not key.endswith(("indexes", "indices", "_layers", "_layer")) or not isinstance(value, list) or not value:
        return False
    if any(type(item) is not int for item in value):
        return False
    return value == sorted(set(value)) and value[0] >= 0 and value[-1] >= layers > 0


def last_layers(numbers: list[int], layers: int) -> list[int]:
    """The numbers of the last layers that the encoder has, as many as `numbers` has."""
    return [max(0, layers - len(numbers) + place) for place in range(len(numbers))]
