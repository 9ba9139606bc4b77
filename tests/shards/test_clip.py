"""Metadata and arrays in shards come from outside: whatever is in them is read right or refused
with a sentence.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.shards.clip import ClipMeta, array_from_bytes, array_to_bytes
from tests.support.fuzz import inputs, patience

GOOD = ClipMeta(
    "a.mp4", "someone", "CC0", 25.0, 1.5, 75, "yunet", "anchors7", {"sharpness": 0.1}, (1, 12)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=10,
)


def test_what_is_written_is_read() -> None:
    assert ClipMeta.from_bytes(GOOD.to_bytes()) == GOOD


def test_fields_of_other_builders_are_passed_over() -> None:
    assert (
        ClipMeta.from_bytes(json.dumps(json.loads(GOOD.to_bytes()) | {"their": "own"}).encode())
        == GOOD
    )


@patience
@settings(deadline=None, max_examples=inputs(100))
@given(name=st.sampled_from([*json.loads(GOOD.to_bytes())]), value=JSON)
def test_any_value_in_any_field_is_read_or_refused(name: str, value: object) -> None:
    data = json.dumps(json.loads(GOOD.to_bytes()) | {name: value}).encode()
    try:
        meta = ClipMeta.from_bytes(data)
    except ValueError:
        return
    assert ClipMeta.from_bytes(meta.to_bytes()) == meta


@patience
@settings(deadline=None, max_examples=inputs(100))
@given(data=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="clip metadata"):
        ClipMeta.from_bytes(data)


@pytest.mark.parametrize("missing", [*json.loads(GOOD.to_bytes())][:8])
def test_a_missing_field_is_named(missing: str) -> None:
    values = json.loads(GOOD.to_bytes())
    del values[missing]
    with pytest.raises(ValueError, match=missing):
        ClipMeta.from_bytes(json.dumps(values).encode())


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), True, "1"])
@pytest.mark.parametrize("name", ["fps", "start_second", "frames", "quality"])
def test_numbers_that_are_none_are_refused(name: str, value: object) -> None:
    data = json.dumps(
        json.loads(GOOD.to_bytes()) | {name: {"x": value} if name == "quality" else value}
    ).encode()
    with pytest.raises(ValueError, match=name):
        ClipMeta.from_bytes(data)


def test_deep_nesting_does_not_overflow_the_stack() -> None:
    with pytest.raises(ValueError, match="clip metadata"):
        ClipMeta.from_bytes(b"[" * 100_000)


@patience
@settings(deadline=None, max_examples=inputs(100))
@given(change=st.integers(0, 127), value=st.integers(0, 255))
def test_a_changed_array_header_is_refused_or_harmless(change: int, value: int) -> None:
    data = bytearray(array_to_bytes(np.arange(12, dtype=np.int8).reshape(3, 4)))
    data[change] = value
    try:
        array = array_from_bytes(bytes(data), np.int8, (None, 4))
    except ValueError:
        return
    assert array.shape == (3, 4)
