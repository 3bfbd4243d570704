"""Signed bundles: one changed byte, another key or a missing signature is refused, and minisign itself agrees."""

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minisign import SecretKey
from signing_keys import make_keys
from test_bundle import LINE, entry

from rules.errors import TunerError
from tuner.exchange.bundle import Bundled, line_of
from tuner.exchange.signing import MAX_TEXT, Signed, Signer, check_signature, readable_by_others, signature_file

BUNDLE = LINE + line_of(Bundled(entry("Qwen3MoeForCausalLM"), None)).encode()
MINISIGN = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed (Debian: minisign)")


def no_password() -> str:
    """For keys that have none."""
    raise AssertionError("this key has no password")


def sign(bundle: bytes, key: Path, password: Callable[[], str]) -> bytes:
    """The text of the signature file of a bundle."""
    return Signer(key, password).sign(bundle)


def signed_in(folder: Path, bundle: bytes = BUNDLE) -> Path:
    """A signed bundle in a new folder, with the keys `team.key` and `team.pub`."""
    folder.mkdir(exist_ok=True)
    make_keys(folder / "team")
    path = folder / "team.jsonl"
    path.write_bytes(bundle)
    signature_file(path).write_bytes(sign(bundle, folder / "team.key", no_password))
    return path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed bundle whose files the tests put back."""
    return signed_in(tmp_path_factory.mktemp("signed"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A signed bundle of the test's own."""
    return signed_in(tmp_path)


def checked(bundle: Path, key: str = "team.pub") -> Signed:
    """The bundle, its signature required."""
    return check_signature(bundle, bundle.with_name(key))


def refusal(bundle: Path, key: str = "team.pub") -> str:
    """The sentence that refuses a bundle."""
    with pytest.raises(TunerError) as raised:
        checked(bundle, key)
    assert raised.value.kind == "signature"
    assert raised.value.hint
    return raised.value.message


def refused_as(bundle: Path, text: bytes) -> bool:
    """Whether other bytes are refused in the bundle's place; the file is put back."""
    whole = bundle.read_bytes()
    bundle.write_bytes(text)
    try:
        return "does not match its signature" in refusal(bundle)
    finally:
        bundle.write_bytes(whole)


def test_a_signed_bundle_is_read_as_it_was_signed(bundle: Path) -> None:
    """The bytes that were checked, the key and the signed comment."""
    answer = checked(bundle)
    assert answer.text == BUNDLE
    assert f"minisign public key {answer.key}\n" in bundle.with_name("team.pub").read_text()
    assert answer.comment.startswith("timestamp:")


def test_bytes_all_over_a_signed_bundle_count(signed: Path) -> None:
    """Every sixteenth in turn is changed, and each time the bundle is refused."""
    places = range(0, len(BUNDLE), 16)
    assert all(refused_as(signed, BUNDLE[:at] + bytes([BUNDLE[at] ^ 1]) + BUNDLE[at + 1 :]) for at in places)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(signed: Path, place: int, bits: int) -> None:
    """Any byte, changed to any other."""
    assert refused_as(signed, BUNDLE[:place] + bytes([BUNDLE[place] ^ bits]) + BUNDLE[place + 1 :])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(BUNDLE) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_any_cut_or_inserted_bytes_are_refused(signed: Path, place: int, more: bytes, less: int) -> None:
    """Cut at any place, or with other bytes there; only the same bytes are the same bundle."""
    text = BUNDLE[:place] + more + BUNDLE[place + less :]
    assert text == BUNDLE or refused_as(signed, text)
    assert refused_as(signed, BUNDLE[:place])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_signature_is_refused_unless_nobody_reads_it(signed: Path, data: st.DataObject) -> None:
    """Of the signature file the comment in the first line may differ, and nothing else."""
    file = signature_file(signed)
    whole = file.read_bytes()
    place, bits = data.draw(st.integers(0, len(whole) - 2)), data.draw(st.integers(1, 255))
    file.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
    try:
        accepted = checked(signed).text == BUNDLE
    except TunerError:
        accepted = False
    file.write_bytes(whole)
    assert not accepted or place < whole.index(b"\n")


def test_a_respelled_signature_is_refused(bundle: Path) -> None:
    """Base64 leaves bits unused; a signature that uses them is another file of the same meaning, and is not taken."""
    file = signature_file(bundle)
    lines = file.read_bytes().split(b"\n")
    spelled = lines[1][:-2] + bytes([lines[1][-2] + 1]) + b"="
    assert base64.b64decode(spelled) == base64.b64decode(lines[1])
    file.write_bytes(b"\n".join([lines[0], spelled, *lines[2:]]))
    assert refusal(bundle) == (
        f"The signature {file} is damaged: it is not written as minisign writes it. Nothing was stored."
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda first, second: second + first,
        lambda first, _: first + first,
        lambda first, _: first,
        lambda first, second: first + second + second,
        lambda first, second: first + second.replace(b"Qwen3", b"Qwen2"),
        lambda *_: b"",
    ],
    ids=["reordered", "replaced", "left out", "repeated", "another model", "empty"],
)
def test_entries_cannot_be_moved(bundle: Path, change: object) -> None:
    """Each line alone may be right; the signature is of all of them, in their order."""
    assert callable(change)
    bundle.write_bytes(change(*BUNDLE.splitlines(keepends=True)))
    assert refusal(bundle) == (
        f"{bundle} does not match its signature {bundle}.minisig: one of them was changed, cut or forged."
        " Nothing was stored."
    )


def test_a_missing_signature_is_refused(bundle: Path) -> None:
    """What is required is there."""
    signature_file(bundle).unlink()
    assert refusal(bundle) == f"{bundle} is not signed: there is no {bundle}.minisig. Nothing was stored."


def test_another_key_is_refused(bundle: Path) -> None:
    """Both keys are named."""
    _, public = make_keys(bundle.with_name("mine"))
    mine = public.read_text().splitlines()[0].split()[-1]
    theirs = checked(bundle).key
    assert refusal(bundle, "mine.pub") == (
        f"{bundle} is signed with the key {theirs}, and {bundle.with_name('mine.pub')} is {mine}. Nothing was stored."
    )


def test_another_key_of_the_same_name_is_refused(bundle: Path) -> None:
    """A key's identifier is not a secret: a forger's key may claim it."""
    make_keys(bundle.with_name("forger"))
    theirs, wanted = (bundle.with_name(name).read_bytes().split(b"\n") for name in ("forger.key", "team.key"))
    forged, real = bytearray(base64.b64decode(theirs[1])), base64.b64decode(wanted[1])
    forged[54:62] = real[54:62]  # behind algorithms, salt and limits
    key = bundle.with_name("forged.key")
    key.write_bytes(b"\n".join([theirs[0], base64.b64encode(forged), b""]))
    signature_file(bundle).write_bytes(sign(BUNDLE, key, no_password))
    assert "does not match its signature" in refusal(bundle)


def test_the_signature_of_another_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    """It is right, of the right key, and of other bytes."""
    signature_file(bundle).write_bytes(sign(BUNDLE + LINE, tmp_path / "team.key", no_password))
    assert "does not match its signature" in refusal(bundle)


@pytest.mark.parametrize(
    "text",
    [b"", b"\n\n\n\n", b"\xff" * 300, b"x" * (MAX_TEXT + 1), b"untrusted comment: \nRUQ=\ntrusted comment: \n\n"],
)
def test_what_is_no_signature_or_key_is_one_sentence(bundle: Path, text: bytes) -> None:
    """Whatever lies in the place of a signature or a key."""
    for name in ("team.jsonl.minisig", "team.pub", "team.key"):
        file = bundle.with_name(name)
        whole = file.read_bytes()
        file.write_bytes(text)
        with pytest.raises(TunerError, match=name) as raised:
            sign(BUNDLE, file, no_password) if name == "team.key" else checked(bundle)
        assert (raised.value.kind, bool(raised.value.hint)) == ("signature", True)
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["team.key", "missing.pub", "folder"])
def test_a_file_that_is_no_public_key_is_one_sentence(bundle: Path, name: str) -> None:
    """A private key, nothing, a folder."""
    bundle.with_name("folder").mkdir()
    assert str(bundle.with_name(name)) in refusal(bundle, name)


def test_a_key_with_a_password_signs_for_whoever_knows_it(bundle: Path) -> None:
    """The password is asked for once; another one is a sentence."""
    key = bundle.with_name("team.key")
    secret = SecretKey.from_file(key)
    secret.encrypt("open sesame")
    key.write_bytes(bytes(secret) + b"\n")
    signature_file(bundle).write_bytes(sign(BUNDLE, key, lambda: "open sesame"))
    assert checked(bundle).text == BUNDLE
    with pytest.raises(TunerError, match="cannot sign: wrong password"):
        sign(BUNDLE, key, lambda: "open, wheat")


def test_a_damaged_private_key_signs_nothing(bundle: Path) -> None:
    """It would make signatures that nobody can check."""
    key = bundle.with_name("team.key")
    comment, encoded, _ = key.read_bytes().split(b"\n")
    damaged = bytearray(base64.b64decode(encoded))
    damaged[70] ^= 1
    key.write_bytes(b"\n".join([comment, base64.b64encode(damaged), b""]))
    with pytest.raises(TunerError, match="cannot sign"):
        sign(BUNDLE, key, no_password)


@pytest.mark.parametrize(("mode", "words"), [(0o600, None), (0o400, None), (0o640, "mode 0640"), (0o604, "mode 0604")])
def test_a_private_key_that_others_may_read_is_warned_of(tmp_path: Path, mode: int, words: str | None) -> None:
    """The group counts as others."""
    secret, _ = make_keys(tmp_path / "a")
    secret.chmod(mode)
    warning = readable_by_others(secret)
    if words is None:
        assert warning is None
    else:
        assert warning is not None
        assert words in warning
        assert str(secret) in warning


# ---- the tool whose format it is, and another one that knows nothing of the format

OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
ED25519 = bytes.fromhex("302a300506032b6570032100")
"""What stands before a public key in DER (RFC 8410)."""


@OPENSSL
def test_openssl_accepts_our_signature(bundle: Path) -> None:
    """It is plain Ed25519 over the BLAKE2b hash of the file; both are made by OpenSSL here."""
    folder = bundle.parent
    encoded = bundle.with_name("team.pub").read_bytes().split(b"\n")[1]
    (folder / "key.der").write_bytes(ED25519 + base64.b64decode(encoded)[10:])
    lines = signature_file(bundle).read_bytes().split(b"\n")
    (folder / "signature").write_bytes(base64.b64decode(lines[1])[10:])
    hashing = ["openssl", "dgst", "-blake2b512", "-binary", "-out", "hash", bundle.name]
    checking = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key.der", "-rawin"]
    subprocess.run(hashing, cwd=folder, check=True)
    process = subprocess.run(
        [*checking, "-in", "hash", "-sigfile", "signature"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (0, "Signature Verified Successfully\n")


def minisign(*args: object, said: str = "") -> str:
    """What minisign prints; a failure fails the test."""
    process = subprocess.run(["minisign", *map(str, args)], input=said, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


@MINISIGN
def test_minisign_accepts_our_signature(bundle: Path) -> None:
    """It checks the signature by the public key, shows the same identifier, and signs with the private key."""
    public, secret = bundle.with_name("team.pub"), bundle.with_name("team.key")
    assert "Signature and comment signature verified" in minisign("-V", "-p", public, "-m", bundle)
    bundle.write_bytes(BUNDLE + b" ")
    process = subprocess.run(
        ["minisign", "-V", "-p", public, "-m", bundle], capture_output=True, text=True, check=False
    )
    assert process.returncode != 0
    minisign("-S", "-W", "-s", secret, "-m", bundle)
    assert checked(bundle).text == BUNDLE + b" "
    minisign("-R", "-s", secret, "-p", bundle.with_name("again.pub"))
    assert bundle.with_name("again.pub").read_text() == public.read_text()


@MINISIGN
def test_we_accept_the_keys_and_signatures_of_minisign(bundle: Path, tmp_path: Path) -> None:
    """Its key pair signs here, and what it signs is accepted here."""
    public, secret = tmp_path / "m.pub", tmp_path / "m.key"
    minisign("-G", "-W", "-p", public, "-s", secret)
    signature_file(bundle).write_bytes(sign(BUNDLE, secret, no_password))
    ours = checked(bundle, "m.pub")
    assert ours.key in public.read_text()
    assert "verified" in minisign("-V", "-p", public, "-m", bundle)
    minisign("-S", "-W", "-s", secret, "-m", bundle, "-t", "release 1")
    theirs = checked(bundle, "m.pub")
    assert (theirs.key, theirs.comment) == (ours.key, "release 1")


@MINISIGN
def test_minisigns_old_kind_of_signature_is_refused(bundle: Path) -> None:
    """It signs a file, not a hash: a signature of the one could pass for one of the other."""
    minisign("-S", "-W", "-l", "-s", bundle.with_name("team.key"), "-m", bundle)
    assert f"The signature {bundle}.minisig is of minisign's old kind" in refusal(bundle)
