"""Small models that store attributes while they are built, by names that they compute, each in a file of its own.

The number `built` decides how often the region is entered. The function `plant_it` stores it. What matters is whether
it can run again after the model was built.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

MODEL = """
import functools
from proof_outer_models import Around

class Part:
    pass

class Helper:
    def __init__(self, model):
        {helper}

class Model(Around):
    def __init__(self):
        super().__init__()
        self.plant_it(self, "built", 1)
        {constructor}

    {decorator}
    def plant_it({own}part, name, value):
        {build}

    def compute_logits(self, hidden):
        {logits}
        return hidden

    def run(self, ids, positions):
        {passing}
        return self.either(self.built > 1, ids, positions)
"""
NESTED = """def store(inner):
            setattr(inner, name, value)
        store(part)"""
KEPT = """setattr(part, name, value)
        def store():
            setattr(part, name, value + 1)
        self.later = store"""
IN_A_CLASS = """setattr(part, name, value)
        class Later:
            {kind}
            def again():
                setattr(part, name, value + 1)
        self.later = Later"""
GENERATED = """setattr(part, name, value)
        yield setattr(part, name, value + 1)"""
AGAIN = "self.plant_it(self, 'built', 2)"
SOUND: dict[str, dict[str, str]] = {
    "once": {},
    "once_for_a_part": {"constructor": "self.plant_it(Part(), 'other', 1)"},
    "by_a_nested_function": {"build": NESTED},
    "by_a_static_method": {"decorator": "@staticmethod", "own": ""},
}
"""What only the constructor runs."""
AGAIN_LATER: dict[str, dict[str, str]] = {
    "by_another_method": {"logits": AGAIN},
    "by_a_text": {"logits": "getattr(self, 'plant_it')(self, 'built', 2)"},
    "by_a_computed_name": {"logits": "getattr(self, 'plant_' + 'it')(self, 'built', 2)"},
    "by_a_computed_name_in_two_steps": {"logits": "again = getattr(self, 'plant_' + 'it'); again(self, 'built', 2)"},
    "by_a_kept_computed_name": {
        "constructor": "self.later = getattr(self, 'plant_' + 'it')",
        "logits": "self.later(self, 'built', 2)",
    },
    "by_an_annotated_name": {"logits": "again: object = getattr(self, 'plant_' + 'it'); again(self, 'built', 2)"},
    "by_a_name_in_an_expression": {"logits": "(again := getattr(self, 'plant_' + 'it'))(self, 'built', 2)"},
    "by_a_list_of_names": {"logits": "[f(self, 'built', 2) for f in [getattr(self, n) for n in ['plant_' + 'it']]]"},
    "by_a_partial": {"logits": "functools.partial(getattr(self, 'plant_' + 'it'), self, 'built', 2)()"},
    "by_a_dictionary": {"logits": "vars(Model)['plant_' + 'it'](self, self, 'built', 2)"},
    "by_the_constructor": {
        "constructor": "self.plant_it(self, 'built', 2 if hasattr(self, 'second') else 1); self.second = 1",
        "logits": "self.__init__()",
    },
    "by_another_class": {"helper": "model.plant_it(model, 'built', 2)", "logits": "Helper(self)"},
    "by_a_kept_method": {"constructor": "self.later = self.plant_it", "logits": "self.later(self, 'built', 2)"},
    "by_a_kept_lambda": {"constructor": f"self.later = lambda: {AGAIN}", "logits": "self.later()"},
    "by_a_generator_expression": {"constructor": f"self.later = ({AGAIN} for _ in 'a')", "logits": "next(self.later)"},
    "by_a_nested_function": {"build": KEPT, "logits": "self.later()"},
    "by_a_class_in_it": {"build": IN_A_CLASS.format(kind=""), "logits": "self.later.again()"},
    "by_a_static_method_in_it": {"build": IN_A_CLASS.format(kind="@staticmethod"), "logits": "self.later.again()"},
    "by_a_generator": {
        "constructor": "self.built = 1; self.later = self.plant_it(self, 'built', 1)",
        "build": GENERATED,
    },
    "by_a_static_method": {"decorator": "@staticmethod", "own": "", "logits": "Model.plant_it(self, 'built', 2)"},
    "by_a_kept_static_method": {
        "decorator": "@staticmethod",
        "own": "",
        "constructor": "self.later = Model.plant_it",
        "logits": "self.later(self, 'built', 2)",
    },
    "by_a_decorator": {"decorator": "@functools.partialmethod"},
    "by_another_object": {"logits": "type(self)()"},
    "by_another_object_of_the_class": {"logits": "Model()"},
    "in_a_pass": {"passing": "self.plant_it(self, 'built', 1)"},
}
"""What may run again, which makes a later pass enter the region twice."""
CALLER = "def again(model):\n    model.plant_it(model, 'built', 2)\n"
"""A file that calls `plant_it` of the sound model, as a runner may."""


def imported(folder: Path, name: str, text: str) -> ModuleType:
    """A module with this text."""
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def forget(prefix: str) -> None:
    """Forget the modules of the cases before this one, whose names begin so."""
    for name in [module for module in sys.modules if module.startswith(prefix)]:
        del sys.modules[name]


def imported_with_helper(folder: Path, prefix: str, name: str, text: str, helper: str) -> ModuleType:
    """A module with this text, which imports another file by the name of the prefix and `helper`.

    Args:
        folder: where both files are written.
        prefix: begins the names of the modules of the cases. Those of the cases before this one are forgotten.
        name: the rest of the module's name.
        text: the text of the module.
        helper: the text of the other file.
    """
    forget(prefix)
    imported(folder, f"{prefix}helper", helper)
    return imported(folder, f"{prefix}{name}", text)


def model_of(folder: Path, name: str, parts: dict[str, str]) -> Any:
    """The model of a case."""
    nothing = dict.fromkeys(("helper", "constructor", "logits", "passing"), "pass")
    text = MODEL.format(**{**nothing, "own": "self, ", "decorator": "", "build": "setattr(part, name, value)", **parts})
    forget("built_")  # a case before this one mentions the same function
    return imported(folder, f"built_{name}", text).Model
