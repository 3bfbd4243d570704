"""What a command imports: `verdict` and `serve` stand in a start path and pay for nothing they do not need.

Measured by `python -X importtime` in processes of their own, less what a bare Python imports. typer, which every other
command needs, itself brings `subprocess`, `inspect` and some forty modules more; so the usual forms of the two do
without it.
"""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from fake_environment import LLAMA, MIXTRAL, QWEN, Serving, tuner

HEAVY = {
    "asyncio",
    "concurrent",
    "cryptography",
    "http",
    "huggingface_hub",
    "jinja2",
    "minisign",
    "multiprocessing",
    "pydantic",
    "pydantic_core",
    "rich",
    "socket",
    "sqlitedict",
    "ssl",
    "torch",
    "transformers",
    "triton",
    "vllm",
    "yaml",
}
"""Top-level modules that no command below needs."""
NOT_AT_START = {*HEAVY, "dataclasses", "logging", "packaging", "subprocess", "tempfile", "threading", "typer"}
"""What `verdict` and `serve` do without beside those."""
PROBING = {
    "tuner.probe.models",
    "tuner.probe",
    "tuner.probe.runner",
    "tuner.model.shrink",
    "tuner.model.shrink_layers",
    "rules.judge",
}


def imported(*arguments: object, env: dict[str, str] | None = None) -> tuple[int, set[str]]:
    """Exit code of a Python with these arguments, and the modules that it imported."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", *map(str, arguments)],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in process.stderr, process.stderr
    return process.returncode, set(re.findall(r"^import time:[ \d]+\|[ \d]+\| +(\S+)$", process.stderr, re.MULTILINE))


@cache
def bare() -> frozenset[str]:
    """What Python imports by itself, `.pth` files included."""
    return frozenset(imported("-c", "pass")[1])


def run(*arguments: object) -> tuple[int, set[str]]:
    """Exit code of `tuner` with these arguments, and the modules that it imported."""
    code, modules = imported("-m", "tuner", *arguments)
    assert "tuner.__main__" in modules or "tuner" in modules
    return code, modules - bare()


def packages(modules: set[str]) -> set[str]:
    """Top-level names of modules."""
    return {module.partition(".")[0] for module in modules}


@pytest.fixture
def where(serving: Serving, store: Path) -> list[object]:
    """The options that name this environment and a store with verdicts of two models."""
    return ["--python", serving.python, "--store", serving.store_of(store, MIXTRAL, LLAMA)]


START_PATH: dict[str, tuple[list[object], int]] = {
    "a stored verdict": (["verdict", "{where}", MIXTRAL], 0),
    "a stored verdict as JSON": (["verdict", MIXTRAL, "{where}", "--json"], 0),
    "a verdict that is not stored": (["verdict", QWEN, "{where}"], 3),
    "a verdict of another platform": (["verdict", "--accept-platform", "cuda", QWEN, "{where}"], 3),
    "no such model": (["verdict", "./no-such-folder", "{where}"], 1),
    "a launch with a verdict": (["serve", "{where}", "--dry-run", MIXTRAL, "--tensor-parallel-size", "2"], 0),
    "a launch with settings": (["serve", "{where}", "--dry-run", MIXTRAL, "-cc.cudagraph_mode=NONE"], 0),
    "a launch that a file decides": (["serve", "{where}", "--decision", "{decision}", "--dry-run", MIXTRAL], 0),
    "a launch without a verdict": (["serve", "{where}", "--fail-on-unknown", "--dry-run", QWEN, "--port", "1"], 0),
}


@pytest.mark.parametrize("case", START_PATH)
def test_a_start_imports_only_what_it_needs(case: str, where: list[object], tmp_path: Path) -> None:
    """Looking up and launching from a warm store import msgspec alone of third parties, and nothing of the probe."""
    words, expected = START_PATH[case]
    decision = tmp_path / "decision.json"
    decision.write_text(tuner("export", MIXTRAL, *where).out)
    parts = {"{where}": where, "{decision}": [decision]}
    code, modules = run(*(part for word in words for part in parts.get(str(word), [word])))
    assert code == expected
    assert not packages(modules) & NOT_AT_START
    assert not modules & PROBING
    assert ("cache.verdicts.database" in modules) is ("{decision}" not in words) or "cache.verdicts.store" in modules


OTHERS: dict[str, tuple[list[object], int]] = {
    "the help": (["--help"], 0),
    "the version": (["--version"], 0),
    "a command's help": (["serve", "--help"], 0),
    "faulty usage": (["verdict", "--no-such-option"], 2),
    "the environment": (["env", "{python}"], 0),
    "a plan": (["plan", MIXTRAL, "{where}"], 0),
    "an export": (["export", MIXTRAL, "{where}"], 0),
    "the list": (["verdicts", "list", "{store}"], 0),
    "a bundle": (["verdicts", "export", "{store}"], 0),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_commands_import_typer_alone(case: str, where: list[object]) -> None:
    """Help, plans and lists import typer and what it brings, and no other third-party library."""
    words, expected = OTHERS[case]
    parts = {"{where}": where, "{python}": where[:2], "{store}": where[2:]}
    code, modules = run(*(part for word in words for part in parts.get(str(word), [word])))
    assert code == expected
    assert "typer" in packages(modules)
    assert not packages(modules) & HEAVY


def test_a_launch_with_a_config_file_imports_yaml(where: list[object], tmp_path: Path) -> None:
    """The measure sees what is imported: reading vLLM's `--config` file needs PyYAML, and only that."""
    config = tmp_path / "serve.yaml"
    config.write_text("port: 8001\n", encoding="utf-8")
    code, modules = run("serve", *where, "--dry-run", MIXTRAL, "--config", config)
    assert code == 0
    assert packages(modules) & NOT_AT_START == {"yaml"}


def test_typer_brings_processes_and_no_event_loop() -> None:
    """Why the two do without typer: it imports `subprocess`; it brings neither rich, pydantic nor asyncio with it."""
    _, modules = imported("-c", "import typer")
    assert "subprocess" in modules
    assert not packages(modules) & HEAVY
