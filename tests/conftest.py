"""The whole suite runs on small arrays; TensorFlow's C++ log is not of interest here."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session", autouse=True)
def video_cache(tmp_path_factory):
    """Decoded videos of the tests are kept apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTSR_CACHE", str(folder))
        yield folder
