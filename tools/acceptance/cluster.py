"""A Kubernetes without nodes: etcd and kube-apiserver on this machine. Pods are stored, and none of them is started."""

import json
import os
import secrets
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from live_service import free_port

from tools.acceptance.processes import Server, tuner, until

HOST = "127.0.0.1"
WAIT_S = 40
"""Seconds for an answer of the API server; its own limit for a request is 60."""
COMMAND_S = 120
AUDIT_LOG = "audit.log"


@dataclass(frozen=True)
class Answer:
    """What the API server answered: the status of HTTP, the object or a Status, and the warnings."""

    status: int
    document: dict[str, Any]
    warnings: tuple[str, ...]


class Cluster:
    """Access to an API server: requests of an administrator, and `kubectl`.

    Args:
        kubectl: the program.
        folder: with the API server's certificates; takes what kubectl reads.
        port: of the API server.
        token: of an administrator.
    """

    def __init__(self, kubectl: Path, folder: Path, port: int, token: str) -> None:
        self._kubectl, self._folder = kubectl, folder
        self._port, self._token = port, token
        self._connection = self._connect()
        file = folder / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(self._kubeconfig()), encoding="utf-8")

    def _connect(self) -> HTTPSConnection:
        trusted = ssl.create_default_context(cafile=self._folder / "ca.crt")
        return HTTPSConnection(HOST, self._port, timeout=WAIT_S, context=trusted)

    def _kubeconfig(self) -> dict[str, Any]:
        """What kubectl reads; JSON is YAML."""
        cluster = {"server": f"https://{HOST}:{self._port}", "certificate-authority": str(self._folder / "ca.crt")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "here", "user": {"token": self._token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            "current-context": "here",
        }

    def another(self) -> "Cluster":
        """The same with a connection of its own."""
        return Cluster(self._kubectl, self._folder, self._port, self._token)

    def kubectl(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """What Debian's kubectl does with these words."""
        variables = {"KUBECONFIG": str(self._folder / "kubeconfig"), "HOME": str(self._folder)}
        return subprocess.run(
            [str(self._kubectl), *map(str, words)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    def create(self, pod: Mapping[str, Any], namespace: str = "default", **query: str) -> Answer:
        """Create a pod."""
        return self.ask("POST", f"/api/v1/namespaces/{namespace}/pods?{urlencode(query)}", pod)

    def remove_pods(self) -> None:
        """Remove all pods of the namespace `default`."""
        self.ask("DELETE", "/api/v1/namespaces/default/pods?gracePeriodSeconds=0")

    def audited(self, creator: str) -> str:
        """Lines of the audit log on what was created with this `fieldManager`."""
        lines = (self._folder / AUDIT_LOG).read_text(encoding="utf-8").splitlines()
        return "\n".join(line for line in lines if f"fieldManager={creator}" in line)

    def ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Answer:
        """The answer to one request, over the one connection.

        Raises:
            OSError: there is no answer.
        """
        body = None if document is None else json.dumps(document)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            data, warnings = answer.read(), answer.headers.get_all("Warning") or []
        except OSError:
            self._connection = self._connect()
            raise
        return Answer(answer.status, json.loads(data) if data.startswith(b"{") else {}, tuple(warnings))

    def has(self, path: str) -> bool:
        """Whether there is something at a path."""
        return self.ask("GET", path).status == HTTPStatus.OK


@contextmanager
def running_cluster(programs: Path, folder: Path) -> Iterator[Cluster]:
    """An etcd and an API server, once it is ready.

    Args:
        programs: folder with `etcd`, `kube-apiserver` and `kubectl`.
        folder: for data, certificates and logs.

    Raises:
        BrokenPromiseError: one of them did not start.
    """
    certificates, token, port = folder / "api-tls", secrets.token_urlsafe(32), free_port()
    tuner("service", "certificate", certificates, "--name", HOST)
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{token},acceptance,acceptance,"system:masters"\n', encoding="utf-8")
    cluster = Cluster(programs / "kubectl", certificates, port, token)
    with ExitStack() as stack:
        etcd, words = _etcd(programs / "etcd", folder)
        server = Server(words, folder / "etcd.log", lambda: _is_healthy(etcd))
        stack.callback(server.stop)
        words = _api_server(programs / "kube-apiserver", etcd, port, certificates, tokens)
        server = Server(words, folder / "kube-apiserver.log", lambda: cluster.has("/readyz"))
        stack.callback(server.stop)
        until(lambda: cluster.has("/api/v1/namespaces/default"), "there is a namespace `default`")
        yield cluster


def _etcd(program: Path, folder: Path) -> tuple[str, list[object]]:
    """The address of an etcd, and its command."""
    client, peer = f"http://{HOST}:{free_port()}", f"http://{HOST}:{free_port()}"
    words: list[object] = [program, "--data-dir", folder / "etcd"]
    words += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
    return client, [*words, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]


def _is_healthy(etcd: str) -> bool:
    with urllib.request.urlopen(f"{etcd}/health", timeout=5) as answer:  # noqa: S310  the address is ours
        return bool(json.load(answer)["health"] == "true")


def _api_server(program: Path, etcd: str, port: int, certificates: Path, tokens: Path) -> list[object]:
    """The command of an API server."""
    key = certificates / "tls.key"
    options = {
        "etcd-servers": etcd,
        "bind-address": HOST,
        "advertise-address": HOST,
        "secure-port": port,
        "tls-cert-file": certificates / "tls.crt",
        "tls-private-key-file": key,
        "token-auth-file": tokens,
        "authorization-mode": "RBAC",
        "service-account-issuer": f"https://{HOST}",
        "service-account-key-file": certificates / "tls.crt",
        "service-account-signing-key-file": key,
        "service-cluster-ip-range": "10.0.0.0/24",
        "endpoint-reconciler-type": "none",
        "audit-policy-file": _audit_policy(certificates),
        "audit-log-path": certificates / AUDIT_LOG,
        # The tokens that it would give to pods come from a controller, which does not run here.
        "disable-admission-plugins": "ServiceAccount",
    }
    return [program, *(f"--{name}={value}" for name, value in options.items())]


def _audit_policy(folder: Path) -> Path:
    """A file that has the API server log who creates which pod, and what webhooks say of it."""
    rule = {"level": "Metadata", "verbs": ["create"], "resources": [{"group": "", "resources": ["pods"]}]}
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [rule]}
    file = folder / "audit-policy.json"
    file.write_text(json.dumps(policy), encoding="utf-8")
    return file
