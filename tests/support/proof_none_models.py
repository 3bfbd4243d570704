"""Small models with an attribute that is None at first, each in a file of its own.

A model enters its region twice if the attribute `mask_planted` is another value than None. What matters is whether
any code may store another value there.
"""

import sys
from pathlib import Path
from typing import Any

import proof_built_models

PREFIX = "none_"
"""Begins the names of the modules of the cases, which store the same attribute."""
MODEL = """
import functools
from contextlib import nullcontext
from proof_outer_models import Region
from torch import nn
from vllm.model_executor.utils import set_weight_attrs

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
        if self.mask_planted is not None:
            {use}
            self.mask_planted = None
            self.model(input_ids, positions)
        return self.model(input_ids, positions)
"""
SOUND: dict[str, dict[str, str]] = {
    "cleared": {"embed": "self.mask_planted = None"},
    "cleared_with_a_type": {
        "constructor": "self.mask_planted: object = None",
        "embed": "self.mask_planted = self.other = None",
    },
    "a_key_of_arguments": {"use": "arguments.update({'mask_planted': self.mask_planted})"},
}
"""What stores None alone."""
STORED: dict[str, dict[str, str]] = {
    "by_an_assignment": {"embed": "self.mask_planted = ids"},
    "in_a_row": {"embed": "self.mask_planted, other = ids, 1"},
    "in_a_loop": {"embed": "for self.mask_planted in (ids,): pass"},
    "by_a_context": {"embed": "with nullcontext(ids) as self.mask_planted: pass"},
    "by_setattr": {"embed": "setattr(self, 'mask_planted', ids)"},
    "by_a_computed_name": {"embed": "setattr(self, 'mask_' + 'planted', ids)"},
    "by_the_dictionary": {"embed": "own = self.__dict__; own.update(mask_planted=ids)"},
    "by_vars": {"embed": "own = vars(self); own.update(mask_planted=ids)"},
    "by_a_buffer": {"embed": "self.register_buffer('mask_planted', ids)"},
    "by_a_text": {"embed": "key = 'mask_planted'; self.__setattr__(key, ids)"},
    "by_a_state": {"embed": "self.__setstate__({'mask_planted': ids})"},
    "by_a_function_of_vllm": {"embed": "set_weight_attrs(self, {'mask_planted': ids})"},
    "by_the_dictionary_by_its_name": {"embed": "getattr(self, '__dict__').update(mask_planted=ids)"},
    "by_vars_by_another_name": {"embed": "own = vars; own(self).update(mask_planted=ids)"},
    "by_setattr_by_another_name": {"embed": "put = setattr; put(self, 'mask_' + 'planted', ids)"},
    "by_a_partial": {"embed": "functools.partial(setattr, self)('mask_' + 'planted', ids)"},
    "if_there_is_one": {"embed": "self.mask_planted = None if ids is None else ids"},
}
"""What may store another value."""
STATIC = """class OtherKind:
    @staticmethod
    def put(model, ids):
        model.mask_planted = ids

put = OtherKind.put
"""
HELPERS: dict[str, tuple[str, str]] = {
    "of_another_class": ("class OtherKind:\n    def put(self, ids):\n        self.mask_planted = ids\n", "pass"),
    "stored_by_a_helper": ("def put(model, ids):\n    model.mask_planted = ids\n", "put(self, ids)"),
    "stored_by_a_static_method": (
        STATIC,
        "put(self, ids)",
    ),
    "stored_by_a_borrowed_method": (
        "class OtherKind:\n    def put(self, ids):\n        self.mask_planted = ids\n",
        "helper.OtherKind.put(self, ids)",
    ),
}
"""The text of another file that stores the attribute, and what the model calls of it."""


def model_beside(folder: Path, name: str) -> Any:
    """The model of a case of `HELPERS`, beside its other file."""
    proof_built_models.forget(PREFIX)
    text, call = HELPERS[name]
    helper = proof_built_models.imported(folder, f"{PREFIX}helper_{name}", text)
    model = model_of(folder, f"beside_{name}", {"embed": call}, others=False)
    home: Any = sys.modules[model.__module__]
    home.helper, home.put = helper, getattr(helper, "put", None)
    return model


def model_of(folder: Path, name: str, parts: dict[str, str], *, others: bool = True) -> Any:
    """The model of a case."""
    if others:
        proof_built_models.forget(PREFIX)
    text = MODEL.format(**{"constructor": "self.mask_planted = None", "embed": "pass", "use": "pass", **parts})
    return proof_built_models.imported(folder, f"{PREFIX}{name}", text).Model
