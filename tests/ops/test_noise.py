import numpy as np
import pytest
import tensorflow as tf

from htsr.ops import noise

# Known answers of Threefry-2x32-20 from the Random123 distribution (Salmon et al. 2011).
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "expected"), KNOWN)
def test_threefry_known_answers(key, counter, expected):
    assert tuple(int(x) for x in noise.threefry(key, counter)) == expected


def test_normal_is_standard_normal():
    x = noise.normal(7, tf.range(40), tf.range(50), 21).numpy()
    assert x.shape == (40, 50, 21)
    n = x.size
    assert abs(x.mean()) < 4 / np.sqrt(n)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / n)
    for axis in range(3):  # neighbours are uncorrelated
        a, b = np.take(x, range(x.shape[axis] - 1), axis), np.take(x, range(1, x.shape[axis]), axis)
        assert abs((a * b).mean()) < 4 / np.sqrt(n)


def test_normal_depends_on_indices_alone():
    whole = noise.normal(3, tf.range(6), tf.range(10), 5)
    part = noise.normal(3, [4, 2], [7, 8, 9], 5)
    # The bits are equal; a logarithm or cosine may differ in its last place with the place in a vector register.
    np.testing.assert_allclose(part, whole.numpy()[[4, 2], 7:], rtol=0, atol=1e-6)
    per_row = noise.normal([3, 9], [4, 2], [7], 5)
    np.testing.assert_allclose(per_row[0], part[0, :1], rtol=0, atol=1e-6)
    assert np.abs(per_row[1] - part[1, :1]).max() > 0.1
    assert np.abs(noise.normal(4, [4], [7], 5) - part[:1, :1]).max() > 0.1


@pytest.mark.parametrize("jit", [False, True])
def test_same_numbers_in_graph_and_under_xla(jit):
    draw = tf.function(lambda seed: noise.normal(noise.fold(seed, 2), tf.range(3), tf.range(4), 6), jit_compile=jit)
    np.testing.assert_allclose(
        draw(tf.constant(5)), noise.normal(noise.fold(5, 2), tf.range(3), tf.range(4), 6), rtol=0, atol=2e-6
    )


def test_folded_seeds_differ():
    seeds = noise.fold(tf.range(100)[:, None], tf.range(100))
    assert len(np.unique(seeds)) > 9_980  # of 10,000 draws from 2**32 about 0.01 coincide
