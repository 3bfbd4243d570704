"""Small models with an attribute that is None at first, each in a file of its own.

A model enters its region twice if the attribute `mask` is another value than None. What matters is whether any code
may store another value there.
"""

from pathlib import Path
from typing import Any

import proof_built_models

MODEL = """
from contextlib import nullcontext
from proof_outer_models import Region
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Region()
        {constructor}

    def embed_input_ids(self, ids):
        {embed}
        return ids

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):
        arguments = {{}}
        if self.mask is not None:
            {use}
            self.mask = None
            self.model(input_ids, positions)
        return self.model(input_ids, positions)
"""
SOUND: dict[str, dict[str, str]] = {
    "cleared": {"embed": "self.mask = None"},
    "cleared_with_a_type": {"constructor": "self.mask: object = None", "embed": "self.mask = self.other = None"},
    "a_key_of_arguments": {"use": "arguments.update({'mask': self.mask})"},
}
"""What stores None alone."""
STORED: dict[str, dict[str, str]] = {
    "by_an_assignment": {"embed": "self.mask = ids"},
    "in_a_row": {"embed": "self.mask, other = ids, 1"},
    "in_a_loop": {"embed": "for self.mask in (ids,): pass"},
    "by_a_context": {"embed": "with nullcontext(ids) as self.mask: pass"},
    "by_setattr": {"embed": "setattr(self, 'mask', ids)"},
    "by_a_computed_name": {"embed": "setattr(self, 'ma' + 'sk', ids)"},
    "by_the_dictionary": {"embed": "own = self.__dict__; own.update(mask=ids)"},
    "by_vars": {"embed": "own = vars(self); own.update(mask=ids)"},
    "by_a_buffer": {"embed": "self.register_buffer('mask', ids)"},
    "by_a_text": {"embed": "key = 'mask'; self.__setattr__(key, ids)"},
    "if_there_is_one": {"embed": "self.mask = None if ids is None else ids"},
}
"""What may store another value."""


def model_of(folder: Path, name: str, parts: dict[str, str]) -> Any:
    """The model of a case."""
    text = MODEL.format(**{"constructor": "self.mask = None", "embed": "pass", "use": "pass", **parts})
    return proof_built_models.imported(folder, f"none_{name}", text).Model
