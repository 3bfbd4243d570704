"""Write the files of a processor beside a config.json that has none, so that the model takes images.

    .envs/current/bin/python tools/evidence/processors.py FOLDER

Run it with the Python of a serving environment: it needs that environment's transformers and tokenizers. FOLDER has a
`config.json`; written are a tokenizer of made-up words, its special tokens at the ids that the config names, and an
image processor of the model's own class. The tokens have no meaning. Text and pictures become as many
tokens, with the same ids, as with a published processor, and the replay probe needs no more.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

UNKNOWN = "w0"
ERNIE = "ernie_processor"
"""Module beside this one."""
Config = dict[str, Any]


def main() -> None:
    """Write beside the config that the command line names."""
    parser = argparse.ArgumentParser(description="Write processor files beside a config.json.")
    parser.add_argument("folder", type=Path)
    write_processor(parser.parse_args().folder)


def write_processor(folder: Path) -> None:
    """Write what the model's class needs; KeyError for a `model_type` without a recipe."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    RECIPES[config["model_type"]](config, folder)


def qwen3_vl(config: Config, folder: Path) -> None:
    """As Qwen3-VL publishes it: Qwen2-VL's image processor, a video processor of its own.

    The ids of the two marks around a picture are the defaults of the config class, where config.json leaves them out
    (transformers 5.5.4 and 5.19.0, models/qwen3_vl_moe/configuration_qwen3_vl_moe.py).
    """
    special = {
        "<|vision_start|>": config.get("vision_start_token_id", 151652),
        "<|vision_end|>": config.get("vision_end_token_id", 151653),
        "<|image_pad|>": config["image_token_id"],
        "<|video_pad|>": config["video_token_id"],
    }
    sizes = {name: config["vision_config"][name] for name in ("patch_size", "temporal_patch_size")}
    sizes["merge_size"] = config["vision_config"]["spatial_merge_size"]
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer(special),
        video_processor=Qwen3VLVideoProcessor(**sizes),
    ).save_pretrained(folder)


def ernie_vl(config: Config, folder: Path) -> None:
    """Stands for ERNIE-4.5-VL's own code, which a launch runs with `--trust-remote-code` only.

    config.json is written anew, for it names that code. The ids are those of `special_tokens_map.json` and
    `added_tokens.json` as published; config.json has only those of the marks and of the placeholder.
    """
    special = {
        "<|IMAGE_START|>": config["image_start_token_id"],
        "<|IMAGE_END|>": config["image_end_token_id"],
        "<|VIDEO_START|>": config["video_start_token_id"],
        "<|VIDEO_END|>": config["video_end_token_id"],
        "<|IMAGE_PLACEHOLDER|>": config["im_patch_id"],
        "<|image@placeholder|>": 3,  # any: none is left in a prompt
        "<|video@placeholder|>": 4,
    }
    tokenizer(special).save_pretrained(folder)
    shutil.copy(Path(__file__).with_name(f"{ERNIE}.py"), folder)
    files = {"config.json": {**config, "auto_map": {"AutoConfig": f"{ERNIE}.StandInConfig"}}}
    files["processor_config.json"] = {"auto_map": {"AutoProcessor": f"{ERNIE}.StandInProcessor"}}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=1), encoding="utf-8")


def tokenizer(special: dict[str, int]) -> PreTrainedTokenizerFast:
    """Words by whitespace, and special tokens at their ids."""
    ids = set(special.values())
    ordinary = [number for number in range(max(ids)) if number not in ids]  # transformers 5.5 warns of each gap
    words = {f"w{number}": number for number in ordinary}
    tokenizer = Tokenizer(WordLevel(words | special, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)


RECIPES: dict[str, Callable[[Config, Path], None]] = {"qwen3_vl_moe": qwen3_vl, "ernie4_5_moe_vl": ernie_vl}
"""`model_type` of a config.json -> what writes its processor."""


if __name__ == "__main__":
    main()
