"""`tuner service certificate`, and the name by which a service will be asked."""

import ssl
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from fake_environment import MIXTRAL, Serving, tuner
from live_service import live_service, write_pair
from service_bench import tokens_in

from tuner.service.certificate import Certificate, names_of

NAME = "vllm-moe-tuner.tuner.svc"
FILES = ("ca.crt", "ca.key", "tls.crt", "tls.key")


def made(folder: Path, *options: object, code: int = 0) -> str:
    """What the command prints: its result, or its failure."""
    answer = tuner("service", "certificate", folder, *options, code=code)
    return answer.err if code else answer.out


def leaf_of(folder: Path) -> x509.Certificate:
    """The certificate in a folder."""
    return x509.load_pem_x509_certificates((folder / "tls.crt").read_bytes())[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_certificate_is_made_with_its_authority(tmp_path: Path) -> None:
    """Four files for their owner alone; the certificate is short, and for the names that were given."""
    folder = tmp_path / "new" / "tls"
    text = made(folder, "--name", NAME, "--name", "127.0.0.1")
    assert tuple(contents(folder)) == FILES
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    leaf, authority = leaf_of(folder), x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    leaf.verify_directly_issued_by(authority)
    assert names_of(leaf) == (NAME, "127.0.0.1")
    assert timedelta(days=89) < leaf.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=90)
    assert authority.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3600)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for word in ("tls.crt", "tls.key", "ca.crt", NAME):
        assert word in text


def test_a_service_serves_it(serving: Serving, store: Path, tmp_path: Path) -> None:
    """A client that trusts the authority alone takes the certificate, with strict rules, by its name."""
    serving.store_of(store, MIXTRAL)
    made(tmp_path / "tls", "--name", "127.0.0.1")
    pair = ("--certificate", tmp_path / "tls" / "tls.crt", "--key", tmp_path / "tls" / "tls.key", "--name", NAME)
    options = ("--store", store, *pair, "--read-tokens", tokens_in(tmp_path)["read"])
    with live_service(tmp_path, *options, certificate=tmp_path / "tls" / "ca.crt") as live:
        assert live.get("/readyz")[0] == 200
        context = ssl.create_default_context(cafile=live.trusted)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        with closing(live.connection()) as connection:
            connection._context = context  # type: ignore[attr-defined]
            connection.connect()
        log = live.log.read_text(encoding="utf-8")
        assert f"tls.crt is not for {NAME}, only for 127.0.0.1." in log


def test_a_second_run_renews_the_certificate_alone(tmp_path: Path) -> None:
    """The authority stays, so that whoever trusts it need not be told; the names are those of before, or new ones."""
    made(tmp_path, "--name", NAME)
    before, old = contents(tmp_path), leaf_of(tmp_path)
    made(tmp_path, "--days", "7")
    after = contents(tmp_path)
    assert (after["ca.crt"], after["ca.key"]) == (before["ca.crt"], before["ca.key"])
    assert after["tls.key"] != before["tls.key"]
    assert names_of(leaf_of(tmp_path)) == (NAME,)
    assert leaf_of(tmp_path).not_valid_after_utc < old.not_valid_after_utc
    assert tuple(after) == FILES
    Certificate(tmp_path / "tls.crt", tmp_path / "tls.key", pytest.fail, NAME)
    made(tmp_path, "--name", "other.example")
    assert names_of(leaf_of(tmp_path)) == ("other.example",)


def test_what_is_not_its_own_is_never_overwritten(tmp_path: Path) -> None:
    """Another authority, a certificate of another one, half a folder, and what is no certificate."""
    made(tmp_path / "own", "--name", NAME)
    made(tmp_path / "other", "--name", NAME)
    own, other = contents(tmp_path / "own"), contents(tmp_path / "other")
    crt, key = write_pair(tmp_path / "foreign")
    cases = {
        "a certificate of another authority": {**own, "tls.crt": other["tls.crt"]},
        "a key of another authority": {**own, "ca.key": other["ca.key"]},
        "an authority of somebody else": {"ca.crt": crt.read_bytes(), "ca.key": key.read_bytes()},
        "a certificate alone": {"tls.crt": own["tls.crt"]},
        "an authority without its key": {"ca.crt": own["ca.crt"]},
        "a text": {**own, "tls.crt": b"a text"},
        "no key": {**own, "ca.key": b"a text"},
    }
    for name, files in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        assert "is not overwritten" in made(folder, "--name", NAME, code=1), name
        assert contents(folder) == files, name


@pytest.mark.parametrize("name", ["", " ", "a b", "*", "ä.example", "x" * 300])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """Before anything is written; and so is a first certificate without a name."""
    assert "name" in made(tmp_path / "tls", "--name", name, code=2)
    assert "needs a name" in made(tmp_path / "tls", code=2)
    assert contents(tmp_path / "tls") == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands in its place."""
    (tmp_path / "tls").write_text("a file", encoding="utf-8")
    assert str(tmp_path / "tls") in made(tmp_path / "tls", "--name", NAME, code=1)


PATTERNS = [
    (NAME, NAME, True),
    (NAME, NAME.upper(), True),
    ("*.tuner.svc", NAME, True),
    ("*.svc", NAME, False),
    ("tuner.svc", NAME, False),
    (f"x{NAME}", NAME, False),
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.2", "127.0.0.1", False),
]


@pytest.mark.parametrize(("pattern", "name", "stands"), PATTERNS)
def test_the_name_is_compared_as_clients_do(pattern: str, name: str, stands: bool, tmp_path: Path) -> None:
    """Small letters and large ones are the same, and a star is one label."""
    made(tmp_path, "--name", pattern)
    told: list[str] = []
    Certificate(tmp_path / "tls.crt", tmp_path / "tls.key", told.append, name)
    assert bool(told) is not stands


def test_a_renewed_certificate_without_the_name_is_told(tmp_path: Path) -> None:
    """Also while the service runs."""
    made(tmp_path, "--name", NAME)
    told: list[str] = []
    certificate = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key", told.append, NAME)
    assert told == []
    made(tmp_path, "--name", "other.example")
    certificate.refresh()
    assert [f"not for {NAME}, only for other.example" in line for line in told] == [True, False]
