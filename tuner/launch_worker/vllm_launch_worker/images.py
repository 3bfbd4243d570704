"""Image requests: whether a model's processor is here, and prompts with a picture that vLLM's own code makes for it."""

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vllm_launch_worker import launch
from vllm_launch_worker.requests import FIRST_ID, NEW_TOKENS

NAMES = ("image", "image_joins")
SIDE = 128
"""Pixels of a picture's width and height; a processor that wants more scales it up."""
BEFORE, BEHIND = 3, 4
"""Text tokens around a picture."""
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
BOUND = "one small image a prompt, and no start with a picture of the largest size"


def configured(arguments, *, thin: bool, wanted: bool) -> tuple:
    """The VllmConfig of a launch, with images where they can be sent.

    Args:
        arguments: AsyncEngineArgs; not changed.
        thin: whether a thin model stands for the real one: then pictures are few and small.
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
        return config, [TOKENS[1], f"no image was sent: {why}"]
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
        with offline():
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


def obstacle(config) -> str:
    """Why an image cannot be sent although the processor is here; empty where one can.

    Raises:
        Exception: whatever the model's processor raises.
    """
    processor = processor_of(config)
    if processor.info.allowed_mm_limits.get("image", 0) < 1:
        return "the model or the launch takes none"
    made = prompt(config, 0)
    items = processor.info.parse_mm_data(made["multi_modal_data"], validate=False)
    length = len(processor(made["prompt_token_ids"], items)["prompt_token_ids"])
    room = config.model_config.max_model_len - NEW_TOKENS - 1
    if length > room:
        return f"a small one is {length} tokens, and the launch has room for {room}"
    return ""


def plans(config) -> dict:
    """The image requests that fit this engine, as `requests.plans` has those of text; none for text alone."""
    model, most = config.model_config, config.scheduler_config.max_num_seqs
    if not model.is_multimodal_model or model.skip_tokenizer_init:
        return {}
    companion = min(COMPANION, model.max_model_len - NEW_TOKENS - 1)
    made = {"image": [(prompt(config, 1), 0)], "image_joins": [(companion, 0), (prompt(config, 2), 2)]}
    return {name: parts for name, parts in made.items() if len(parts) <= most}


def prompt(config, number: int) -> dict:
    """Text, one picture, text: as vLLM makes the one that it profiles the model with, but small.

    Args:
        config: of the engine.
        number: of the prompt: each begins otherwise, so that none is found in the prefix cache.
    """
    from vllm.config.multimodal import ImageDummyOptions

    processor, counts = processor_of(config), {"image": 1}
    small = {"image": ImageDummyOptions(count=1, width=SIDE, height=SIDE)}
    pictures = processor.dummy_inputs.get_dummy_mm_data(config.model_config.max_model_len, counts, small)
    words = processor.info.get_tokenizer().encode(processor.dummy_inputs.get_dummy_text(counts))
    before = [FIRST_ID + number * BEFORE + place for place in range(BEFORE)]
    behind = [FIRST_ID + place for place in range(BEHIND)]
    return {
        "prompt_token_ids": [*before, *words, *behind],
        "multi_modal_data": {"image": pictures["image"]},
    }


def processor_of(config):
    """VLLM's processor of the model; the parts behind it are kept by vLLM and transformers."""
    from vllm.multimodal import MULTIMODAL_REGISTRY

    return MULTIMODAL_REGISTRY.create_processor(config.model_config)


def refused(name: str, failure: Exception) -> str:
    """What to say of an image request that failed; the failure of any other request is raised."""
    if name not in NAMES:
        raise failure
    return f"no image was sent from {name} on: the engine refused it: {in_a_line(failure)}"


def in_a_line(failure: Exception) -> str:
    """The kind of a failure, and the first line of its words."""
    lines = str(failure).strip().splitlines() or [""]
    return f"{type(failure).__name__}: {lines[0][:200]}"


@contextmanager
def offline() -> Iterator[None]:
    """Let nothing be fetched: what is not beside the model is not here."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


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
