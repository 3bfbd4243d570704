"""Stands for the code that ERNIE-4.5-VL publishes beside its weights, as far as vLLM reads it.

`processors.py` copies this file beside a `config.json`, and names its classes there and in `processor_config.json`.
vLLM (model_executor/models/ernie45_vl.py, 0.19.1 and 0.32.0) takes of the published processor: the pictures' patches as
`images`, of bytes, which it scales itself; `grid_thw`; `image_processor` with a size in pixels, mean and deviation; and
`spatial_conv_size`. A batch of one picture alone or of text with pictures comes out in tokens as there.
"""

import torch
from transformers import AutoTokenizer, BatchFeature, PretrainedConfig, ProcessorMixin
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

IN_PROMPT, PLACEHOLDER = "<|image@placeholder|>", "<|IMAGE_PLACEHOLDER|>"


class StandInConfig(PretrainedConfig):
    """Every field of config.json; the encoder's are a config of their own."""

    model_type = "ernie4_5_moe_vl"

    def __init__(self, vision_config: dict | None = None, **fields: object) -> None:
        self.vision_config = PretrainedConfig(**(vision_config or {}))
        super().__init__(**fields)


class ImageSizes:
    """What vLLM asks the image processor for."""

    def __init__(self) -> None:
        self.size = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 1280}
        self.image_mean, self.image_std = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
        self.rescale_factor = 1 / 255


class StandInProcessor(ProcessorMixin):
    """Patches of pictures and token ids of text."""

    spatial_conv_size, temporal_conv_size, patch_size = 2, 2, 14

    def __init__(self, tokenizer: object) -> None:
        self.tokenizer, self.image_processor = tokenizer, ImageSizes()

    @classmethod
    def from_pretrained(cls, folder: str, *, tokenizer: object = None, **_: object) -> "StandInProcessor":
        """The processor with this tokenizer; without one, with the tokenizer of the folder."""
        return cls(tokenizer or AutoTokenizer.from_pretrained(folder))

    def __call__(self, text: list, images: list = (), videos: list = (), **_: object) -> BatchFeature:  # noqa: ARG002
        """Token ids of one text, and patches of the pictures that it names, in their order."""
        pictures = [self.patches(image) for image in images]
        for _patches, (_, high, wide) in pictures:
            cells = high * wide // self.spatial_conv_size**2
            text = [text[0].replace(IN_PROMPT, PLACEHOLDER * cells, 1)]
        ids = self.tokenizer(text[0])["input_ids"]
        pixels = torch.cat([patches for patches, _ in pictures]) if pictures else None
        grid = torch.tensor([grid for _, grid in pictures]) if pictures else None
        return BatchFeature({"input_ids": torch.tensor([ids]), "images": pixels, "grid_thw": grid})

    def patches(self, image: object) -> tuple:
        """Patches of a picture, with bytes by colour, row and column; and the number of frames, rows and columns."""
        side, merged = self.patch_size, self.spatial_conv_size
        limits = {name: self.image_processor.size[name] for name in ("min_pixels", "max_pixels")}
        height, width = smart_resize(image.height, image.width, side * merged, **limits)
        scaled = torch.tensor(list(image.convert("RGB").resize((width, height)).tobytes()), dtype=torch.uint8)
        rows, columns = height // side, width // side
        blocks = scaled.reshape(rows // merged, merged, side, columns // merged, merged, side, 3)
        ordered = blocks.permute(0, 3, 1, 4, 6, 2, 5)  # cells of merged patches stand together
        return ordered.reshape(rows * columns, 3 * side * side), (1, rows, columns)
