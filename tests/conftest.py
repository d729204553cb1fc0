"""The whole suite runs on small arrays; TensorFlow's C++ log is not of interest here."""

import os
import sys

import pytest

import htsr  # noqa: F401 (before TensorFlow, whose kernels it chooses)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session", autouse=True)
def video_cache(tmp_path_factory):
    """Decoded videos of the tests are kept apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTSR_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def forget_gradients():
    """TensorFlow registers gradients for good, and with them the graph they belong to (its issue 97697): some 100 MB
    for each model that is trained."""
    yield
    if "tensorflow" in sys.modules:
        registry = sys.modules["tensorflow.python.framework.ops"].gradient_registry._registry
        for name in [name for name in registry if name.startswith("CustomGradient-")]:
            del registry[name]


@pytest.fixture(scope="module", autouse=True)
def free_memory():
    """A model's graphs hold much memory in reference cycles, which Python would keep for long."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session(free_memory=True)


@pytest.fixture
def plain_graphs():
    """For tests of what is computed, not of its speed or last bits: graphs run as they are traced.

    Optimising them takes half of the time of a first step.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture
def tiny_stand_ins(monkeypatch, tmp_path):
    """Stand-ins for KTH and GQN-Mazes of a few videos, in a cache of their own: its folder."""
    from htsr.data import stand_ins
    from htsr.data.synthetic import actions

    monkeypatch.setenv("HTSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stand_ins, "MAZES", {"train": 2, "test": 1})
    monkeypatch.setattr(stand_ins, "PERSONS", (1, 20, 21))
    monkeypatch.setattr(stand_ins, "SCENARIOS", (1,))
    monkeypatch.setattr(actions, "ACTIONS", ("boxing", "walking"))
    stand_ins.generate.cache_clear()
    yield tmp_path / "cache"
    stand_ins.generate.cache_clear()
