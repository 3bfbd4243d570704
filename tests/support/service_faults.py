"""Test support: faults of a service and its replicas: killed, without disk or network, forged, rotated certificates.

Each function makes one fault as often as it is told, and returns what it counted. `lost` and `wrong` must be 0.
"""

import itertools
import json
import os
import resource
import signal
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from cryptography import x509
from live_service import Live, free_port, live_service, served_number, until, write_pair
from msgspec.structs import replace
from service_bench import READER, WRITER, bearing, tokens_in
from signing_keys import make_keys
from test_service_signed import FORGERIES, signed_at

from cache.verdicts.store import VerdictStore
from tuner.exchange.bundle import Bundled, line_in, line_of
from tuner.exchange.sent_line import sign_line
from tuner.exchange.signing import Signer

CATALOGUE = Path(__file__).parents[2] / "docs" / "catalogue" / "vllm-0.19.1-cpu.jsonl"
SENDERS = 4
"""Clients that send lines at the same time."""
FINE = 200
PROBED_LATER = "2027-01-01T00:00:00+00:00"
"""When the probes of newer lines ran; the others ran before."""
MOST_REFUSED = 20
"""Refusals after which the clients give up."""
Counts = dict[str, int | float]


def new_lines() -> Iterator[tuple[str, bytes]]:
    """Digest and line of verdicts without an end, each of another model."""
    entries = [line_in(line).entry for line in CATALOGUE.read_bytes().splitlines(keepends=True)[:20]]
    for number in itertools.count():
        entry = entries[number % len(entries)]
        other = replace(entry, key={**entry.key, "fingerprint": f"{number:064x}"})
        yield other.digest, line_of(Bundled(other, None)).encode()


class Senders:
    """Clients that send new lines to a service, until it does not answer.

    Args:
        lines: what is sent; each line once.
    """

    def __init__(self, lines: Iterator[tuple[str, bytes]]) -> None:
        self._lines = lines
        self._lock = threading.Lock()
        self.acknowledged: list[str] = []
        """Digests of the lines of which the answer was read."""
        self.refused = 0
        """Lines that were answered with 503."""

    def start(self, live: Live) -> list[threading.Thread]:
        """Begin to send; a client ends with its connection."""
        threads = [threading.Thread(target=self._send, args=(live,)) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, live: Live) -> None:
        with suppress(OSError, HTTPException), closing(live.connection()) as connection:
            while self.refused < MOST_REFUSED:
                with self._lock:
                    digest, line = next(self._lines)
                connection.request("POST", "/v1/verdicts", line, bearing(WRITER))
                answer = connection.getresponse()
                answer.read()
                with self._lock:
                    if answer.status == 200:
                        self.acknowledged.append(digest)
                    else:
                        assert answer.status == 503, answer.status
                        self.refused += 1


def stored(store: Path) -> set[str]:
    """The digests in a store."""
    return {entry.digest for entry in VerdictStore(store).entries()}


def kills(folder: Path, count: int) -> Counts:
    """`kill -9` of the writer while clients send; a replica follows over all of it."""
    store, copy, port = folder / "verdicts.sqlite", folder / "copy.sqlite", free_port()
    options = ("--store", store, "--write-tokens", tokens_in(folder)["write"])
    senders, random = Senders(new_lines()), Random(7)  # noqa: S311  moments
    with live_service(folder, *options, port=port) as first:
        url = first.url
    with live_service(folder, "--store", copy, "--follow", url) as replica:
        for _ in range(count):
            with live_service(folder, *options, port=port) as live:
                before = len(senders.acknowledged)
                threads = senders.start(live)
                until(lambda before=before: len(senders.acknowledged) > before)  # type: ignore[misc]
                time.sleep(random.uniform(0, 0.5))
                live.process.kill()
                for thread in threads:
                    thread.join()
        with live_service(folder, *options, port=port):
            whole = stored(store)
            begin = time.monotonic()
            until(lambda: stored(copy) >= whole)
            caught_up = time.monotonic() - begin
        assert replica.process.poll() is None
    lost = set(senders.acknowledged) - whole
    return {
        "kills": count,
        "acknowledged": len(senders.acknowledged),
        "stored": len(whole),
        "at the replica": len(stored(copy)),
        "seconds to catch up": round(caught_up, 1),
        "lost": len(lost),
    }


def full_disk(folder: Path, count: int) -> Counts:
    """A store that cannot grow: refused lines, whole acknowledged ones, answers to readers, and room again."""
    acknowledged = refused = lost = wrong = 0
    for number in range(count):
        store = folder / f"{number}.sqlite"
        senders = Senders(new_lines())
        options = ("--store", store, "--write-tokens", tokens_in(folder)["write"])
        with live_service(folder, *options) as live:
            limit = 2**19 + number * 4096
            resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
            for thread in senders.start(live):
                thread.join()
            wrong += live.get("/v1/verdicts")[0] != 200
        with live_service(folder, *options) as live, closing(live.connection()) as connection:
            _, line = next(new_lines())
            connection.request("POST", "/v1/verdicts", line, bearing(WRITER))
            wrong += connection.getresponse().status != 200
        acknowledged, refused = acknowledged + len(senders.acknowledged), refused + senders.refused
        lost += len(set(senders.acknowledged) - stored(store))
    assert refused
    return {"stores": count, "acknowledged": acknowledged, "refused with 503": refused, "lost": lost + wrong}


def cut_off(folder: Path, seconds: float) -> Counts:
    """A writer whose packets do not arrive (it is stopped), while it gets verdicts; its replica answers meanwhile."""
    store, copy = folder / "verdicts.sqlite", folder / "copy.sqlite"
    tokens, lines = tokens_in(folder), new_lines()
    options = ("--store", store, "--write-tokens", tokens["write"])
    with (
        live_service(folder, *options) as writer,
        live_service(folder, "--store", copy, "--follow", writer.url) as replica,
    ):
        put(writer, lines, 20)
        until(lambda: len(stored(copy)) == 20)
        writer.process.send_signal(signal.SIGSTOP)
        begin, answers = time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            assert replica.get("/v1/verdicts")[0] == 200
            answers += 1
            time.sleep(0.5)
        writer.process.send_signal(signal.SIGCONT)
        put(writer, lines, 20)
        begin = time.monotonic()
        until(lambda: len(stored(copy)) == 40)
        waited = round(time.monotonic() - begin, 1)
    missing = len(stored(store) - stored(copy))
    return {"seconds": seconds, "answers meanwhile": answers, "seconds to catch up": waited, "lost": missing}


def put(live: Live, lines: Iterator[tuple[str, bytes]], count: int) -> None:
    """Send so many new lines."""
    with closing(live.connection()) as connection:
        for _, line in itertools.islice(lines, count):
            connection.request("POST", "/v1/verdicts", line, bearing(WRITER))
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (200, True)


def forged(folder: Path, count: int) -> Counts:
    """A writer that forges each line in one of six ways, for a replica that demands signatures."""
    team, public = make_keys(folder / "team")
    other, _ = make_keys(folder / "other")
    signer, ways = Signer(team, str), list(FORGERIES.values())
    items = []
    for number, (_, line) in enumerate(itertools.islice(new_lines(), count), 1):
        item = {"sequence": number, **json.loads(sign_line(line.decode(), signer))}
        items.append(ways[number % len(ways)](item, {"other": other}))
    copy = folder / "copy.sqlite"
    with (
        feeding(items) as url,
        live_service(folder, "--store", copy, "--follow", url, "--require-signed", public) as replica,
    ):
        until(lambda: replica.get("/readyz")[0] == 200)
        log = replica.log.read_text().splitlines()
    said = [line for line in log if "are left out" in line]
    assert said
    return {"forged lines": count, "ways": len(ways), "lines in the log": len(said), "wrong": len(stored(copy))}


def older_lines(folder: Path, count: int) -> Counts:
    """A writer that gives older signed lines once more, for a replica that demands signatures and saw newer ones."""
    key, public = make_keys(folder / "team")
    now, older, newer, again = int(time.time()), [], [], []
    for number, (_, line) in enumerate(itertools.islice(new_lines(), count), 1):
        later = replace(line_in(line).entry, probed_at=PROBED_LATER)
        older.append({"sequence": number, **signed_at(line.decode(), key, now - 200)})
        newer.append({"sequence": count + number, **signed_at(line_of(Bundled(later, None)), key, now - 100)})
        again.append({**older[-1], "sequence": 2 * count + number})
    copy = folder / "copy.sqlite"
    options = ("--store", copy, "--require-signed", public, "--follow")
    logged = 0
    for items in ([*older, *newer, *again], older):  # the second one is the feed of a writer that started anew
        with feeding(items) as url, live_service(folder, *options, url) as replica:
            until(lambda live=replica: live.get("/readyz")[0] == FINE)  # type: ignore[misc]
            logged += sum("signed later" in line for line in replica.log.read_text().splitlines())
        entries = list(VerdictStore(copy).entries())
        assert len(entries) == count
    assert logged
    wrong = sum(entry.probed_at != PROBED_LATER for entry in entries)
    return {"verdicts": count, "older lines given": 2 * count, "lines in the log": logged, "wrong": wrong}


@contextmanager
def feeding(items: Sequence[dict[str, Any]], page: int = 100) -> Iterator[str]:
    """The address of a server that gives these changes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            since = int(self.path.partition("since=")[2])
            body = "".join(json.dumps(item) + "\n" for item in items[since : since + page]).encode()
            self.send_response(200)
            self.send_header("Tuner-Next", str(min(since + page, len(items))))
            self.send_header("Tuner-Feed", "forged")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def certificates(folder: Path, count: int) -> Counts:
    """The certificate is exchanged again and again while clients connect anew and ask."""
    store = folder / "verdicts.sqlite"
    crt, key = write_pair(folder / "served", number=1)
    options = ("--store", store, "--certificate", crt, "--key", key, "--read-tokens", tokens_in(folder)["read"])
    numbers, failures, done = Counter[int](), list[str](), threading.Event()

    def ask(port: int) -> None:
        while not done.is_set():
            try:
                numbers[asked_unverified(port)] += 1
            except (OSError, HTTPException) as error:
                failures.append(str(error))

    with live_service(folder, *options, certificate=crt) as live:
        threads = [threading.Thread(target=ask, args=(live.port,)) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for number in range(2, count + 2):
            write_pair(folder / "next", number=number)
            for name in ("key", "crt"):  # for a moment the two do not fit
                os.replace(folder / f"next.{name}", folder / f"served.{name}")  # noqa: PTH105  as a rotation does it
            until(lambda number=number: served_number(live.port) == number)  # type: ignore[misc]
        done.set()
        for thread in threads:
            thread.join()
    seen = len(numbers)
    assert seen > 1, "no client saw two of them"
    return {"certificates": count, "seen": seen, "answers": numbers.total(), "lost": len(failures)}


def asked_unverified(port: int) -> int:
    """The serial number of the certificate under which a new connection was answered."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # each signs itself
    with closing(HTTPSConnection("127.0.0.1", port, timeout=30, context=context)) as connection:
        connection.request("GET", "/v1/verdicts", headers=bearing(READER))
        shown = connection.sock.getpeercert(binary_form=True) or b""
        answer = connection.getresponse()
        if answer.status != FINE:
            raise HTTPException(f"it answers {answer.status}")
        answer.read()
    return x509.load_der_x509_certificate(shown).serial_number


def slow_clients(folder: Path, count: int) -> Counts:
    """Clients that begin a request and do not end it; others are answered meanwhile, and the slow ones are cut."""
    with live_service(folder, "--store", folder / "verdicts.sqlite") as live:
        slow = []
        for _ in range(count):
            connection = live.connection()
            connection.connect()
            connection.sock.sendall(b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            slow.append(connection)
        begin = time.monotonic()
        wrong = live.get("/healthz")[0] != 200
        cut = 0
        for connection in slow:
            connection.sock.settimeout(30)
            with suppress(ConnectionError):
                cut += connection.sock.recv(1) == b""
            connection.close()
        waited = round(time.monotonic() - begin, 1)
        memory = peak_megabytes(live.process.pid)
    return {"clients": count, "cut": cut, "seconds": waited, "peak MB": memory, "wrong": int(wrong) + count - cut}


def peak_megabytes(process: int) -> int:
    """The most memory that a process has had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) // 1024
