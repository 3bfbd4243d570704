"""`tuner sweep`: every model in every release and setting is queued once, and followed until it is done."""

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_environment import LLAMA, MIXTRAL, Answer, Serving, model_like, tuner
from service_bench import WRITER, Bench, Setting, bearing, bench, tokens_in

from tuner.fleet import sweep as sweeping
from tuner.fleet.queue_client import Row
from tuner.fleet.sweep import Sweep, launches_of, progress_of
from tuner.service import client
from tuner.service.client import Answer as Served

URL = "http://127.0.0.1:8707"


class Direct:
    """A client that asks a service in this process."""

    name = "127.0.0.1:8707"

    def __init__(self, service: Bench) -> None:
        self.service = service

    def ask(self, method: str, path: str, body: bytes = b"") -> Served:
        """As a client of a real service does."""
        answer = self.service.client.request(method, path, content=body)
        assert answer.status_code == 200, answer.text
        return Served(answer.status_code, dict(answer.headers), answer.content)


class Place:
    """A service, and a folder with two models."""

    def __init__(self, folder: Path, serving: Serving) -> None:
        self.store, self.configs, self.serving = folder / "service.sqlite", folder / "configs", serving
        self.service = bench(Setting(self.store, **tokens_in(folder), headers=bearing(WRITER)))
        for model in (MIXTRAL, LLAMA):
            shutil.copytree(model, self.configs / model.name)

    def sweep(self, *options: object, code: int = 0) -> Answer:
        """Sweep the folder."""
        where = ("--service", URL, "--configs", self.configs, "--platform", "cpu")
        return tuner("sweep", *where, *options, code=code)

    def rows(self) -> list[dict[str, Any]]:
        """The queue."""
        rows: list[dict[str, Any]] = self.service.get("/v1/probes")["probes"]
        return rows


@pytest.fixture
def place(tmp_path: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A service without a verdict."""
    made = Place(tmp_path, serving)

    def client_of(_address: str, _environ: Mapping[str, str]) -> Direct:
        return Direct(made.service)

    monkeypatch.setattr(client, "client_of", client_of)
    return made


def test_a_sweep_is_the_product_of_what_is_named(place: Place) -> None:
    """Models, releases, settings and questions; each row once, however often the command runs."""
    named = ["--release", "0.19.1", "--release", "0.18.1", "--setting", "", "--setting", "-tp 2", "--arms", "--no-wait"]
    assert place.sweep(*named).out == "0 of 16 answered, 16 waiting\n"
    place.sweep(*named)
    rows = place.rows()
    assert len(rows) == 16
    assert {(row["vllm"], tuple(row["arguments"]), row["question"]) for row in rows} == {
        (release, arguments, question)
        for release in ("0.19.1", "0.18.1")
        for arguments in ((), ("-tp", "2"))
        for question in ("proof", "arms")
    }
    assert {row["model"] for row in rows} == {"mistralai/Mixtral-8x7B-v0.1", "meta-llama/Meta-Llama-3.1-8B"}
    assert {row["platform"] for row in rows} == {"cpu"}


def test_the_same_model_twice_is_one_launch(place: Place) -> None:
    """Copies differ in nothing that matters."""
    model_like(MIXTRAL, place.configs / "a-copy", transformers_version="9.9")
    assert place.sweep("--release", "0.19.1", "--no-wait").out == "0 of 2 answered, 2 waiting\n"


def test_a_setting_that_names_another_model_changes_none(place: Place) -> None:
    """A launch is of the model whose config it has, on a Ray cluster, too."""
    sweep = Sweep(place.configs, ("0.19.1",), "cpu", (("--model", "another/model", "--port", "80", "-tp", "2"),))
    assert [launch.arguments for launch in launches_of(sweep)] == [["-tp", "2"]] * 2


def test_what_has_a_verdict_is_not_probed_again(place: Place) -> None:
    """So a sweep that was stopped goes on where it was."""
    place.serving.store_of(place.store, MIXTRAL, LLAMA)
    assert place.sweep("--release", "0.19.1").out == "2 of 2 answered\n"


def test_a_sweep_is_followed_until_it_is_done(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change is a line on stderr, and the end is the result."""
    models = [MIXTRAL, LLAMA]

    def work(_seconds: float) -> None:
        own = place.serving.store_of(place.store.with_name(f"{len(models)}.sqlite"), models.pop())
        bundle = tuner("verdicts", "export", "--store", own, code=0).out
        assert place.service.client.post("/v1/verdicts", content=bundle).status_code == 200

    monkeypatch.setattr(sweeping, "time", SimpleNamespace(sleep=work))
    answer = place.sweep("--release", "0.19.1")
    assert answer.out == "2 of 2 answered\n"
    told = ["0 of 2 answered, 2 waiting", "1 of 2 answered, 1 waiting", "2 of 2 answered"]
    assert [line.partition("] ")[2] for line in answer.err.splitlines()] == told


def claim(place: Place) -> dict[str, Any]:
    """What a worker asks."""
    environment = tuner("env", "--python", place.serving.python, "--json", code=0).document
    return {"worker": "w", "environment": environment}


def test_launches_that_rest_are_shown_with_their_reasons(place: Place) -> None:
    """The command ends with 3, and `--retry` lets them wait again."""
    place.sweep("--release", "0.19.1", "--no-wait")
    for _ in range(6):
        probe = place.service.client.post("/v1/probes/claim", json=claim(place)).json()["probe"]
        failure = {"kind": "crash", "message": f"It died of {probe['launch']['model']}."}
        place.service.client.post(
            f"/v1/probes/{probe['id']}/result?lease={probe['lease']}&outcome=failed", json=failure
        )
    answer = place.sweep("--release", "0.19.1", code=3)
    assert answer.out.splitlines()[0] == "0 of 2 answered, 2 resting"
    assert "It died of mistralai/Mixtral-8x7B-v0.1." in answer.out
    document = place.sweep("--release", "0.19.1", "--json", code=3).document
    assert (document["states"], len(document["resting"])) == ({"resting": 2}, 2)
    assert place.sweep("--release", "0.19.1", "--retry", "--no-wait").out == "0 of 2 answered, 2 waiting\n"


def test_progress_counts_each_launch_once() -> None:
    """By its state."""
    rows = [Row(str(number), state) for number, state in enumerate(["answered", "running", "waiting", "resting"])]
    progress = progress_of(rows)
    assert progress.text() == "1 of 4 answered, 1 waiting, 1 running, 1 resting"
    assert not progress.is_over
    assert progress_of(rows[:1] + rows[3:]).is_over


@pytest.mark.parametrize(
    "options",
    [
        ("--release", "0.19.1", "--setting", "'unclosed"),
        ("--release", "0.19.1", "--service", ""),
        ("--release", "latest"),
        ("--release", "0.19.1", "--ray", "auto", "--node-python", "0.19.1"),
        ("--release", "0.19.1", "--ray", "auto", "--node-python", "0.19.1=bin/python"),
        ("--release", "0.19.1", "--ray", "auto", "--no-wait"),
        ("--release", "0.19.1", "--gpus", "2"),
        ("--release", "0.19.1", "--configs", "/nowhere"),
        (),
    ],
)
def test_a_faulty_sweep_ends_with_2(options: tuple[str, ...], place: Place) -> None:
    """And queues nothing."""
    place.sweep(*options, code=2)
    assert place.rows() == []


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is here")
def test_without_ray_the_extra_is_named(place: Place) -> None:
    """With the command that installs it."""
    answer = place.sweep("--release", "0.19.1", "--ray", "auto", "--node-python", "0.19.1=/opt/python", code=1)
    assert "pip install 'vllm-moe-tuner[ray]'" in answer.err


def test_a_config_that_cannot_be_read_ends_the_sweep(place: Place) -> None:
    """Before anything is queued, with the name of the file."""
    broken = place.configs / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps({"no": "architecture"}), encoding="utf-8")
    assert str(broken) in place.sweep("--release", "0.19.1", code=1).err
    assert place.rows() == []
