"""Keys: equal factors have one digest, and a miss can name what differs."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.key import canonical, differences, digest

TEXT = st.text(st.characters(codec=None))  # half surrogate pairs too: JSON can spell them
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FACTORS = st.dictionaries(TEXT, JSON, max_size=4)


def test_canonical_form() -> None:
    """The text that is hashed is sorted JSON without spaces, with characters standing for themselves."""
    assert canonical({"b": [1, {"z": None, "y": True}], "a": "ä"}) == '{"a":"ä","b":[1,{"y":true,"z":null}]}'


def test_digest_is_sha256() -> None:
    """Anybody can compute a digest from the canonical text with standard tools."""
    assert digest({"a": "ä"}) == hashlib.sha256('{"a":"ä"}'.encode()).hexdigest()


@given(FACTORS)
def test_order_is_no_factor(factors: dict[str, object]) -> None:
    """The order in which factors were gathered never changes the digest."""
    assert digest(dict(reversed(factors.items()))) == digest(factors)


@given(FACTORS, FACTORS)
def test_differences_agree_with_digest(left: dict[str, object], right: dict[str, object]) -> None:
    """Two keys have no differences exactly when they have the same digest, whichever is asked first."""
    assert (differences(left, right) == ()) == (digest(left) == digest(right))
    assert differences(left, right) == differences(right, left)


def test_differences_are_named_and_sorted() -> None:
    """Changed, missing and added factors are all named, in alphabetical order."""
    left = {"vllm": "0.19.1", "torch": "2.10.0", "same": [1], "gone": 1}
    right = {"vllm": "0.32.0", "torch": "2.13.0", "same": [1], "added": None}
    assert differences(left, right) == ("added", "gone", "torch", "vllm")


def test_types_are_values() -> None:
    """One, one point zero and true are three values, as in the digest."""
    assert differences({"a": 1, "b": 1}, {"a": 1.0, "b": True}) == ("a", "b")


def test_objects_are_refused() -> None:
    """An object that is not a JSON value is refused: its repr would change from run to run."""
    with pytest.raises(TypeError):
        canonical({"a": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})
