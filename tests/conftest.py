"""The whole suite runs on small arrays; TensorFlow's C++ log is not of interest here."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
