"""Keras as this package needs it, whatever ``~/.keras/keras.json`` says; imported for its effect.

Layers take axis order, type and smallest number from settings of the whole process, which a file of the user's changes.
``htsr`` itself asks for the backend, before Keras is imported.
"""

import keras

from htsr.errors import InputError

if keras.backend.backend() != "tensorflow":
    raise InputError(
        f"htsr computes with TensorFlow, but Keras was imported with the backend {keras.backend.backend()}; import htsr"
        " before keras, or set KERAS_BACKEND=tensorflow"
    )
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
