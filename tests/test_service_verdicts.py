"""Stored verdicts over HTTP: listed, shown, taken as bundles, and fed to replicas."""

import json
from pathlib import Path
from typing import Any

import pytest
from cache_samples import execute
from fake_environment import ERNIE, LLAMA, MIXTRAL, Serving, sample, tuner
from jsonschema import Draft202012Validator
from service_bench import WRITER, Bench, Setting, bearing, bench, tokens_in

from cache.verdicts.store import VerdictStore
from tuner.service.endpoints import ENDPOINTS


@pytest.fixture
def service(serving: Serving, store: Path, tmp_path: Path) -> Bench:
    """A service that knows three models and takes bundles."""
    serving.store_of(store, MIXTRAL, LLAMA, ERNIE)
    return bench(Setting(store, **tokens_in(tmp_path), headers=bearing(WRITER)))


@pytest.fixture
def bundle(serving: Serving, tmp_path: Path) -> bytes:
    """A bundle with two of the models."""
    elsewhere = serving.store_of(tmp_path / "elsewhere.sqlite", MIXTRAL, LLAMA)
    return tuner("verdicts", "export", "--store", elsewhere, code=0).out.encode()


def empty(tmp_path: Path, **setting: Any) -> Bench:
    """A service without a verdict, which takes bundles."""
    headers = bearing(WRITER)
    return bench(Setting(tmp_path / "there.sqlite", **tokens_in(tmp_path), headers=headers, **setting))


def again(model: Path) -> dict[str, Any]:
    """The report of a second probe of a model, which took another time."""
    report = sample(model, "flag-live")
    return {**report, "seconds": {**report["seconds"], "total": 1.5}}


# ---- listed and shown


def test_the_list_is_that_of_the_command(service: Bench, store: Path) -> None:
    """The same rows, in the same order."""
    listed = tuner("verdicts", "list", "--json", "--store", store, code=0).document
    assert service.get("/v1/verdicts")["verdicts"] == listed["verdicts"]


def test_pages_give_every_verdict_once(service: Bench) -> None:
    """`next` leads from one to the next, and is null on the last."""
    after, keys, pages = "", [], 0
    while after is not None:
        page = service.get("/v1/verdicts", limit=1, after=after)
        keys += [row["key"] for row in page["verdicts"]]
        after, pages = page["next"], pages + 1
    assert pages == 3
    assert keys == [row["key"] for row in service.get("/v1/verdicts")["verdicts"]]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"architecture": "MixtralForCausalLM"}, 1),
        ({"architecture": "Mixtral"}, 0),
        ({"vllm": "0.19.1"}, 3),
        ({"vllm": "0.19.1", "platform": "cuda"}, 0),
        ({"verdict": "no_moe"}, 1),
        ({"torch": "2.10.0", "verdict": "uniform"}, 1),
    ],
)
def test_a_filter_leaves_what_it_names(query: dict[str, str], count: int, service: Bench) -> None:
    """Every filter must fit."""
    assert len(service.get("/v1/verdicts", **query)["verdicts"]) == count


@pytest.mark.parametrize(
    "query", [{"limit": "x"}, {"limit": "501"}, {"limit": "0"}, {"limit": "-1"}, {"no_such": "1"}, {"limit": "1.0"}]
)
def test_a_faulty_query_is_refused(query: dict[str, str], service: Bench) -> None:
    """A parameter that is not taken, or is no number, is named; it is never ignored."""
    assert service.get("/v1/verdicts", 422, **query)["error"]["message"]


def test_a_verdict_is_shown_as_by_the_command(service: Bench, store: Path) -> None:
    """By its whole key or the start of it."""
    key = service.get("/v1/verdicts")["verdicts"][0]["key"]
    shown = tuner("verdicts", "show", key, "--json", "--store", store, code=0).document
    assert service.get(f"/v1/verdicts/{key}") == service.get(f"/v1/verdicts/{key[:12].upper()}") == shown


@pytest.mark.parametrize(("key", "status"), [("0" * 64, 404), ("abc", 422), ("0" * 65, 422), ("g" * 12, 422)])
def test_a_key_that_no_verdict_has(key: str, status: int, service: Bench) -> None:
    """It is not there; what cannot be a key is refused."""
    service.get(f"/v1/verdicts/{key}", status)


@pytest.mark.parametrize("path", ["/v1/verdicts", "/v1/verdicts/{key}"])
def test_what_the_client_has_is_not_sent_again(path: str, service: Bench, store: Path) -> None:
    """304 with the tag of the answer before; the whole answer once the store has changed."""
    key = service.get("/v1/verdicts")["verdicts"][0]["key"]
    path = path.format(key=key)
    first = service.client.get(path)
    known = {"If-None-Match": first.headers["etag"]}
    again = service.client.get(path, headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    tuner("verdicts", "forget", key, "--store", store, code=0)
    assert service.client.get(path, headers=known).status_code in {200, 404}


# ---- bundles


def test_a_bundle_is_stored_and_decides(bundle: bytes, tmp_path: Path) -> None:
    """The answer counts the verdicts as `tuner verdicts import --json` does; a second time they are known."""
    there = empty(tmp_path)
    first = there.client.post("/v1/verdicts", content=bundle)
    assert (first.status_code, first.json()["imported"]["new"]) == (200, 2)
    assert there.client.post("/v1/verdicts", content=bundle).json()["imported"]["known"] == 2
    rows = there.get("/v1/verdicts")["verdicts"]
    assert [row["imported"]["imported_from"] for row in rows] == ["the service", "the service"]
    assert 'tuner_imported_total{result="new"} 2.0' in there.client.get("/metrics").text


@pytest.mark.parametrize("damage", ["", "\n", "{}\n", "\xff", "[" * 10_000])
def test_a_damaged_bundle_stores_nothing(damage: str, bundle: bytes, tmp_path: Path) -> None:
    """Not even its good lines."""
    there = empty(tmp_path)
    content = bundle + damage.encode("latin-1") if damage else b""
    answer = there.client.post("/v1/verdicts", content=content)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "bundle")
    assert there.get("/v1/verdicts")["verdicts"] == []


def test_the_rules_of_conflict_decide(bundle: bytes, serving: Serving, tmp_path: Path) -> None:
    """Another verdict of a key stays out unless `replace` asks for it; one that was probed there stays in any case."""
    there = empty(tmp_path)
    there.client.post("/v1/verdicts", content=bundle)
    other = tmp_path / "other.sqlite"
    report = again(MIXTRAL)
    serving.remember(other, MIXTRAL, report)
    changed = tuner("verdicts", "export", "--store", other, code=0).out.encode()
    kept = there.client.post("/v1/verdicts", content=changed).json()
    assert (kept["imported"]["kept_imported"], len(kept["conflicts"])) == (1, 1)
    replaced = there.client.post("/v1/verdicts?replace=true", content=changed).json()
    assert replaced["imported"]["replaced"] == 1
    serving.remember(tmp_path / "there.sqlite", MIXTRAL)
    assert there.client.post("/v1/verdicts?replace=true", content=changed).json()["imported"]["kept_local"] == 1
    assert there.client.post("/v1/verdicts?replace=yes", content=changed).status_code == 422


def test_a_replica_takes_no_bundle(bundle: bytes, tmp_path: Path) -> None:
    """It names the service that does."""
    there = empty(tmp_path, follows="https://writer:8707")
    answer = there.client.post("/v1/verdicts", content=bundle)
    assert answer.status_code == 403
    assert "https://writer:8707" in answer.json()["error"]["hint"]


# ---- the feed


def fed(service: Bench, since: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The items of the feed behind a change, and the number to ask for next."""
    answer = service.client.get("/v1/changes", params={"since": since})
    assert answer.status_code == 200
    assert answer.headers["tuner-feed"] == "feed"
    return [json.loads(line) for line in answer.text.splitlines()], int(answer.headers["tuner-next"])


def test_the_feed_is_a_bundle_of_every_verdict(service: Bench, tmp_path: Path) -> None:
    """Its lines, put together, are what another store imports; behind the last one there is nothing."""
    items, following = fed(service)
    numbers = [item["sequence"] for item in items]
    assert numbers == sorted(set(numbers))
    assert following == numbers[-1]
    file = tmp_path / "feed.jsonl"
    file.write_text("".join(item["line"] for item in items), encoding="utf-8")
    imported = tuner("verdicts", "import", file, "--store", tmp_path / "copy.sqlite", "--json", code=0).document
    assert imported["imported"]["new"] == 3
    assert fed(service, following) == ([], following)


def test_a_change_comes_behind_all_before(service: Bench, serving: Serving, store: Path) -> None:
    """A verdict that is probed again, by any process, has a new number and no old one."""
    before, following = fed(service)
    serving.remember(store, MIXTRAL, again(MIXTRAL))
    items, _ = fed(service, following)
    assert [json.loads(item["line"])["entry"]["key"]["architecture"] for item in items] == ["MixtralForCausalLM"]
    assert len(fed(service)[0]) == len(before)


def test_a_number_is_never_given_again(service: Bench, serving: Serving, store: Path) -> None:
    """Who has read up to a verdict that is then forgotten still sees the next one."""
    for model in (LLAMA, MIXTRAL, MIXTRAL):
        items, following = fed(service)
        last = json.loads(items[-1]["line"])["digest"]
        VerdictStore(store).forget(last)
        serving.remember(store, model, again(model))
        assert len(fed(service, following)[0]) == 1


def test_a_damaged_entry_does_not_stop_the_feed(service: Bench, store: Path) -> None:
    """It is left out, and the others follow."""
    execute(store, "UPDATE verdicts SET value = 'x' WHERE key LIKE 'verdict:Mixtral%'")
    items, _ = fed(service)
    assert len(items) == 2


# ---- the description


def test_the_description_has_every_endpoint(service: Bench) -> None:
    """With its parameters and body, and a shape of requests that JSON Schema takes."""
    described = service.get("/openapi.json")
    paths = {(path, method.upper()) for path, methods in described["paths"].items() for method in methods}
    assert paths == {(endpoint.path, endpoint.method) for endpoint in ENDPOINTS}
    schema = {"$ref": "#/components/schemas/DecisionRequest", "components": described["components"]}
    Draft202012Validator.check_schema(described["components"]["schemas"]["DecisionRequest"])
    assert Draft202012Validator(schema).is_valid({"environment": {}, "arguments": ["m"]})
    assert not Draft202012Validator(schema).is_valid({"environment": {}, "arguments": []})
    assert not Draft202012Validator(schema).is_valid({"environment": {}, "arguments": ["m"], "x": 1})
