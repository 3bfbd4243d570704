"""Signed lines: a service that was taken over can refuse and withhold, but a replica or a node takes no lie of its."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_environment import LLAMA, MIXTRAL, SETTABLE, Serving, sample, serving_in, tuner
from live_service import Live, live_service, until
from minisign import SecretKey
from msgspec.structs import replace
from service_bench import WRITER, Bench, Setting, bearing, bench, tokens_in
from signing_keys import make_keys

from cache.verdicts.store import VerdictStore
from tuner.exchange.sent_line import sent_lines, sign_line, signed_lines
from tuner.exchange.signing import Signer, Verifier, named_key
from tuner.exchange.transfer import exported_line
from tuner.service.client import Answer
from tuner.service.follow import Follower

FLAG_ON = '"fast_moe_cold_start": true'


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The key pairs of the team and of somebody else: `team`, `team.pub`, `other`, `other.pub`."""
    folder = tmp_path_factory.mktemp("keys")
    pairs = {name: make_keys(folder / name) for name in ("team", "other")}
    return {"team": pairs["team"][0], "team.pub": pairs["team"][1], "other": pairs["other"][0]}


@pytest.fixture
def lines(serving: Serving, tmp_path: Path) -> list[str]:
    """Lines of a bundle: of Llama, and of Mixtral."""
    elsewhere = serving.store_of(tmp_path / "elsewhere.sqlite", MIXTRAL, LLAMA)
    return tuner("verdicts", "export", "--store", elsewhere, code=0).out.splitlines(keepends=True)


def signed(lines: list[str], key: Path) -> bytes:
    """The body that sends these lines."""
    signer = Signer(key, str)
    return "".join(sign_line(line, signer) for line in lines).encode()


def service_in(folder: Path, signed_with: Path | None = None) -> Bench:
    """A service that takes bundles, and has none yet."""
    folder.mkdir(exist_ok=True)
    setting = Setting(folder / "verdicts.sqlite", **tokens_in(folder), signed_with=signed_with, headers=bearing(WRITER))
    return bench(setting)


def posted(service: Bench, body: bytes) -> tuple[int, Any]:
    """Status and document of the answer to a bundle."""
    answer = service.client.post("/v1/verdicts", content=body)
    return answer.status_code, answer.json()


def fed(service: Bench, since: int = 0) -> list[dict[str, Any]]:
    """The changes of a service."""
    text = service.client.get("/v1/changes", params={"since": since}).text
    return [json.loads(line) for line in text.splitlines()]


class Source:
    """Stands for the client of a service in this process; `forge` is what somebody does to each change."""

    name = "writer:8707"

    def __init__(self, service: Bench) -> None:
        self.service = service
        self.forge: Any = lambda item: item

    def ask(self, method: str, path: str) -> Answer:
        """As `Client.ask`."""
        answer = self.service.client.request(method, path)
        items = [self.forge(json.loads(line)) for line in answer.text.splitlines()]
        return Answer(answer.status_code, dict(answer.headers), "\n".join(map(json.dumps, items)).encode())


def followed(source: Source, store: Path, public: Path | None) -> tuple[set[str], list[str]]:
    """The architectures that a replica has once it has every change, and what it logged."""
    log: list[str] = []
    follower = Follower(source, VerdictStore(store), log.append, public)  # type: ignore[arg-type]
    while follower.step():
        pass
    return {entry.key["architecture"] for entry in VerdictStore(store).entries()}, log


# ---- taken by a service


def test_a_service_that_demands_signatures_takes_no_other_line(
    lines: list[str], keys: dict[str, Path], tmp_path: Path
) -> None:
    """Unsigned, by another key, another line's signature, one changed byte, no signature, half of them unsigned."""
    there = service_in(tmp_path / "there", keys["team.pub"])
    right = [json.loads(line) for line in signed(lines, keys["team"]).splitlines()]
    moved = [{**right[0], "signature": right[1]["signature"]}]
    changed = [{**right[0], "line": right[0]["line"].replace("layer", "Layer", 1)}]
    assert changed[0] != right[0]
    forged = ["".join(lines).encode(), signed(lines, keys["other"])]
    forged += [
        "\n".join(map(json.dumps, items)).encode() for items in (moved, changed, [{**right[0], "signature": "x"}])
    ]
    forged.append(json.dumps(right[0]).encode() + b"\n" + lines[1].encode())
    answers = [posted(there, body) for body in forged]
    assert [(status, answer["error"]["kind"]) for status, answer in answers] == [(422, "signature")] * len(forged)
    assert there.get("/v1/verdicts")["verdicts"] == []
    assert posted(there, signed(lines, keys["team"]))[1]["imported"]["new"] == 2
    team = Verifier(keys["team.pub"]).key
    assert {row["imported"]["signed_by"] for row in there.get("/v1/verdicts")["verdicts"]} == {team}


def test_a_signature_that_was_not_checked_is_kept_and_not_shown(
    lines: list[str], keys: dict[str, Path], tmp_path: Path
) -> None:
    """A service that demands none passes it on; what is no signature at all is refused."""
    there = service_in(tmp_path / "there")
    assert posted(there, signed(lines, keys["team"]))[0] == 200
    assert all("signed_by" not in row["imported"] for row in there.get("/v1/verdicts")["verdicts"])
    assert {named_key(item["signature"]) for item in fed(there)} == {Verifier(keys["team.pub"]).key}
    for text in ("x", "a\nb\nc", "a\n" + "A" * 100 + "\nc\nd\n", "a\n" * 20_000):
        item = {"line": lines[0], "signature": text}
        status, answer = posted(service_in(tmp_path / "none"), json.dumps(item).encode())
        assert (status, answer["error"]["kind"]) == (422, "signature")


def test_a_line_that_is_no_text_is_damaged(keys: dict[str, Path], tmp_path: Path) -> None:
    """In either part of a signed line, or in place of one; with signatures demanded and without."""
    for number, public in enumerate((None, keys["team.pub"])):
        there = service_in(tmp_path / str(number), public)
        for body in (b'{"line":"\xff","signature":"x"}\n', b'{"line":"x","signature":"\xe9\x80"}', b'{"\xff":1}'):
            status, answer = posted(there, body)
            assert (status, answer["error"]["kind"]) == (422, "signature" if public else "bundle")


def test_the_feed_has_the_very_bytes_that_were_signed(lines: list[str], keys: dict[str, Path], tmp_path: Path) -> None:
    """Line and signature, so that who reads the feed can check them; one verdict's line has a page of its own."""
    there = service_in(tmp_path / "there", keys["team.pub"])
    posted(there, signed(lines, keys["team"]))
    items = fed(there)
    assert sorted(item["line"] for item in items) == sorted(lines)
    body = "\n".join(json.dumps({"line": item["line"], "signature": item["signature"]}) for item in items)
    assert len(signed_lines(sent_lines(body.encode()), keys["team.pub"])) == 2
    key = there.get("/v1/verdicts")["verdicts"][0]["key"]
    alone = there.get(f"/v1/verdicts/{key}/line")
    assert alone in [{"line": item["line"], "signature": item["signature"]} for item in items]


def test_what_was_there_unsigned_is_fed_again_once_it_is_signed(
    lines: list[str], keys: dict[str, Path], tmp_path: Path
) -> None:
    """Whoever passed over it sees it; the same once more, in the same words or by a later signature, is no change."""
    there = service_in(tmp_path / "there")
    posted(there, "".join(lines).encode())
    source, copy = Source(there), tmp_path / "copy.sqlite"
    assert followed(source, copy, keys["team.pub"])[0] == set()
    last = fed(there)[-1]["sequence"]
    assert posted(there, signed(lines, keys["team"]))[1]["imported"]["known"] == 2
    items = fed(there, last)
    assert sorted(item["line"] for item in items) == sorted(lines)
    assert followed(source, copy, keys["team.pub"])[0] == {"MixtralForCausalLM", "LlamaForCausalLM"}
    posted(there, signed(lines, keys["team"]))
    assert fed(there, items[-1]["sequence"]) == []


def test_a_signature_does_not_outlive_its_verdict(
    lines: list[str], keys: dict[str, Path], tmp_path: Path, serving: Serving
) -> None:
    """A verdict that is probed anew has a line of its own, without the signature; a forgotten one has none."""
    there = service_in(tmp_path / "there")
    store = there.state.store
    posted(there, signed(lines, keys["team"]))
    report = sample(MIXTRAL, "flag-live")
    entry, _ = serving.remember(store.path, MIXTRAL, {**report, "seconds": {**report["seconds"], "total": 1.5}})
    assert {bool(item["signature"]) for item in fed(there)} == {True, False}
    assert there.get(f"/v1/verdicts/{entry.digest}/line")["signature"] == ""
    (other,) = [entry for entry in store.entries() if entry.key["architecture"] == "LlamaForCausalLM"]
    assert store.signed_line(other) is not None
    newest = store.newest_change()
    store.forget(other.digest)
    assert store.signed_line(other) is None
    assert store.newest_change() > newest


# ---- taken from a service


def as_it_is(item: dict[str, Any], _: dict[str, Path]) -> dict[str, Any]:
    """Nothing is forged."""
    return item


def changed(item: dict[str, Any], _: dict[str, Path]) -> dict[str, Any]:
    """One byte of the line is another one."""
    return {**item, "line": item["line"].replace("layer", "Layer", 1)}


def signed_anew(item: dict[str, Any], keys: dict[str, Path]) -> dict[str, Any]:
    """The service signs with a key of its own."""
    return {**item, **json.loads(sign_line(item["line"], Signer(keys["other"], str)))}


FORGERIES: dict[str, Any] = {
    "no signature": lambda item, _: {"sequence": item["sequence"], "line": item["line"]},
    "an empty one": lambda item, _: {**item, "signature": ""},
    "one byte": changed,
    "its own key": signed_anew,
    "garbage": lambda item, _: {**item, "signature": "\0\n\u00fc" * 100},
    "a longer line": lambda item, _: {**item, "line": item["line"] * 2},
}
"""What a service that was taken over may do to a change."""


@pytest.mark.parametrize("way", FORGERIES)
def test_a_replica_that_demands_signatures_stores_no_forgery(
    way: str, lines: list[str], keys: dict[str, Path], tmp_path: Path
) -> None:
    """Its log counts them. What is right beside them is stored."""
    there = service_in(tmp_path / "there")
    posted(there, signed(lines, keys["team"]))
    source = Source(there)
    source.forge = lambda item: FORGERIES[way](item, keys)
    copy = tmp_path / "copy.sqlite"
    architectures, log = followed(source, copy, keys["team.pub"])
    assert architectures == set()
    assert any("2 of 2 changes of writer:8707 are left out" in line for line in log)
    source.forge = lambda item: (FORGERIES[way] if "Llama" in item["line"] else as_it_is)(item, keys)
    assert followed(source, copy, keys["team.pub"])[0] == {"MixtralForCausalLM"}


def test_a_replica_hands_signatures_on(lines: list[str], keys: dict[str, Path], tmp_path: Path) -> None:
    """A replica of a replica may demand them, too, whether the one between does or not."""
    there = service_in(tmp_path / "there")
    posted(there, signed(lines, keys["team"]))
    for public in (keys["team.pub"], None):
        folder = tmp_path / f"between-{public is None}"
        between = service_in(folder)
        followed(Source(there), between.state.store.path, public)
        architectures, log = followed(Source(between), folder / "end.sqlite", keys["team.pub"])
        assert (len(architectures), log) == (2, [])


def test_a_damaged_signature_does_not_hold_up_the_others(
    lines: list[str], keys: dict[str, Path], tmp_path: Path
) -> None:
    """Also for a replica that demands none: the line with what is no signature is left out and named."""
    there = service_in(tmp_path / "there")
    posted(there, signed(lines, keys["team"]))
    source = Source(there)
    source.forge = lambda item: item if "Llama" in item["line"] else {**item, "signature": "x"}
    architectures, log = followed(source, tmp_path / "copy.sqlite", None)
    assert architectures == {"LlamaForCausalLM"}
    assert len(log) == 1
    assert "is left out" in log[0]


# ---- an older line in place of a newer one


def signed_at(line: str, key: Path, comment: str | int) -> dict[str, str]:
    """A line with a real signature that states a time, or another comment."""
    text = f"timestamp:{comment}\thashed" if isinstance(comment, int) else comment
    signature = SecretKey.from_file(key).sign(line.encode(), trusted_comment=text)
    return {"line": line, "signature": bytes(signature).decode() + "\n"}


@pytest.fixture
def versions(serving: Serving, tmp_path: Path) -> list[str]:
    """Two lines of one verdict, of the same second: without the proof of a launch, and with it."""
    store = tmp_path / "versions.sqlite"
    entry, _ = serving.remember(store, MIXTRAL, {**sample(MIXTRAL, "flag-live"), "proofs": []})
    first = exported_line(VerdictStore(store), entry)
    VerdictStore(store).put(replace(entry, report=serving.probed_here(sample(MIXTRAL, "flag-live"))))
    (proved,) = VerdictStore(store).entries()
    assert proved.probed_at == entry.probed_at
    return [first, exported_line(VerdictStore(store), proved)]


NOW = int(time.time())
FAR = NOW + 10 * 365 * 24 * 3600
ORDERS: dict[str, tuple[str | int, str | int, int]] = {
    "later": (NOW - 200, NOW - 100, 1),
    "the same time": (NOW - 100, NOW - 100, 1),
    "earlier": (NOW - 100, NOW - 200, 0),
    "no time": (NOW - 100, "by hand", 0),
    "no time before": ("by hand", NOW - 100, 1),
    "a time that is none": (NOW - 100, f"timestamp:{'9' * 20}", 0),
    "ahead of a day": (NOW + 3600, NOW - 100, 0),
    "ahead of ten years": (FAR, NOW - 100, 1),
    "both ahead of ten years": (FAR, FAR - 100, 1),
}
"""When the first line of a verdict was signed, when the second one, and which of them a replica has in the end."""


@pytest.mark.parametrize("order", ORDERS)
def test_a_replica_takes_no_older_line(order: str, versions: list[str], keys: dict[str, Path], tmp_path: Path) -> None:
    """Not after a new start either, nor once the verdict is forgotten. A clock that was far ahead blocks nothing."""
    first, second, expected = ORDERS[order]
    items = [signed_at(versions[0], keys["team"], first), signed_at(versions[1], keys["team"], second)]
    copy = tmp_path / "copy.sqlite"
    log: list[str] = []
    for item in items:
        there = service_in(tmp_path / f"there-{items.index(item)}")
        assert posted(there, json.dumps(item).encode())[0] == 200
        log = followed(Source(there), copy, keys["team.pub"])[1]
    assert proofs_in(copy) == expected
    assert ["1 of 1 changes of writer:8707 are left out" in line for line in log] == [True] * (1 - expected)
    if not expected:
        (entry,) = VerdictStore(copy).entries()
        VerdictStore(copy).forget(entry.digest)
        assert followed(Source(there), copy, keys["team.pub"])[0] == set()
        unsigned = tmp_path / "unsigned.sqlite"
        followed(Source(there), unsigned, None)
        assert proofs_in(unsigned) == 1


def proofs_in(store: Path) -> int:
    """How many proofs the one verdict of a store has."""
    (entry,) = VerdictStore(store).entries()
    return len(entry.report["proofs"])


def test_the_time_of_a_signature_cannot_be_changed(versions: list[str], keys: dict[str, Path], tmp_path: Path) -> None:
    """It is signed with the line."""
    older = signed_at(versions[0], keys["team"], NOW - 200)
    forged = {**older, "signature": older["signature"].replace(str(NOW - 200), str(NOW))}
    assert forged != older
    there = service_in(tmp_path / "there", keys["team.pub"])
    assert posted(there, json.dumps(forged).encode())[0] == 422
    assert posted(there, json.dumps(older).encode())[0] == 200


def test_a_writer_gives_no_older_line_to_a_service_that_demands_signatures(
    versions: list[str], keys: dict[str, Path], tmp_path: Path
) -> None:
    """Not with `replace` either; what is stored may be sent again, however early it was signed."""
    there = service_in(tmp_path / "there", keys["team.pub"])
    older, newer = (signed_at(line, keys["team"], NOW - 100 + number) for number, line in enumerate(versions))

    def sent(item: dict[str, str]) -> dict[str, int]:
        answer = there.client.post("/v1/verdicts?replace=true", content=json.dumps(item))
        return {result: number for result, number in answer.json()["imported"].items() if number}

    assert [sent(older), sent(newer)] == [{"new": 1}, {"replaced": 1}]
    assert sent(older) == {"kept_newer": 1}
    assert sent(signed_at(versions[1], keys["team"], NOW - 500)) == {"known": 1}
    assert sent(older) == {"kept_newer": 1}
    assert sent(signed_at(versions[0], keys["team"], NOW)) == {"replaced": 1}
    metrics = there.client.get("/metrics").text
    assert 'tuner_imported_total{result="kept_newer"} 2.0' in metrics


def test_a_key_states_no_earlier_time_than_it_stated_before(keys: dict[str, Path]) -> None:
    """So a worker whose clock is behind can replace what another one signed."""
    signer, text = Signer(keys["team"], str), b"text"
    signature = signer.sign(text, NOW + 3600).decode()
    assert signer.signed_at(text, signature) == NOW + 3600
    assert NOW <= (signer.signed_at(text, signer.sign(text, 5).decode()) or 0) < NOW + 3600
    assert signer.signed_at(b"another", signature) is None
    assert Signer(keys["other"], str).signed_at(text, signature) is None


# ---- the commands


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Serving, Path]:
    """An environment, and a store beside it that knows Mixtral's plain launch as proved."""
    folder = tmp_path_factory.mktemp("signed")
    serving = serving_in(folder / "env", SETTABLE)
    return serving, serving.store_of(folder / "verdicts.sqlite", MIXTRAL)


@pytest.fixture(scope="module")
def writer(
    place: tuple[Serving, Path], keys: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """A service that demands signatures, and was sent that store."""
    folder = tmp_path_factory.mktemp("writer")
    tokens = tokens_in(folder)
    options = ("--store", folder / "there.sqlite", "--write-tokens", tokens["write"])
    with live_service(folder, *options, "--require-signed", keys["team.pub"]) as live:
        send = ("verdicts", "send", "--service", live.url, "--store", place[1])
        env = {"TUNER_SERVICE_TOKEN_FILE": str(tokens["write"])}
        assert "is not signed" in tuner(*send, env=env, code=1).err
        assert "   1  new\n" in tuner(*send, "--sign-with", keys["team"], env=env, code=0).out
        again = tuner(*send, "--sign-with", keys["team"], "--json", env=env, code=0).document
        assert {word: number for word, number in again["imported"].items() if number} == {"known": 1}
        yield live


def served(place: tuple[Serving, Path], url: str, public: Path, **env: str) -> Any:
    """What a node without a store would start."""
    own = (
        "--python",
        place[0].python,
        "--store",
        place[0].folder / "none.sqlite",
        "--require-signed",
        public,
        "--dry-run",
    )
    return tuner("serve", *own, MIXTRAL, env={"TUNER_SERVICE": url, "TUNER_CACHE_ROOT": "", **env}, code=0)


def test_a_node_that_demands_a_signature_decides_itself(
    place: tuple[Serving, Path], writer: Live, keys: dict[str, Path], tmp_path: Path
) -> None:
    """By the verdict that was signed; without a right signature, or by another key, the service counts for nothing."""
    node = served(place, writer.url, keys["team.pub"])
    assert "has a verdict that is signed with" in node.err
    assert FLAG_ON in node.out
    _, stranger = make_keys(tmp_path / "stranger")
    refused = served(place, writer.url, stranger)
    assert "is signed with the key" in refused.err
    assert "the store here is asked" in refused.err
    assert FLAG_ON not in refused.out
    missing = served(place, writer.url, tmp_path / "none.pub")
    assert "cannot be read" in missing.err
    assert FLAG_ON not in missing.out


def test_a_node_takes_no_unsigned_verdict(place: tuple[Serving, Path], keys: dict[str, Path], tmp_path: Path) -> None:
    """However truly the service decides by it."""
    with live_service(tmp_path, "--store", place[1]) as live:
        assert FLAG_ON in tuner(
            "serve", "--service", live.url, "--python", place[0].python, "--dry-run", MIXTRAL, code=0
        ).out  # fmt: skip
        node = served(place, live.url, keys["team.pub"])
        by_variable = served(place, live.url, keys["team.pub"], TUNER_SERVICE_PUBLIC_KEY=str(keys["team.pub"]))
    assert "is not signed" in node.err
    assert FLAG_ON not in node.out
    assert by_variable.out == node.out


def test_a_signed_verdict_decides_its_own_launch_alone(
    place: tuple[Serving, Path], writer: Live, keys: dict[str, Path], tmp_path: Path
) -> None:
    """The node holds it against its own files and launch, whatever the service names for it."""
    other = serving_in(tmp_path / "other", SETTABLE)
    other.remember(tmp_path / "other.sqlite", MIXTRAL)
    other.write(next(iter(sample(MIXTRAL, "flag-live")["sources"])), "# changed\n")
    assert FLAG_ON not in served((other, place[1]), writer.url, keys["team.pub"]).out


def test_a_real_replica_demands_signatures(writer: Live, keys: dict[str, Path], tmp_path: Path) -> None:
    """It has the signed verdict; a key that cannot be used is named before it starts."""
    options = ("--store", tmp_path / "copy.sqlite", "--follow", writer.url, "--require-signed")
    with live_service(tmp_path, *options, keys["team.pub"]) as replica:
        until(lambda: replica.get("/readyz")[0] == 200)
        (row,) = json.loads(replica.get("/v1/verdicts")[1])["verdicts"]
        assert row["imported"]["signed_by"] == Verifier(keys["team.pub"]).key
    assert "none.pub cannot be read" in tuner("service", "run", *options, tmp_path / "none.pub", code=1).err


def test_a_node_takes_no_older_line(place: tuple[Serving, Path], keys: dict[str, Path], tmp_path: Path) -> None:
    """It remembers what it saw of a verdict in the file of its own store; at the first contact it cannot know."""
    node_store = tmp_path / "node.sqlite"
    (entry,) = VerdictStore(place[1]).entries()
    line = exported_line(VerdictStore(place[1]), entry)
    flags = []
    for number, signed in enumerate((NOW - 100, NOW - 200, NOW - 100, NOW)):
        folder = tmp_path / str(number)
        folder.mkdir()
        there = service_in(folder / "there")
        assert posted(there, json.dumps(signed_at(line, keys["team"], signed)).encode())[0] == 200
        with live_service(folder, "--store", there.state.store.path) as live:
            node = tuner(
                "serve", "--python", place[0].python, "--store", node_store, "--require-signed", keys["team.pub"],
                "--dry-run", MIXTRAL, env={"TUNER_SERVICE": live.url, "TUNER_CACHE_ROOT": ""}, code=0,
            )  # fmt: skip
        flags.append(FLAG_ON in node.out)
        assert ("and gave one of" in node.err) is (number == 1)
    assert flags == [True, False, True, True]


def test_a_node_that_can_keep_nothing_says_so(place: tuple[Serving, Path], writer: Live, keys: dict[str, Path]) -> None:
    """Its store cannot be made; the verdict decides all the same."""
    node = tuner(
        "serve", "--python", place[0].python, "--store", "/proc/nowhere/store", "--require-signed",
        keys["team.pub"], "--dry-run", MIXTRAL, env={"TUNER_SERVICE": writer.url, "TUNER_CACHE_ROOT": ""}, code=0,
    )  # fmt: skip
    assert "would not be noticed later" in node.err
    assert FLAG_ON in node.out


def test_send_says_what_it_needs(place: tuple[Serving, Path], keys: dict[str, Path]) -> None:
    """A service, and a private key that is one."""
    send = ("verdicts", "send", "--store", place[1])
    assert "Add --service URL" in tuner(*send, code=2).err
    wrong = tuner(*send, "--service", "http://127.0.0.1:1", "--sign-with", keys["team.pub"], code=1)
    assert "is not a private key" in wrong.err
