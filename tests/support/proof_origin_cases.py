"""Runs inside a serving environment: whose code a file is, what is replaced in vLLM, and what is read.

Each `answers` is a group of `proof_part_cases.py`: name of the case -> what the proof says of it.
"""
# ruff: noqa: ANN001, ANN002, ANN201, ANN204, ARG005, D101, D102  the cases are the data

import base64
import contextlib
import copy
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn
from torch.utils._pytree import tree_map
from vllm import envs, forward_context
from vllm.config import ParallelConfig
from vllm.forward_context import ForwardContext
from vllm.model_executor.models import ModelRegistry, qwen3_moe

from vllm_launch_worker.proof import patches
from vllm_launch_worker.proof.groups import classes_of_the_launch
from vllm_launch_worker.proof.origin import Origins, standard_folders
from vllm_launch_worker.proof.reads import Reads
from vllm_launch_worker.proof.stores import stored_in

# ---- whose code a file is


class Made(NamedTuple):
    """A distribution in a folder of its own.

    Attributes:
        name: of the distribution, and of its package.
        requires: names of others.
        recorded: whether its RECORD names its files.
    """

    name: str
    requires: tuple[str, ...] = ()
    recorded: bool = True

    def write(self, site: Path) -> Path:
        """Install it; the file of its package."""
        file = site / self.name / "__init__.py"
        file.parent.mkdir(parents=True)
        file.write_text(f"NAME = {self.name!r}\n", encoding="utf-8")
        info = site / f"{self.name}-1.0.dist-info"
        info.mkdir()
        wanted = "".join(f"Requires-Dist: {name}\n" for name in self.requires)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {self.name}\nVersion: 1.0\n{wanted}", encoding="utf-8"
        )
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
        row = f"{self.name}/__init__.py,sha256={digest},{file.stat().st_size}\n"
        (info / "RECORD").write_text(row if self.recorded else "", encoding="utf-8")
        return file


@contextmanager
def sites(folder: Path, *distributions: Made) -> Iterator[dict[str, Path]]:
    """While the block runs, these alone are installed; name -> the file of its package."""
    with mock.patch.object(sys, "path", [str(folder)]):
        yield {made.name: made.write(folder) for made in distributions}


MADE = (
    Made("vllm", ("planted_helper>=1 ; extra == 'all'",)),
    Made("planted_helper", ("planted-inner",)),
    Made("planted_inner"),
    Made("planted_stranger"),
)


def origins_of_made(folder: Path) -> dict[str, bool]:
    """Of each file in a made environment, whether it is trusted."""
    with sites(folder, *MADE) as files:
        added = files["vllm"].with_name("added.py")
        added.write_text("", encoding="utf-8")
        beside = folder / "torch" / "strange.py"
        beside.parent.mkdir()
        beside.write_text("", encoding="utf-8")
        origins = Origins()
        wanted = {**files, "added": added, "beside": beside, "gone": folder / "gone.py"}
        answers = {name: origins.is_trusted(str(file)) for name, file in wanted.items()}
        for name in ("vllm", "planted_inner"):
            files[name].write_text(files[name].read_text(encoding="utf-8").replace("N", "M"), encoding="utf-8")
            answers[f"{name}_changed"] = Origins().is_trusted(str(files[name]))
    return answers


def origins_of_editable(folder: Path) -> bool:
    """Whether the file of a vLLM is trusted that was installed without naming its files."""
    with sites(folder, Made("vllm", recorded=False)) as files:
        return Origins().is_trusted(str(files["vllm"]))


def standard_files(folder: Path, origins: Origins) -> dict[str, bool]:
    """Where the standard library is laid out otherwise, and packages lie below it."""
    names = ("json/__init__.py", "dist-packages/strange/__init__.py", "site-packages/json/__init__.py")
    for name in (*names, "strange.py", "lib-dynload/_json.py"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("", encoding="utf-8")
    standard_folders.cache_clear()
    with mock.patch.object(sysconfig, "get_path", return_value=str(folder)):
        answers = {str(file.relative_to(folder)): origins.is_trusted(str(file)) for file in folder.rglob("*.py")}
    standard_folders.cache_clear()
    return answers


def origin_answers(folder: Path, origins: Origins) -> dict[str, Any]:
    """Files of this environment, and of made ones."""
    here = {
        "of_vllm": qwen3_moe.__file__,
        "of_torch": torch.__file__,
        "of_python": contextlib.__file__,
        "of_nobody": __file__,
        "at_run_time": "<string>",
    }
    counted = ("of_vllm", "of_torch", "of_python", "of_nobody")
    return {
        **{name: origins.is_trusted(file) for name, file in here.items()},
        "own": [origins.is_own(here["of_vllm"]), origins.is_own(here["of_torch"])],
        "counted": [bool(origins.counted_digest(here[name])) for name in counted],
        "made": origins_of_made(folder / "made"),
        "editable": origins_of_editable(folder / "editable"),
        "standard": standard_files(folder / "lib", origins),
        "named": {name: classes_are_trusted(origins, **fields) for name, fields in NAMED.items()},
    }


NAMED: dict[str, dict[str, Any]] = {
    "none": {},
    "worker": {"worker_cls": "vllm.v1.worker.gpu_worker.Worker"},
    "own_worker": {"worker_cls": "proof_origin_cases.Own"},
    "own_extension": {"worker_extension_cls": "proof_origin_cases.Own"},
    "unknown_extension": {"worker_extension_cls": "no_such_package.Own"},
    "executor": {"distributed_executor_backend": "mp"},
    "own_executor": {"distributed_executor_backend": Made},
}
"""Classes that a launch names."""


def classes_are_trusted(origins: Origins, **fields: Any) -> bool:
    """Whether every class that a launch names for its processes is vLLM's own."""
    empty = {"worker_cls": "auto", "worker_extension_cls": "", "distributed_executor_backend": None}
    files = classes_of_the_launch(SimpleNamespace(**{**empty, **fields}))
    return all(map(origins.is_trusted, files))


# ---- what is replaced in vLLM


def own():
    """A function of somebody else's, another one at each call."""
    return lambda *args, **kwargs: None


class Own(nn.Module):
    def forward(self, *args):
        return args


class Inheriting(forward_context.DPMetadata):
    limit = 1


class OwnDescriptor(forward_context.BatchDescriptor):
    def __call__(self):
        return None


EXECUTED: dict[str, Any] = {"__file__": __file__, "__name__": "planted"}
exec("def executed(): pass", EXECUTED)  # noqa: S102  what is tested

FUNCTIONS = {
    "create_forward_context": own(),
    "is_forward_context_available": EXECUTED["executed"],
    "override_forward_context": contextlib.contextmanager(own()),
    "get_forward_context": functools.partial(own(), 1),
    "set_forward_context": functools.lru_cache(own()),
    "DPMetadata": Inheriting,
    "BatchDescriptor": OwnDescriptor,
}
"""Attribute of vllm/forward_context.py -> what stands in its place."""
MEMBERS = {
    (qwen3_moe.Qwen3MoeForCausalLM, "forward"): own(),
    (qwen3_moe.Qwen3MoeModel, "load_weights"): torch.no_grad()(own()),
    (ForwardContext, "__post_init__"): own(),
    (ParallelConfig, "use_ubatching"): property(own()),
    (ParallelConfig, "compute_hash"): staticmethod(own()),
    (ParallelConfig, "__eq__"): Own().forward,
}
"""Class and attribute -> what stands in its place."""


def replaced(origins) -> list[str]:
    """Names of what `patches.py` finds replaced in vLLM, without the modules."""
    with mock.patch.object(patches, "MOST", 1000):
        failures = patches.patches(origins)
    modules = ("forward_context.", "qwen3_moe.", "parallel.")
    names = {failure["fields"]["function"] for failure in failures}
    return sorted(name.rpartition(part)[2] for name in names for part in modules if part in name)


def patch_answers(origins) -> dict[str, Any]:
    """VLLM as it is, with a model that a plugin registers, and with each of its parts replaced."""
    answers: dict[str, Any] = {"own": patches.patches(origins)}
    with mock.patch.dict(ModelRegistry.models):
        ModelRegistry.register_model("PlantedForCausalLM", Own)
        ModelRegistry.register_model("PlantedLaterForCausalLM", "planted_plugin:Planted")
        answers["registered"] = patches.patches(origins)
    with ExitStack() as blocks:
        for name, value in FUNCTIONS.items():
            blocks.enter_context(mock.patch.object(forward_context, name, value))
        for (kind, name), value in MEMBERS.items():
            blocks.enter_context(mock.patch.object(kind, name, value))
        answers["replaced"] = replaced(origins)
    answers["planted"] = sorted([*FUNCTIONS, *(f"{kind.__name__}.{name}" for kind, name in MEMBERS)])
    answers["afterwards"] = patches.patches(origins)
    return answers


# ---- what is read

READERS = {
    "PLANTED_GET": lambda: os.environ.get("PLANTED_GET"),
    "PLANTED_GETENV": lambda: os.getenv("PLANTED_GETENV"),
    "PLANTED_INDEX": lambda: os.environ["PLANTED_INDEX"],
    "PLANTED_UNSET": lambda: os.environ.get("PLANTED_UNSET", "0"),
    "PLANTED_IN": lambda: "PLANTED_IN" in os.environ,
    "PLANTED_BYTES": lambda: os.environb.get(b"PLANTED_BYTES"),
    "PLANTED_POP": lambda: os.environ.pop("PLANTED_POP", None),
    "PLANTED_DEFAULT": lambda: os.environ.setdefault("PLANTED_DEFAULT", "0"),
    "VLLM_LOGGING_LEVEL": lambda: envs.VLLM_LOGGING_LEVEL,
}
LISTINGS = {
    "loop": lambda: [name for name in os.environ if name == "PLANTED_GET"],
    "items": lambda: list(os.environ.items()),
    "copy": os.environ.copy,
    "dict": lambda: dict(os.environ),
    "unpacked": lambda: {**os.environ},
    "joined": lambda: os.environ | {},
}


def variables_read(reader) -> dict[str, Any]:
    """What is noted while this runs, and whether the mapping is afterwards as it was."""
    kind = type(os.environ)
    before = kind.__getitem__, kind.__iter__
    reads = Reads()
    with mock.patch.dict(os.environ, {"PLANTED_INDEX": "1"}), reads.of_variables():
        reader()
    restored = (kind.__getitem__, kind.__iter__) == before
    names = sorted(name for name in reads.variables if name.startswith(("PLANTED", "VLLM")))
    return {"variables": names, "listed": [Path(file).name for file in reads.listed], "restored": restored}


def fields_read(config, read) -> list[str]:
    """Fields that are noted while this runs on the config."""
    reads = Reads()
    with reads.of_fields(config):
        read(config)
    return sorted(reads.fields)


FIELDS = {
    "attribute": lambda config: config.scheduler_config.max_num_seqs,
    "by_name": lambda config: getattr(config.scheduler_config, "max_num_seqs", None),
    "of_copy": lambda config: copy.copy(config.scheduler_config).max_num_seqs,
    "by_dictionary": lambda config: config.scheduler_config.__dict__["max_num_seqs"],
    "by_vars": lambda config: vars(config.scheduler_config)["max_num_seqs"],
    "of_method": lambda config: config.scheduler_config.compute_hash,
    "nothing": lambda config: config.scheduler_config,
}


SEARCHES = {
    "by_name": lambda: os.environ.get("PATH"),
    "by_which": lambda: shutil.which("ninja"),
    "by_a_program": lambda: subprocess.run(["true"], check=True),
    "for_torch": lambda: tree_map(shutil.which, ["ninja"]),
    "compiler": lambda: os.environ.get("CXX"),
}
"""Ways in which foreign code, such as this file, looks for programs; the last but one lets torch do it."""


def searches_read(search, origins) -> list[str]:
    """The toolchain's variables that count after this search."""
    reads = Reads()
    with reads.of_variables():
        search()
    return sorted(reads.variables_of(origins))


def search_answers() -> dict[str, list[str]]:
    """What counts of searches by this file, by a package, and by vLLM's own code."""
    origins = Origins()
    answers = {name: searches_read(search, origins) for name, search in SEARCHES.items()}
    here, torch_file, vllm_file = __file__, torch.utils._pytree.__file__, envs.__file__
    orders = {
        "package": (torch_file,),
        "package_for_vllm": (torch_file, vllm_file),
        "vllm": (vllm_file, torch_file),
        "package_for_others": (torch_file, vllm_file, here),
        "nobody": (),
    }
    for name, files in orders.items():
        reads = Reads()
        reads.searched["PATH"] = {files}
        answers[name] = sorted(reads.variables_of(origins))
    return answers


def read_answers(config) -> dict[str, Any]:
    """Variables and fields."""
    return {
        "searches": search_answers(),
        "variables": {name: variables_read(reader) for name, reader in READERS.items()},
        "listings": {name: variables_read(reader) for name, reader in LISTINGS.items()},
        "fields": {name: fields_read(config, read) for name, read in FIELDS.items()},
    }


# ---- what functions store

STORING = {
    "attribute": "self.x = 1",
    "deleted": "del self.x",
    "added_to": "self.x += 1",
    "setattr": "setattr(self, 'x', 1)",
    "object_setattr": "object.__setattr__(self, 'x', 1)",
    "key": "self.__dict__['x'] = 1",
    "global": "global x\n  x = 1",
    "computed": "setattr(self, name, 1)",
    "dictionary": "self.__dict__.update(x=1)",
    "vars": "vars(self).update(x=1)",
    "item": "self.x[0] = 1",
    "append": "self.x.append(1)",
    "dunder": "self.x.__setitem__(0, 1)",
    "renamed": "y = self.x\n  y.append(1)",
    "renamed_twice": "y = self.x\n  z = y\n  z[0] = 1",
    "renamed_if_there": "y = self.x or []\n  y[0] = 1",
    "by_getattr": "getattr(self, 'x').append(1)",
    "added_in_place": "y = self.x\n  y += [1]",
    "loop": "for y in self.x:\n    y[0] = 1",
    "items": "for _, y in self.x.items():\n    y[0] = 1",
    "comprehension": "[y.append(1) for y in self.x]",
    "walrus": "(y := self.x).append(1)",
    "plain_variable": "y = []\n  y.append(self.x)",
    "read": "return self.x[0]",
}


def store_answers(folder: Path) -> dict[str, list[str]]:
    """Names that are noted of a function with this body, of a method that is given it, and of a constructor."""
    answers: dict[str, list[str]] = {}

    def note(name: str, *texts: str) -> None:
        files = [folder / f"stores_{name}_{number}.py" for number, _ in enumerate(texts)]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text, encoding="utf-8")
        answers[name] = sorted(stored_in(frozenset(map(str, files))))

    for name, body in STORING.items():
        note(name, f"def f(self, name):\n  {body}\n")
    note("constructor", "def __init__(self):\n  self.x = 1\n")
    helper, giver = "def change(values):\n  values.append(1)\n", "def f(self):\n  change(self.x)\n"
    note("given", helper + giver)
    note("given_to_method", helper + giver.replace("change(", "self.change("))
    note("given_elsewhere", helper, giver)
    note("given_to_reader", helper.replace("values.append(1)", "return values") + giver)
    return answers
