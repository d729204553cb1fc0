"""Warnings while a model trains: each once, with what to do."""

import time

import pytest
import tensorflow as tf

from htsr.training.watch import Watch


@pytest.fixture
def said():
    return []


def test_a_healthy_training_says_nothing(said):
    watch = Watch(said.append)
    for step in range(300):
        watch.step(step, {"loss": 1.0, "kl_0": 0.4, "kl_1": 0.01, "grad_norm": 3.0 + step % 7})
    assert said == []


def test_a_collapsed_level(said):
    watch = Watch(said.append)
    for step in range(60):
        watch.step(step, {"kl_0": 0.4, "kl_1": 1e-4 if step > 10 else 0.1, "kl_posterior_1": 0.0})
    assert len(said) == 1
    assert "step 30: level 1 has collapsed, its KL is 0.0001 nats a frame: lower model.beta" in said[0]


def test_a_gradient_that_explodes(said):
    watch = Watch(said.append)
    for step in range(110):
        watch.step(step, {"grad_norm": 5000.0 if step in (50, 105, 106) else 2.0})
    assert len(said) == 1
    assert "step 105: the gradient's norm is 5e+03, usually 2: lower train.clip_norm" in said[0]


def test_reading_that_is_slower_than_training(said, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def stream(seconds):
        for _ in range(150):
            now[0] += seconds
            yield tf.constant([255], tf.uint8)

    for seconds in (1.0, 10.0):  # a step takes one
        for _ in Watch(said.append).batches(stream(seconds)):
            now[0] += 1.0
    assert len(said) == 1
    assert "reading takes 91 % of the time: htsr prepare decodes videos once" in said[0]


def test_data_that_is_nearly_black(said):
    for batch in (tf.constant([3, 7], tf.uint8), tf.constant([0.0, 1.0]), tf.constant([0.0, 0.01])):
        list(Watch(said.append).batches([batch]))
    assert [line.split(":")[1] for line in said] == [
        f" the first batch is nearly black, its brightest value is {value} of 255" for value in (7, 3)
    ]
