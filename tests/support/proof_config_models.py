"""Small models that read a config of transformers around their region, each in a file of its own.

A model enters its region twice if the config changes. What matters is whether any code may change it.
"""

from pathlib import Path
from typing import Any

import proof_built_models

PREFIX = "config_"
"""Begins the names of the modules of the cases."""
MODEL = """
import functools
import operator
from contextlib import nullcontext
from proof_outer_models import Region
from torch import nn
from transformers import PretrainedConfig
import config_helper

HELD = []

class Config(PretrainedConfig):
    attribute_map = {{"rounds_by_map": "rounds_planted"}}
{config}

class Other(Config):
    rounds_planted = 2

class Holder:
    pass

class Slot:
    __slots__ = ("config_in_slot",)

class Model(nn.Module):
    @property
    def config_by_property(self):
        return self.config

    def __init__(self):
        super().__init__()
        self.model = Region()
        self.config = Config(rounds_planted=1)
        self.same = self.config.get_text_config()
        self.table = {{"own": self.config}}
        self.part = Holder()
        self.part.config_of_part = self.config
        self.slot = Slot()
        self.slot.config_in_slot = self.config
        HELD.append(self.config)
        config_helper.HELD.append(self.config)
        {constructor}

    def given(self, **own):
        {given}

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
    "by_a_property_of_another_name": {"embed": "self.config._attn_implementation = 'eager'"},
    "by_an_implementation_while_built": {"constructor": "same = self.config; same._attn_implementation = 'eager'"},
    "by_reading_its_dictionary": {"embed": "own = Config(**vars(self.config)); vars(self.config)['rounds_planted']"},
    "by_a_helper_that_reads": {"embed": "config_helper.read(self.config)"},
    "by_a_key_that_holds_no_config": {"embed": "self.part.other['size'].update({'rounds_planted': 2})"},
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
    "by_setattr": {"embed": "setattr(self.config, 'rounds_planted', 2)"},
    "by_a_computed_name": {"embed": "setattr(self.config, 'rounds_' + 'planted', 2)"},
    "by_setattr_of_object": {"embed": "object.__setattr__(self.config, 'rounds_planted', 2)"},
    "by_setattr_by_another_name": {"embed": "put = setattr; put(self.config, 'rounds_planted', 2)"},
    "by_a_bound_setattr": {"embed": "put = self.config.__setattr__; put('rounds_planted', 2)"},
    "by_a_partial": {"embed": "functools.partial(setattr, self.config)('rounds_planted', 2)"},
    "by_a_map_of_setattr": {"embed": "list(map(setattr, [self.config], ['rounds_planted'], [2]))"},
    "by_the_dictionary": {"embed": "self.config.__dict__['rounds_' + 'planted'] = 2"},
    "by_update_of_the_dictionary": {"embed": "self.config.__dict__.update(rounds_planted=2)"},
    "by_a_variable_with_the_dictionary": {"embed": "own = self.config.__dict__; own['rounds_' + 'planted'] = 2"},
    "by_another_dictionary": {"embed": "self.config.__dict__ = {**vars(self.config), 'rounds_planted': 2}"},
    "by_the_dictionary_in_place": {"embed": "self.config.__dict__ |= {'rounds_planted': 2}"},
    "by_vars": {"embed": "vars(self.config)['rounds_' + 'planted'] = 2"},
    "by_vars_and_a_variable": {"embed": "own = vars(self.config); own.update(rounds_planted=2)"},
    "by_setitem_of_dict": {"embed": "dict.__setitem__(self.config.__dict__, 'rounds_planted', 2)"},
    "by_setitem": {"embed": "operator.setitem(vars(self.config), 'rounds_planted', 2)"},
    "by_another_map": {"embed": "type(self.config).attribute_map = {'rounds_planted': 'other'}"},
    "by_an_entry_of_the_map": {"embed": "self.config.attribute_map['rounds_planted'] = 'other'"},
    "by_an_attribute_of_the_class": {"embed": "Config.rounds_planted = property(lambda config: 2)"},
    "by_another_class": {"embed": "self.config.__class__ = Other"},
    "by_another_config": {"embed": "self.config = Config(rounds_planted=2)"},
    "by_a_global": {"embed": "HELD[0].rounds_planted = 2"},
    "by_a_variable": {"embed": "own = self.config; own.rounds_planted = 2"},
    "by_a_context": {"embed": "with nullcontext(2) as self.config.rounds_planted: pass"},
    "by_a_computed_update": {"embed": "getattr(self.config, 'up' + 'date')({'rounds_planted': 2})"},
    "by_a_kept_computed_update": {"embed": "put = getattr(self.config, 'up' + 'date'); put({'rounds_planted': 2})"},
    "by_a_method_by_its_name": {"embed": "operator.methodcaller('up' + 'date', {'rounds_planted': 2})(self.config)"},
    "by_a_bound_update": {"embed": "put = self.config.update; put({'rounds_planted': 2})"},
    "by_update_in_a_table": {"embed": "self.table['own'].update({'rounds_planted': 2})"},
    "by_update_in_a_part": {"embed": "self.part.config_of_part.update({'rounds_planted': 2})"},
    "by_update_of_an_argument": {
        "embed": "self.given(config=self.config)",
        "given": "own['config'].update({'rounds_planted': 2})",
    },
    "by_the_constructor_of_the_class": {"embed": "Config.__init__(self.config, rounds_planted=2)"},
    "by_code_in_a_text": {"embed": "exec('self.config.rounds_planted = 2')"},
    "by_a_state": {"embed": "self.config.__setstate__({'rounds_planted': 2})"},
    "by_a_callback": {
        "constructor": "self.later = lambda config: setattr(config, 'rounds_planted', 2)",
        "embed": "self.later(self.config)",
    },
    "by_a_method": {"config": "def change(self): self.rounds_planted = 2", "embed": "self.config.change()"},
    "by_its_own_property": {
        "config": "def put(self, value): self.rounds_planted = value\n    other = property(None, put)",
        "embed": "self.config.other = 2",
    },
    "by_its_own_setattr": {
        "config": "def __setattr__(self, name, value): super().__setattr__(name.replace('other', 'rounds_'), value)",
        "embed": "self.config.otherplanted = 2",
    },
    "by_a_method_of_its_file": {"config": "change = config_helper.own_put", "embed": "self.config.change()"},
    "by_a_function_of_another_file": {"embed": "config_helper.put(self.config)"},
    "by_setattr_in_another_file": {"embed": "config_helper.put_by_setattr(self.config)"},
    "by_update_in_another_file": {"embed": "config_helper.put_by_update(self.config)"},
    "by_a_method_of_another_file": {"embed": "config_helper.Putter().put_in(self.config)"},
    "by_a_borrowed_method": {"embed": "config_helper.Putter.own_put(self.config)"},
    "by_a_constructor_of_another_file": {"embed": "config_helper.Putter(self.config)"},
    "by_a_global_of_another_file": {"embed": "config_helper.put_in_all()"},
    "by_update_of_a_property": {"embed": "self.config_by_property.update({'rounds_planted': 2})"},
    "by_update_of_an_attribute_stored_late": {"embed": "self.late = self.config; self.late.update(rounds_planted=2)"},
    "by_update_of_a_slot": {"embed": "self.slot.config_in_slot.update({'rounds_planted': 2})"},
    "by_update_in_a_context": {
        "embed": "own = {}\n        with nullcontext(self.config) as own: own.update({'rounds_planted': 2})"
    },
    "by_update_in_a_match": {
        "embed": "own = {}\n        match self.config:\n            case own: own.update({'rounds_planted': 2})"
    },
    "by_an_import_in_a_function": {"embed": "from config_helper import put as put_it; put_it(self.config)"},
}
"""What may change the config."""
HELPER = """
HELD = []

def read(config):
    return config.rounds_planted

def put(config):
    config.rounds_planted = 2

def put_by_setattr(config):
    setattr(config, "rounds_planted", 2)

def put_by_update(config):
    config.update({"rounds_planted": 2})

def own_put(self):
    self.rounds_planted = 2

def put_in_all():
    HELD[0].rounds_planted = 2

class Putter:
    def __init__(self, config=None):
        if config:
            config.rounds_planted = 2

    def put_in(self, config):
        config.rounds_planted = 2

    def own_put(self):
        self.rounds_planted = 2
"""
"""Another file that each model imports."""


def model_of(folder: Path, name: str, parts: dict[str, str]) -> Any:
    """The model of a case."""
    nothing = dict.fromkeys(("config", "constructor", "given", "embed"), "pass")
    values = {**nothing, "condition": "self.config.rounds_planted > 1", **parts}
    values["config"] = f"    {values['config']}"
    return proof_built_models.imported_with_helper(folder, PREFIX, name, MODEL.format(**values), HELPER).Model
