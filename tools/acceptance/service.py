"""The real service of the run: with TLS, the shipped catalogue, and models and environment of the examples."""

import ssl
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path

from fake_environment import MODELS
from live_service import free_port
from service_bench import READER, bearing, tokens_in

from tools.acceptance import ROOT
from tools.acceptance.processes import Server, clean_variables, tuner
from tools.evidence.page import TUNER

HOST = "127.0.0.1"
IMAGE = "registry.example/vllm:0.19.1"
"""The image of the pods that serve."""
ENVIRONMENT = ROOT / "examples" / "image.json"
"""The saved environment of that image."""
CATALOGUE = ROOT / "docs" / "catalogue" / "vllm-0.19.1-cpu.jsonl"


class Service:
    """`tuner service run`, which can be stopped and started again at the same address.

    Args:
        folder: for the store, certificates, tokens and the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = folder / "verdicts.sqlite"
        self.port = free_port()
        self.url = f"https://{HOST}:{self.port}"
        self.authority = folder / "tls" / "ca.crt"
        folder.mkdir()
        image = IMAGE.partition("/")[0]
        (folder / "tuner.toml").write_text(f'[images]\n"{image}/*" = "{ENVIRONMENT}"\n', encoding="utf-8")
        self._tokens = tokens_in(folder)
        self.tuner("verdicts", "import", CATALOGUE, "--store", self.store)
        self.renew_certificate("--name", HOST)
        self._server: Server | None = None

    def renew_certificate(self, *options: str) -> None:
        """Make the certificate, or a new one by the same authority."""
        self.tuner("service", "certificate", self.authority.parent, *options)

    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            BrokenPromiseError: it did not start.
        """
        tls = self.authority.parent
        words: list[object] = [TUNER, "service", "run", "--port", self.port, "--store", self.store]
        words += ["--configs", MODELS, "--certificate", tls / "tls.crt", "--key", tls / "tls.key", "--name", HOST]
        words += ["--read-tokens", self._tokens["read"]]
        log = self._folder / "service.log"
        self._server = Server(words, log, lambda: bool(self._get("/readyz")), self._folder, clean_variables())

    def _get(self, path: str, token: str = "") -> bytes:
        """The body of an answer; empty if the service refuses the request."""
        context = ssl.create_default_context(cafile=self.authority)
        with closing(HTTPSConnection(HOST, self.port, timeout=20, context=context)) as connection:
            connection.request("GET", path, headers=bearing(token) if token else {})
            answer = connection.getresponse()
            return answer.read() if answer.status == HTTPStatus.OK else b""

    def server(self) -> Server:
        """The process of the service.

        Raises:
            ValueError: it was not started.
        """
        if self._server is None:
            raise ValueError("the service was not started")
        return self._server

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._server is not None:
            self._server.stop()

    def review_count(self) -> int:
        """How many reviews it has answered since its start."""
        lines = self._get("/metrics").decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith("tuner_admissions_total{")))

    def changes(self) -> bytes:
        """Everything that is stored, as its replicas get it."""
        return self._get("/v1/changes?since=0", READER)

    def tuner(self, *words: object, ends: tuple[int, ...] = (0,), stdin: str = "") -> str:
        """Run a command of the tool that trusts the certificate of this service; see `processes.tuner`."""
        return tuner(*words, ends=ends, stdin=stdin, variables={"TUNER_SERVICE_CA": str(self.authority)})
