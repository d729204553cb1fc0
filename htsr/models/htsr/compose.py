"""How a frame is composed: which of several pictures of it is to be believed, pixel by pixel."""

import keras
import tensorflow as tf

_HIDDEN = 16  # channels
_FIRST = 4.0  # logit of the first picture before training
_SHORT, _LONG = 4.0, 32.0  # frames in which what was seen grows old


@keras.saving.register_keras_serializable("htsr")
class Compositor(keras.layers.Layer):
    """Mixes pictures of a frame with weights of two convolutions, which see the pictures, how much each pixel changed
    in the observed frames, how far ahead the frame is, and how well the pictures' rules held there.

    It learns when to believe what, not what things look like: it holds for all horizons and contents.

    Call arguments:
        pictures: the last one ``(batch, time, height, width, channel)``; the others also with a time of 1.
        deviation: of the observed frames, ``(batch, height, width, channel)``.
        age: frames since the last observed one, 0 for observed ones, ``(batch, time)``.
        evidence: ``(batch, numbers)``.

    Returns:
        ``(batch, time, height, width, channel)``.
    """

    def __init__(self, num_pictures: int, num_evidence: int, **kwargs):
        super().__init__(**kwargs)
        self.num_pictures, self.num_evidence = num_pictures, num_evidence
        self.hidden = keras.layers.Conv2D(_HIDDEN, 3, padding="same", name="hidden", dtype="float32")
        self.known = keras.layers.Dense(_HIDDEN, use_bias=False, name="known", dtype="float32")
        self.weights_of = keras.layers.Conv2D(
            num_pictures, 3, padding="same", kernel_initializer="zeros", name="weights", dtype="float32"
        )

    def build(self, input_shape=None):
        self.hidden.build((None, None, None, self.num_pictures + 2))
        self.known.build((None, self.num_evidence + 3))
        self.weights_of.build((None, None, None, _HIDDEN))
        self.built = True

    def call(self, pictures, deviation, age, evidence):
        shares = self.shares(pictures, deviation, age, evidence)
        return tf.add_n([share * picture for share, picture in zip(shares, pictures, strict=True)])

    def shares(self, pictures, deviation, age, evidence) -> list[tf.Tensor]:
        """How much of each picture is shown, ``(batch, time, height, width, 1)``."""
        shape = tf.shape(pictures[-1])
        whole = tf.concat([shape[:-1], [1]], 0)
        grey = (tf.reduce_mean(picture, -1, keepdims=True) for picture in (*pictures, deviation[:, None]))
        *grey, deviation = (tf.broadcast_to(picture, whole) for picture in grey)
        shown = tf.concat(grey, -1)
        usual = tf.reduce_mean(shown, -1, keepdims=True)
        shown = tf.concat([5.0 * (shown - usual), usual - 0.5, 5.0 * deviation], -1)
        times = tf.stack([tf.exp(-age / _SHORT), tf.exp(-age / _LONG), tf.cast(age > 0, tf.float32)], -1)
        evidence = tf.repeat(evidence[:, None], shape[1], 1)
        known = self.known(tf.concat([times, evidence], -1))
        x = self.hidden(tf.reshape(shown, [-1, *pictures[-1].shape[2:4], self.num_pictures + 2]))
        x = tf.nn.relu(x + tf.reshape(known, [-1, 1, 1, _HIDDEN]))
        logits = 4.0 * self.weights_of(x) + _FIRST * tf.one_hot(0, self.num_pictures)
        shares = tf.nn.softmax(tf.reshape(logits, tf.concat([shape[:-1], [self.num_pictures]], 0)))
        return tf.split(shares, self.num_pictures, -1)

    def get_config(self):
        return {**super().get_config(), "num_pictures": self.num_pictures, "num_evidence": self.num_evidence}
