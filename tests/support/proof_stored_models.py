"""Small models with a switch that code outside of the pass may store, each in a file of its own.

A model enters its region twice if the switch is on. What matters is whether any code may turn it on.
"""

import sys
from pathlib import Path
from typing import Any

import proof_built_models

PREFIX = "switch_"
"""Begins the names of the modules of the cases."""
MODEL = """
import functools
import importlib
import operator
import pkgutil
import torch
from contextlib import nullcontext
from proof_outer_models import Region
from torch import nn
import switch_helper
{head}

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Region()
        self.on_planted = False
        self.entries = {{"planted": 1}}
        self.numbers = torch.zeros(1, 4, device="meta")
        self.training = False
        self.__own_planted = False
        self.others = self.entries
        self.empty = {{}}
        self.part = Part()

    def given(self):
        return self.entries

    def enter(self, entries):
        entries["pl" + "anted"] = 2

    def embed_input_ids(self, ids):
        {embed}
        return ids

    def forward(self, input_ids, positions, intermediate_tensors=None, inputs_embeds=None):
        if {condition}:
            self.model(input_ids, positions)
        return self.model(input_ids, positions)

class Other(Model):
    on_planted = True
"""
SOUND: dict[str, str] = {
    "nothing": "pass",
    "read_in_the_dictionary": "self.__dict__['on_planted'] or vars(self).get('on_planted')",
    "read_all": "dict(**vars(self)); [name for name in vars(self).items()]",
    "another_attribute": "setattr(self, 'off_planted', True)",
    "read_by_a_helper": "switch_helper.read(self)",
    "another_list": "grow = [].append; grow(self.entries)",
    "of_a_part_that_is_made_anew": "Part()",
    "numbers_of_the_same_shape": "self.numbers.zero_()",
}
"""What stores nothing there."""
STORED: dict[str, str] = {
    "by_setattr": "setattr(self, 'on_planted', True)",
    "by_setattr_by_another_name": "put = setattr; put(self, 'on_planted', True)",
    "by_a_bound_setattr": "put = self.__setattr__; put('on_planted', True)",
    "by_a_partial": "functools.partial(setattr, self)('on_planted', True)",
    "by_a_computed_key": "self.__dict__['on_' + 'planted'] = True",
    "by_vars": "vars(self)['on_' + 'planted'] = True",
    "by_a_variable_with_vars": "own = vars(self); own.update(on_planted=True)",
    "by_a_variable_with_the_dictionary": "own = self.__dict__; own.update(on_planted=True)",
    "by_another_dictionary": "self.__dict__ = {**self.__dict__, 'on_planted': True}",
    "by_update_of_dict": "dict.update(self.__dict__, on_planted=True)",
    "by_another_class": "self.__class__ = Other",
    "by_another_class_and_setattr": "setattr(self, '__class__', Other)",
    "by_code_in_a_text": "exec('self.on_planted = True')",
    "by_a_state": "self.__setstate__({'on_planted': True})",
    "by_a_computed_method": "getattr(self, '__set' + 'attr__')('on_planted', True)",
    "by_a_function_of_another_file": "switch_helper.turn_on(self)",
    "by_a_method_of_another_file": "switch_helper.Switch().turn(self)",
    "in_a_container": "self.entries.update(planted=2)",
    "in_a_container_by_its_class": "dict.update(self.entries, planted=2)",
    "in_a_container_by_setitem": "operator.setitem(self.entries, 'planted', 2)",
    "in_a_container_by_a_bound_method": "put = self.entries.update; put(planted=2)",
    "in_a_container_by_getattr": "getattr(self.entries, 'update')(planted=2)",
    "in_a_container_by_another_file": "switch_helper.enter(self)",
    "in_a_container_by_another_attribute": "self.others['pl' + 'anted'] = 2",
    "in_a_container_that_a_method_returns": "self.given()['pl' + 'anted'] = 2",
    "in_a_container_by_a_method_by_another_name": "put = self.enter; put(self.entries)",
    "in_a_container_by_a_context": "with nullcontext(self.entries) as own: own['pl' + 'anted'] = 2",
    "in_a_container_by_an_operator": "operator.ior(self.entries, {'planted': 2})",
    "in_a_container_by_a_display": "own = {'own': self.entries}; own['own']['pl' + 'anted'] = 2",
    "by_a_module_imported_late": "from late_switch import turn_on; turn_on(self)",
    "by_a_module_in_a_text": "importlib.import_module('late_' + 'switch').turn_on(self)",
    "by_the_functions_of_python": "__builtins__['set' + 'attr'](self, 'on_planted', True)",
    "by_a_global_setattr": "put(self, 'on_planted', True)",
    "by_an_imported_setattr": "put(self, 'on_planted', True)",
    "by_a_global_in_a_dictionary": "PUTS['put'](self, 'on_planted', True)",
    "by_a_function_imported_by_another_name": "leave(self)",
    "by_a_computed_global": "globals()['__buil' + 'tins__']['set' + 'attr'](self, 'on_planted', True)",
    "by_a_computed_method_of_its_own": "self.__getattribute__('__set' + 'attr__')('on_planted', True)",
    "by_a_renamed_eval": "run = eval; run('setattr(self, \\'on_planted\\', True)', {'self': self})",
    "by_a_name_that_is_resolved": "pkgutil.resolve_name('builtins:set' + 'attr')(self, 'on_planted', True)",
    "by_an_updated_wrapper": "functools.update_wrapper(self, Other, assigned=('on_planted',), updated=())",
    "in_an_empty_dictionary": "self.empty.update(planted=2)",
    "of_a_part_by_its_constructor": "Part(True)",
    "of_a_part_by_its_class": "Part(True)",
    "of_a_part_by_its_state": "STATE.update(on_planted=True)",
    "of_a_part_by_a_descriptor": "Part.on_planted.__set__(self.part, True)",
    "by_its_mangled_name": "self._Model__own_planted = True",
    "as_a_mode": "self.train()",
    "as_a_shape": "self.numbers.resize_(2, 4)",
    "as_a_shape_of_data": "self.numbers.data = torch.zeros(2, 4, device='meta')",
    "as_a_hook": "self.register_forward_hook(lambda model, given, result: model.model(*given))",
}
"""What may turn the switch on, or change the number of entries."""
CONDITIONS = {
    "in_a_container": "self.entries['planted'] > 1",
    "mangled": "self.__own_planted",
    "an_empty_dictionary": "self.empty",
    "of_a_part": "self.part.on_planted",
    "a_mode": "self.training",
    "a_shape": "self.numbers.shape[0] > 1",
    "the_same_shape": "self.numbers.shape[0] > 1",
}
"""Part of a case's name -> the switch of its model. The others ask for `self.on_planted`."""
PART = "from torch.nn import Identity as Part"
ONE_PART = """
class Part:
    own = None

    def __new__(cls, on=False):
        if cls.own is None:
            cls.own = super().__new__(cls)
        return cls.own

    def __init__(self, on=False):
        self.on_planted = on
"""
PART_OF_A_CLASS = """
class Part:
    on_planted = False

    def __new__(cls, on=False):
        cls.on_planted = on
        return super().__new__(cls)
"""
PART_WITH_SHARED_STATE = """
STATE = {}

class Part:
    def __init__(self):
        self.__dict__ = STATE
        self.on_planted = False
"""
PART_WITH_SLOTS = """
class Part:
    __slots__ = ("on_planted",)

    def __init__(self):
        self.on_planted = False
"""
HEADS = {
    "of_a_part_that_is_made_anew": PART_WITH_SLOTS,
    "of_a_part_by_its_constructor": ONE_PART,
    "of_a_part_by_its_class": PART_OF_A_CLASS,
    "of_a_part_by_its_state": PART_WITH_SHARED_STATE,
    "of_a_part_by_a_descriptor": PART_WITH_SLOTS,
    "by_a_global_setattr": f"{PART}\nput = setattr",
    "by_an_imported_setattr": f"{PART}\nfrom builtins import setattr as put",
    "by_a_global_in_a_dictionary": f"{PART}\nPUTS = {{'put': setattr}}",
    "by_a_function_imported_by_another_name": f"{PART}\nfrom switch_helper import turn_on as leave",
}
"""Case -> the lines of its file that are not in a function of the model. The others have `PART`."""
LATE = """
def turn_on(model):
    model.on_planted = True
"""
"""A file that nothing has imported yet."""
HELPER = """
def read(model):
    return model.on_planted

def turn_on(model):
    model.on_planted = True

def enter(model):
    model.entries["planted"] = 2

class Switch:
    def turn(self, model):
        model.on_planted = True
"""
"""Another file that each model imports."""


def model_of(folder: Path, name: str, embed: str) -> Any:
    """The model of a case."""
    (folder / "late_switch.py").write_text(LATE, encoding="utf-8")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    condition = next((asked for part, asked in CONDITIONS.items() if part in name), "self.on_planted")
    head = HEADS.get(name.removeprefix("stored_"), PART)
    text = MODEL.format(head=head, embed=embed, condition=condition)
    return proof_built_models.imported_with_helper(folder, PREFIX, name, text, HELPER).Model
