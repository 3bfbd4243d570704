"""Key pairs in minisign's format, made by the library as `minisign -G -W` makes them."""

import base64
from pathlib import Path

from minisign import KeyPair


def make_keys(stem: Path) -> tuple[Path, Path]:
    """Write a private key without a password as `STEM.key`, and its public key as `STEM.pub`."""
    pair = KeyPair.generate()
    number = int.from_bytes(base64.b64decode(pair.public_key.to_base64())[2:10], "little")
    pair.public_key.untrusted_comment = f"minisign public key {number:016X}"  # the library's own has the bytes reversed
    secret, public = Path(f"{stem}.key"), Path(f"{stem}.pub")
    secret.write_bytes(bytes(pair.secret_key) + b"\n")
    secret.chmod(0o600)
    public.write_bytes(bytes(pair.public_key) + b"\n")
    return secret, public
