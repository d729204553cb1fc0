"""Properties that hold for every input, with hypothesis where it is installed (``pip install htsr[test]``)."""

import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from htsr.config import SECTIONS, read_config, read_overrides
from htsr.data.video.files import shown
from htsr.data.video.order import Doubtful, in_order
from htsr.errors import InputError
from htsr.published.readers.safetensors_file import read_safetensors
from htsr.runs import checkpoints
from htsr.serving.limits import Refusal
from htsr.serving.query import read_query

quickly = settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def one_line(error: Exception) -> None:
    assert str(error)
    assert "\n" not in str(error)


@quickly
@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from([*SECTIONS, "x"]), values))
def test_a_config_has_its_sections_or_is_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yml"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode("utf-8", "replace"))
        try:
            assert list(read_config(path)) == list(SECTIONS)
        except InputError as error:
            one_line(error)


@quickly
@given(st.text(max_size=30) | st.text(max_size=20).map(lambda text: f"train.steps={text}"))
def test_an_override_is_one_value_or_refused(text):
    try:
        assert sum(map(len, read_overrides([text]).values())) == 1
    except InputError as error:
        one_line(error)


@quickly
@given(st.lists(st.tuples(st.sampled_from(["horizon", "format", "x"]), st.text(max_size=25)), max_size=3))
def test_numbers_of_a_query_lie_in_their_bounds(items):
    try:
        found = read_query(items, {"horizon": (1, 100, 5)}, {"format": (("mp4", "npz"), "mp4")})
    except Refusal as error:
        one_line(error)
        return
    assert 1 <= found["horizon"] <= 100
    assert found["format"] in ("mp4", "npz")


@quickly
@given(st.sets(st.text("ab01239._-²", min_size=1, max_size=6), min_size=1, max_size=6), st.randoms())
def test_the_order_of_pictures_is_that_of_their_names_alone(stems, draw):
    names = sorted(f"{stem}.png" for stem in stems)
    mixed = draw.sample(names, len(names))
    found = []
    for given_names in (names, mixed):
        try:
            found.append(in_order(given_names).names)
        except Doubtful:
            found.append(None)
    assert found[0] == found[1]
    assert found[0] is None or sorted(found[0]) == names


@quickly
@given(st.text())
def test_shown_names_are_one_printable_line(name):
    assert shown(name).isprintable()


@quickly
@given(st.dictionaries(st.text(max_size=5), values, max_size=3), st.binary(max_size=64))
def test_headers_of_safetensors(header, content):
    raw = json.dumps(header).encode("utf-8", "replace")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + content)
        try:
            for tensor in read_safetensors(path).values():
                assert tensor.read().nbytes <= 2 * len(content)
        except InputError as error:
            one_line(error)


@settings(quickly, max_examples=8)
@given(
    st.dictionaries(
        st.text("abc/", min_size=1, max_size=5).map("model/x{}".format),
        arrays.arrays(st.sampled_from([np.float32, np.float64, np.int64]), arrays.array_shapes(max_side=3)),
        max_size=3,
    )
)
def test_a_checkpoint_gives_back_the_bits(found):
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(folder, 1, found)
        _, again, _ = checkpoints.load(folder)
    assert {name: array.tobytes() for name, array in again.items()} == {k: v.tobytes() for k, v in found.items()}
