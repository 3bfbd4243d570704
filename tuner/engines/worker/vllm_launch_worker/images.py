"""Image requests: whether a model's processor is here, and prompts with a picture that vLLM's own code makes for it."""

import copy
import json
import shutil
from itertools import islice
from pathlib import Path

from vllm_launch_worker import launch
from vllm_launch_worker.requests import FIRST_ID, batch, room

NAMES = ("image", "image_joins", "image_alone")
SIDE = 112
"""Pixels of a picture's width and height; a processor that wants more scales it up.

16 tokens where 28 or 32 pixels are one (ERNIE-4.5-VL, Qwen3-VL), which is a size that CUDA graphs are captured for: a
batch of the picture alone is not padded.
"""
BEFORE, BEHIND = 3, 4
"""Text tokens around a picture."""
PLAIN = 997
"""Tokens that text is made of; a prime, so that prompts of other indices begin otherwise."""
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
"""What a processor and its tokenizer are read from."""
LAYER_COUNTS = ("depth", "num_hidden_layers", "num_layers", "n_layers", "encoder_layers", "vt_num_hidden_layers")
"""Keys of an encoder's config."""
TOKENS = ("prompts are token ids", "prompts are token ids: no tokenizer is loaded")
BOUND = "at most one image a prompt, and the encoder is not profiled at start"


def configured(arguments, *, thin: bool, wanted: bool) -> tuple:
    """The VllmConfig of a launch, with images where they can be sent.

    Args:
        arguments: AsyncEngineArgs; not changed.
        thin: whether a thin model stands for the real one: then its encoder, slow on a CPU, is kept to small pictures.
        wanted: False for text alone.

    Returns:
        The config, and in words what is otherwise than in the launch.
    """
    plain = copy.deepcopy(arguments)
    plain.skip_tokenizer_init = True
    plain.limit_mm_per_prompt = TEXT_ONLY  # without a tokenizer no release makes a multimodal processor
    config = launch.config_of(plain)
    if not config.model_config.is_multimodal_model:
        return config, [TOKENS[1]]
    if not wanted:
        return config, [TOKENS[1], "no images: the prompts are text alone"]
    seeing, why = attempted(arguments, thin=thin)
    if why:
        return config, [TOKENS[1], f"no image was sent: {why}; the engine takes text alone"]
    return seeing, [TOKENS[0], *([BOUND] if thin else [])]


def attempted(arguments, *, thin: bool) -> tuple:
    """The VllmConfig with images, or None and the reason why none can be sent; never raises."""
    if why := unwanted(arguments):
        return None, why
    tried = copy.deepcopy(arguments)
    if thin:
        tried.limit_mm_per_prompt = {**TEXT_ONLY, "image": {"count": 1, "width": SIDE, "height": SIDE}}
        tried.skip_mm_profiling = True
    try:
        config = launch.config_of(tried)
        return config, obstacle(config)
    except Exception as failure:
        return None, f"the model's processor cannot be made: {in_a_line(failure)}"


def unwanted(arguments) -> str:
    """Why the launch or the model's folder leave no image; empty where they do not."""
    if arguments.skip_tokenizer_init:
        return "the launch loads no tokenizer"
    if count(arguments.limit_mm_per_prompt) == 0 or getattr(arguments, "language_model_only", False):
        return "the launch allows none"
    folder = Path(arguments.model)
    if folder.is_dir() and not any((folder / name).is_file() for name in PROCESSORS):
        return f"the model's folder holds no processor ({' or '.join(PROCESSORS[:2])})"
    return ""


def count(limits: dict) -> int:
    """Images a prompt may have: a number, or options with one (config/multimodal.py, 0.19.1 and 0.32.0)."""
    limit = limits.get("image", 1)
    return limit.get("count", 1) if isinstance(limit, dict) else getattr(limit, "count", limit)


class Picture:
    """A small picture as vLLM makes the largest one that it profiles a model with, and what it becomes in a prompt.

    The words and the picture are those of the model's `BaseDummyInputsBuilder` (multimodal/processing/dummy_inputs.py,
    the same from 0.16.0 to 0.32.0), so that no model has to be known here.

    Attributes:
        words: tokens that ask for one picture.
        start: tokens of them before the picture.
        length: tokens that the picture becomes.
        rest: tokens behind it.
        plain: tokens for text around it, none of which has a part in it.
        allowed: pictures that a prompt may have.
    """

    def __init__(self, config) -> None:
        from vllm.config.multimodal import ImageDummyOptions
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.utils.torch_utils import set_default_torch_num_threads

        counts = {"image": 1}
        processor = MULTIMODAL_REGISTRY.create_processor(config.model_config)
        small = {"image": ImageDummyOptions(count=1, width=SIDE, height=SIDE)}
        made = processor.dummy_inputs.get_dummy_mm_data(config.model_config.max_model_len, counts, small)
        self.data = {"image": made["image"]}
        self.words = processor.info.get_tokenizer().encode(processor.dummy_inputs.get_dummy_text(counts))
        with set_default_torch_num_threads(1):  # as vLLM does: a process forked from one with more of them would hang
            items = processor.info.parse_mm_data(self.data, validate=False)
            read = processor(self.words, items, hf_processor_mm_kwargs={})
        place = read["mm_placeholders"]["image"][0]
        self.start, self.length = place.offset, place.length
        self.rest = len(read["prompt_token_ids"]) - self.start - self.length
        ids = range(FIRST_ID, config.model_config.get_vocab_size())
        taken = {*self.words, *read["prompt_token_ids"]}
        self.plain = list(islice((token for token in ids if token not in taken), PLAIN))
        self.allowed = processor.info.allowed_mm_limits.get("image", 0)

    def prompt(self, index: int, before: int, behind: int) -> dict:
        """Text, the words with the picture, text.

        Args:
            index: of the text: one of its own for each prompt, or else its passes come from the prefix cache.
            before: tokens of the text before.
            behind: those of the text behind; -1 ends the prompt with the picture itself.
        """
        words = self.words if behind >= 0 else self.words[: len(self.words) - self.rest]
        ids = [*self.text(index, before), *words, *self.text(index, behind)]
        return {"prompt_token_ids": ids, "multi_modal_data": self.data}

    def text(self, index: int, length: int) -> list:
        """Tokens of plain text."""
        return [self.plain[(index * 31 + place) % len(self.plain)] for place in range(length)]


def obstacle(config) -> str:
    """Why an image cannot be sent although the processor is here; empty where one can.

    Raises:
        Exception: whatever the model's processor raises.
    """
    picture = Picture(config)
    if picture.allowed < 1:
        return "the model or the launch takes none"
    length = picture.start + picture.length + picture.rest + BEFORE + BEHIND
    if length > room(config):
        return f"a small one is a prompt of {length} tokens, and the launch has room for {room(config)}"
    plans_with(picture, config)  # raises here, and not when they are to be sent
    return ""


def plans(config) -> dict:
    """The image requests that fit this engine, as `requests.plans` has those of text; none for text alone.

    `image`: one picture in a little text. `image_joins`: the same, joining text under way. `image_alone`: the text
    before the picture fills a batch, so that the next one is the picture and nothing else; for a model that gives text
    and pictures to different experts (ERNIE-4.5-VL) that is a case of its own.
    """
    model = config.model_config
    if not model.is_multimodal_model or model.skip_tokenizer_init:
        return {}
    return plans_with(Picture(config), config)


def plans_with(picture: Picture, config) -> dict:
    """The requests of `plans` with a picture that is there."""
    longest, most = room(config), batch(config)
    made = {
        "image": [(picture.prompt(20, BEFORE, BEHIND), 0)],
        "image_joins": [(min(COMPANION, longest), 0), (picture.prompt(21, BEFORE, BEHIND), 2)],
    }
    if picture.start < most and picture.length <= most and most + picture.length <= longest:
        made["image_alone"] = [(picture.prompt(22, most - picture.start, -1), 0)]
    return {name: parts for name, parts in made.items() if len(parts) <= config.scheduler_config.max_num_seqs}


def refused(name: str, failure: Exception) -> str:
    """What to say of an image request that failed; the failure of any other request is raised."""
    if name not in NAMES:
        raise failure
    return f"no image was sent from {name} on: the engine refused it: {in_a_line(failure)}"


def in_a_line(failure: Exception) -> str:
    """The kind of a failure, and the first line of its words."""
    lines = str(failure).strip().splitlines() or [""]
    return f"{type(failure).__name__}: {lines[0][:200]}"


def carry(arguments, folder: Path) -> None:
    """Copy the processor's files of a launch's model beside the thin one's config.json."""
    for source in (arguments.model, arguments.tokenizer):
        for pattern in CARRIED if source else ():
            for file in Path(source).glob(pattern):
                if file.is_file():
                    shutil.copy(file, folder)
    fit_encoders(folder / "config.json")


def fit_encoders(file: Path) -> None:
    """Let the layers that a cut encoder names by number be among those it has.

    Qwen3-VL's hands the output of three layers on beside its own, wherever they are (`deepstack_visual_indexes`).
    """
    config = json.loads(file.read_text(encoding="utf-8"))
    for name, node in config.items():
        if isinstance(node, dict) and name.startswith(("vision", "audio")):
            layers = next((node[key] for key in LAYER_COUNTS if isinstance(node.get(key), int)), 0)
            node.update({key: among(value, layers) for key, value in node.items() if names_layers(key, value, layers)})
    file.write_text(json.dumps(config), encoding="utf-8")


def names_layers(key: str, value: object, layers: int) -> bool:
    """Whether these are numbers of layers, ascending, that are not all there."""
    named = key.endswith(("indexes", "indices", "_layers", "_layer"))
    numbers = named and isinstance(value, list) and value and all(type(item) is int for item in value)
    return bool(numbers) and value == sorted(set(value)) and value[0] >= 0 and value[-1] >= layers > 0


def among(numbers: list, layers: int) -> list:
    """As many, of the last layers that are there."""
    return [max(0, layers - len(numbers) + place) for place in range(len(numbers))]
