"""Test support: an environment whose launch worker hands back a real document, and a cache root.

A script stands in for the worker, because a real one takes half a minute.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from factors_samples import NEW, changed, factors, key_of, warm_record
from fake_environment import INERT, MIXTRAL, Answer, serving_in, tuner
from msgspec import structs

from cache.compiled.warm_record import WarmRecord, write_record
from tuner.engines import question as host

STAND_IN = """
import json, os, sys
from pathlib import Path

control, folder = Path(sys.argv[1]), Path({folder!r})
seen = {{"request": json.loads((control / "request.json").read_text()), "env": dict(os.environ), "cwd": os.listdir()}}
(folder / "seen.json").write_text(json.dumps(seen))
answer = json.loads((folder / "answer.json").read_text())
if answer is None:
    print("the last words")
    sys.exit(7)
(control / "draft").write_text(json.dumps(answer))
os.replace(control / "draft", control / "result-0.json")
"""


class Bench:
    """An environment whose worker hands back a document, and a cache root."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.python = serving_in(folder / "env", INERT).python
        self.root = folder / "cache"
        self.root.mkdir()
        worker = folder / "worker.py"
        worker.write_text(STAND_IN.format(folder=str(folder)), encoding="utf-8")
        monkeypatch.setattr(host, "WORKER", worker)
        self.will_say(changed(factors(NEW), 3, "compiles", "mode"))

    def will_say(self, document: Mapping[str, Any]) -> None:
        """What the worker will answer."""
        self.document = document
        told = {name: part for name, part in document.items() if name != "schema_version"}
        self.answers({"result": "ok", "factors": told})

    def answers(self, answer: Mapping[str, Any] | None) -> None:
        """As `will_say`, whole; None: it dies."""
        (self.folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")

    def seen(self) -> Any:
        """What the worker was given."""
        return json.loads((self.folder / "seen.json").read_text(encoding="utf-8"))

    def artifact(self) -> None:
        """Put an artifact under the document's key, as vLLM does."""
        folder = self.root / "torch_compile_cache" / "torch_aot_compile" / key_of(self.document) / "rank_0_0"
        folder.mkdir(parents=True)
        (folder / "model").write_bytes(b"never read")

    def record(self, **changes: Any) -> WarmRecord:
        """Record a warm-up of the model with the document as it is now."""
        record = structs.replace(
            warm_record(self.document, model=str(MIXTRAL), architecture="MixtralForCausalLM"), **changes
        )
        write_record(self.root, record)
        return record

    def ask(self, *args: object, code: int, env: Mapping[str, str] | None = None) -> Answer:
        """Run the command for the example model."""
        where = ("--python", self.python, "--store", self.folder / "s.sqlite", "--cache-root", self.root)
        return tuner("cache", "explain", MIXTRAL, *where, *args, code=code, env=env)
