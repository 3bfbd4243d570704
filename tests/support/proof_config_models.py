"""Small models that read a config of transformers around their region, each in a file of its own.

A model enters its region twice if the config changes. What matters is whether any code may change it.
"""

from pathlib import Path
from typing import Any

import proof_built_models

MODEL = """
from proof_outer_models import Region
from torch import nn
from transformers import PretrainedConfig

class Config(PretrainedConfig):
    attribute_map = {{"rounds_by_map": "rounds_planted"}}

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Region()
        self.config = Config(rounds_planted=1)
        self.same = self.config.get_text_config()

    def embed_input_ids(self, ids):
        {embed}
        return ids

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):
        if {condition}:
            self.model(input_ids, positions)
        return self.model(input_ids, positions)
"""
SOUND: dict[str, dict[str, str]] = {
    "plain": {},
    "by_the_map": {"condition": "self.config.rounds_by_map > 1"},
    "another_dictionary": {"embed": "other = {}; other.update(rounds_planted=2)"},
}
"""What changes no config."""
CHANGED: dict[str, dict[str, str]] = {
    "by_update": {"embed": "self.config.update({'rounds_planted': 2})"},
    "by_update_of_a_variable": {"embed": "own = self.config.get_text_config(); own.update({'rounds_planted': 2})"},
    "by_update_of_a_call": {"embed": "self.config.get_text_config().update({'rounds_planted': 2})"},
    "by_update_of_another_attribute": {"embed": "self.same.update({'rounds_planted': 2})"},
    "by_update_by_its_name": {"embed": "getattr(self.same, 'update')({'rounds_planted': 2})"},
    "by_the_constructor": {"embed": "self.same.__init__(rounds_planted=2)"},
    "by_the_map": {"embed": "self.config.rounds_by_map = 2"},
    "by_the_name_below_the_map": {
        "embed": "self.config.rounds_planted = 2",
        "condition": "self.config.rounds_by_map > 1",
    },
    "by_a_property": {"embed": "self.config.num_labels = 3", "condition": "len(self.config.id2label) > 2"},
    "by_a_new_key": {"embed": "self.config.late = 1", "condition": "'late' in [name for name in self.config]"},
}
"""What may change the config."""


def model_of(folder: Path, name: str, parts: dict[str, str]) -> Any:
    """The model of a case."""
    text = MODEL.format(**{"embed": "pass", "condition": "self.config.rounds_planted > 1", **parts})
    return proof_built_models.imported(folder, f"config_{name}", text).Model
