"""A model's small files from the hub: the local cache first, else those files, else a clear word."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub.constants
import pytest

from rules.errors import TunerError
from tuner.model.hub import cached_snapshot, is_hub_id, snapshot
from tuner.model.model import identify

ROOT = Path(__file__).parents[1]
COMMIT, OTHER = "a" * 40, "b" * 40
CONFIG = json.dumps({"architectures": ["Qwen3MoeForCausalLM"]}).encode()
TOKEN = "hf_" + "secret" * 4
REFUSALS = {
    "gated": (401, {"X-Error-Code": "GatedRepo"}),
    "forbidden": (403, {}),
    "missing": (404, {"X-Error-Code": "RepoNotFound"}),
    "private": (401, {}),
    "no-config": (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}),
    "no-revision": (404, {"X-Error-Code": "RevisionNotFound"}),
    "broken": (500, {}),
}


@dataclass
class Hub:
    """A local server that answers for the hub, and what it was asked."""

    endpoint: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=lambda: {"config.json": CONFIG, "model.safetensors": b""})
    listing: int = 200

    def files_asked_for(self) -> list[str]:
        """Each path that was asked for, without the listing of the repository."""
        return [path for _, path in self.requests if not path.startswith("/api/")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, an empty cache, and no variable that would forbid asking."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer HEAD and GET of a file, and the listing of a repository, as the hub does."""
            state.requests.append((self.command, self.path))
            state.tokens.add(self.headers.get("Authorization"))
            repository = self.path.split("/")[2]
            status, headers = REFUSALS.get(repository, (200, {"X-Repo-Commit": COMMIT, "ETag": '"0123"'}))
            body = state.files.get(self.path.rpartition(f"resolve/{COMMIT}/")[2], CONFIG) if status == 200 else b""
            if self.path.startswith("/api/models/"):
                siblings = [{"rfilename": name} for name in state.files]
                body = json.dumps({"id": "org/model", "siblings": siblings}).encode()
                status, headers = state.listing, {"Content-Type": "application/json"}
            headers = headers | {"ETag": f'"{len(body)}-{sum(body)}"'} if "ETag" in headers else headers
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  http.server's name

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.endpoint = f"http://127.0.0.1:{server.server_port}"
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HOME", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", state.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # read from the variable on import
        yield state
        server.shutdown()


def cache(root: Path, name: str = "org/model", commit: str = COMMIT, **refs: str) -> Path:
    """Lay a snapshot into a hub cache as huggingface_hub does."""
    folder = root / ("models--" + name.replace("/", "--"))
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_bytes(CONFIG)
    for ref, target in refs.items():
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(target)
    return folder / "snapshots" / commit


def test_only_the_config_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """Of a repository without side files config.json is read once, and its commit, the revision, listed once."""
    model = identify("org/model")
    assert set(hub.files_asked_for()) == {"/org/model/resolve/main/config.json"}
    assert [verb for verb, _ in hub.requests] == ["GET", "GET"]
    assert hub.requests[-1][1] == f"/api/models/org/model/revision/{COMMIT}"
    assert (model.architecture, model.revision) == ("Qwen3MoeForCausalLM", COMMIT)
    assert [file.name for file in Path(model.folder).iterdir()] == ["config.json"]
    assert Path(model.folder).is_relative_to(tmp_path / "cache")


def test_the_second_look_up_asks_nobody(hub: Hub) -> None:
    """What was fetched once is found in the cache, by our reading of its layout."""
    first = identify("org/model")
    hub.requests.clear()
    assert identify("org/model") == first
    assert hub.requests == []


QUANTISED = b'{"quantization": {"quant_algo": "NVFP4"}}'
MODULES = b'[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'


def test_the_small_files_of_a_repository_are_fetched(hub: Hub) -> None:
    """Those that vLLM reads and the repository has, what one of them names included; weights are not."""
    hub.files |= {"hf_quant_config.json": QUANTISED, "modules.json": MODULES, "1_Pooling/config.json": b"{}"}
    hub.files |= {"params.json": b"{}", "generation_config.json": b"{}"}
    model = identify("org/model")
    wanted = {"hf_quant_config.json", "modules.json", "1_Pooling/config.json", "params.json"}
    folder = Path(model.folder)
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {"config.json", *wanted}
    assert set(model.side.digests) == wanted - {"params.json"}
    assert model.served_config["quantization_config"] == json.loads(QUANTISED)
    hub.requests.clear()
    assert identify("org/model") == model
    assert hub.requests == []


def test_weights_of_mistrals_format_are_known_by_the_listing(hub: Hub) -> None:
    """They need not be here for params.json to choose the class."""
    hub.files |= {"params.json": b"{}", "consolidated-00001-of-00002.safetensors": b""}
    assert identify("org/model").side.foreign == ("params.json",)


def test_a_cached_config_is_completed_once(hub: Hub, tmp_path: Path) -> None:
    """Where the cache does not know of a side file the hub is asked for it alone, at the cached commit."""
    cache(tmp_path / "cache", main=COMMIT)
    hub.files["hf_quant_config.json"] = QUANTISED
    assert identify("org/model").side.quantization == json.loads(QUANTISED)
    assert set(hub.files_asked_for()) == {f"/org/model/resolve/{COMMIT}/hf_quant_config.json"}


def test_a_hub_that_does_not_say_is_an_error(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside a cached config.json is not guessed, as vLLM does not start then; offline the cache is all."""
    cache(tmp_path / "cache", main=COMMIT)
    hub.listing = 500
    with pytest.raises(TunerError, match=r"Which files of org/model .* answered 500") as caught:
        identify("org/model")
    assert "HF_HUB_OFFLINE" in caught.value.hint
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert identify("org/model").side.digests == {}


def test_a_side_file_that_is_too_large_is_not_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence names it, and nothing of it is kept."""
    folder = cache(tmp_path / "cache", main=COMMIT)
    large = QUANTISED + b" " * 200
    monkeypatch.setattr("tuner.model.hub_answer.MAX_BYTES", len(large) - 1)
    hub.files["hf_quant_config.json"] = large
    with pytest.raises(TunerError, match=r"hf_quant_config\.json of org/model"):
        identify("org/model")
    assert [file.name for file in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1", COMMIT])
def test_a_revision_is_asked_for(hub: Hub, revision: str) -> None:
    """A branch, tag or commit goes into the address and is found again under its name."""
    identify("org/model", revision=revision)
    asked = {path.replace("%2F", "/") for path in hub.files_asked_for()}
    assert asked == {f"/org/model/resolve/{revision}/config.json"}
    assert cached_snapshot("org/model", revision) is not None
    assert cached_snapshot("org/model") is None


def test_a_model_without_an_organisation_is_asked_for(hub: Hub) -> None:
    """Old models have a bare name."""
    identify("gpt2")
    assert set(hub.files_asked_for()) == {"/gpt2/resolve/main/config.json"}


def test_variables_count_in_a_fresh_process(hub: Hub) -> None:
    """HF_ENDPOINT and HF_TOKEN are obeyed by a real command, the token reaches the hub and no output."""
    code = "from tuner.model.model import identify; print(identify('org/model').revision)"
    environment = os.environ | {"HF_TOKEN": TOKEN}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    assert (ran.stdout.strip(), ran.stderr) == (COMMIT, "")
    assert set(hub.files_asked_for()) == {"/org/model/resolve/main/config.json"}
    assert hub.tokens == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("repository", "message", "hint"),
    [
        ("gated", "org/gated is gated", "licence.*HF_TOKEN"),
        ("forbidden", "org/forbidden is gated", "HF_TOKEN"),
        ("missing", "no folder org/missing, and the hub shows no model of that name", "spelling.*HF_TOKEN"),
        ("private", "no folder org/private, and the hub shows no model of that name", "HF_TOKEN"),
        ("no-config", r"org/no-config has no config\.json", "folder"),
        ("broken", "could not be fetched from 127.0.0.1: it answered 500", "HF_ENDPOINT"),
    ],
)
def test_each_refusal_of_the_hub_has_its_own_sentence(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, repository: str, message: str, hint: str
) -> None:
    """The sentence says what is wrong and what to do, and never shows the token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(TunerError, match=message) as caught:
        identify(f"org/{repository}")
    assert re.search(hint, caught.value.hint)
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in caught.value.message + caught.value.hint


def test_an_unknown_revision_is_named(hub: Hub) -> None:
    """The model is there, the branch is not."""
    with pytest.raises(TunerError, match="org/no-revision has no revision v9"):
        identify("org/no-revision", revision="v9")
    assert hub.requests


def test_without_a_network_the_sentence_names_the_host(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port is not an answer; a password in HF_ENDPOINT is not repeated."""
    monkeypatch.setenv("HF_ENDPOINT", "http://user:password@127.0.0.1:9")
    with pytest.raises(TunerError, match=r"could not be fetched from 127\.0\.0\.1: no answer") as caught:
        identify("org/model")
    assert "password" not in caught.value.message + caught.value.hint
    assert hub.requests == []


def test_a_malformed_endpoint_is_an_error(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An HF_ENDPOINT without a scheme ends in a sentence."""
    monkeypatch.setenv("HF_ENDPOINT", "hub.example.org")
    with pytest.raises(TunerError, match="could not be fetched"):
        identify("org/model")
    assert hub.requests == []


def test_a_cache_that_cannot_be_written_is_an_error(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the place of the cache folder ends in a sentence."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(TunerError, match="cannot be written") as caught:
        identify("org/model")
    assert "HF_HUB_CACHE" in caught.value.hint
    assert hub.requests


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_mode_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Without a cached file the sentence says that offline mode is on."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(TunerError, match="offline mode is on") as caught:
        identify("org/model")
    assert "HF_HUB_OFFLINE" in caught.value.hint
    assert hub.requests == []


def test_the_cache_answers_in_offline_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch's commit, a named branch and a commit itself are found by files alone."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    first = cache(tmp_path, main=COMMIT)
    second = cache(tmp_path, commit=OTHER, dev=OTHER + "\n")
    assert snapshot("org/model") == (first, COMMIT)
    assert snapshot("org/model", "dev") == (second, OTHER)
    assert snapshot("org/model", OTHER) == (second, OTHER)


@pytest.mark.parametrize("revision", ["unknown", "../../../secret", "a" * 39, "main\0"])
def test_a_revision_that_is_not_cached_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    """No revision leads out of the model's folder in the cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cache(tmp_path, main=COMMIT)
    (tmp_path / "secret").write_text(COMMIT)
    assert cached_snapshot("org/model", revision) is None


def test_a_snapshot_without_a_config_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights alone, or a link whose target was deleted, do not answer."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = cache(tmp_path, main=COMMIT)
    (folder / "config.json").unlink()
    assert cached_snapshot("org/model") is None
    (folder / "config.json").symlink_to("../../blobs/gone")
    assert cached_snapshot("org/model") is None


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "{root}/a", "HF_HOME": "{root}/b"}, "a"),
        ({"HUGGINGFACE_HUB_CACHE": "{root}/a", "HF_HOME": "{root}/b"}, "a"),
        ({"HF_HOME": "{root}/b", "XDG_CACHE_HOME": "{root}/c"}, "b/hub"),
        ({"HF_HOME": "$HOME/b"}, "home/b/hub"),
        ({"XDG_CACHE_HOME": "{root}/c"}, "c/huggingface/hub"),
        ({}, "home/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str
) -> None:
    """Each variable counts in the library's own order, as the library itself confirms."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(root=tmp_path))
    cache(tmp_path / place, main=COMMIT)
    assert cached_snapshot("org/model") is not None
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    library = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert library.stdout.strip() == str(tmp_path / place)


@pytest.mark.parametrize("name", ["gpt2", "org/model", "Qwen/Qwen3-30B-A3B", "a.b/c_d-e", "0/1"])
def test_names_the_hub_allows_are_hub_ids(name: str) -> None:
    """As huggingface_hub's own check has it."""
    assert is_hub_id(name)
    huggingface_hub.utils.validate_repo_id(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "/", "a/b/c", "a//b", "-a", "a-", "org/.hidden", "a--b", "a..b", "a.git", "a b", "é", "x" * 97, "a/"],
)
def test_names_the_hub_refuses_are_no_hub_ids(name: str) -> None:
    """As huggingface_hub's own check has it."""
    assert not is_hub_id(name)
    with pytest.raises(ValueError, match=r"[Rr]epo"):
        huggingface_hub.utils.validate_repo_id(name)
