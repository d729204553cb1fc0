"""Layers that several models share."""

import htsr.keras_settings  # noqa: F401
