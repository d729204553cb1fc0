"""The recurrent state-space cell of HTSR and Clockwork VAE: one level, one tick.

Sources: Hafner et al., "Learning latent dynamics for planning from pixels" (arXiv 1811.04551); Saxena et al.,
"Clockwork variational autoencoders" (arXiv 2102.09532); the published HTSR code for the residual parts.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.errors import InputError

POSTERIORS = ("residual", "residual_scaled", "independent")

# Added to every component of the input of a stddev layer, in the published code of both models.
_STDDEV_SHIFT = 0.54

_MOST = 8.0  # of the logarithm of a scaled posterior's share of the prior's stddev: the KL stays finite


class State(NamedTuple):
    """What a level carries from tick to tick, ``stoch (batch, stoch)`` and ``deter (batch, deter)``."""

    stoch: tf.Tensor
    deter: tf.Tensor

    @property
    def output(self) -> tf.Tensor:
        """What the level hands down: ``(..., stoch + deter)``."""
        return tf.concat(self, -1)


class Normal(NamedTuple):
    """Mean and standard deviation of independent normals, ``(..., stoch)``."""

    mean: tf.Tensor
    stddev: tf.Tensor


class Weights(NamedTuple):
    """The cell's weights as one tick uses them: split where inputs arrive at different times, else joined."""

    stoch_in: tf.Tensor  # (stoch, units)
    gru: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]  # input kernel and bias, recurrent kernel and bias
    prior_hidden: tuple[tf.Tensor, tf.Tensor]  # (deter, units): first layer of the prior
    deter_out: tf.Tensor  # (deter, 2 units): first layers of the prior and of the posterior heads
    hidden: tuple[tf.Tensor, tf.Tensor]  # second layer of the posterior
    prior: tuple[tf.Tensor, tf.Tensor]  # (units, 2 stoch): mean and stddev layers
    posterior: tuple[tf.Tensor, tf.Tensor]


class RSSMCell(keras.layers.Layer):
    r"""One tick: a GRU over the previous sample and the level above, then prior and posterior of the next sample.

    .. math::
        \tilde c = relu(W_c c + b_c) + 0.1 c,\quad x = relu(W_1 [z; \tilde c] + b_1),\quad h' = GRU(x, h)
        k = relu(W_2 h' + b_2),\quad \mu_p = W_\mu k + b_\mu,\quad s_p = softplus(W_s (k + 0.54) + b_s) + s_{min}
        a = relu(V_2\, relu(V_1 [h'; e] + d_1) + d_2),\quad \delta = V_\mu a + d_\mu,\quad \sigma = V_s (a + 0.54) + d_s

    and the posterior is, by ``posterior``:

    - ``residual`` (HTSR): mean ``mu_p + delta``, stddev ``s_p + softplus(sigma)``: never sharper than the prior;
    - ``residual_scaled``: mean ``mu_p + delta``, stddev ``s_p * exp(sigma)``, sigma within +-8: sharper where the
      frame says more;
    - ``independent`` (Clockwork VAE): mean ``delta``, stddev ``softplus(sigma) + s_min``.

    What depends on the level above or on the frame alone is computed for all ticks at once, by ``project_top_down``
    and ``project_embed``, before the recurrence. The cell always computes in float32, which is faster than bfloat16
    for its small products.

    Args:
        stoch, deter, units: sizes of the sample, of the GRU state and of the hidden layers.
        posterior: one of ``POSTERIORS``.
        top_down_residual: the layer ``W_c`` with its skip (HTSR); otherwise ``c`` is used as it is.
        min_stddev: floor of the standard deviations.
    """

    def __init__(
        self,
        stoch: int,
        deter: int,
        units: int,
        posterior: str = "residual",
        top_down_residual: bool = True,
        min_stddev: float = 1e-4,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if posterior not in POSTERIORS:
            raise InputError(f"posterior must be one of {', '.join(POSTERIORS)}, received {posterior!r}")
        self.stoch, self.deter, self.units = stoch, deter, units
        self.posterior, self.top_down_residual, self.min_stddev = posterior, top_down_residual, min_stddev

        def dense(size: int, name: str) -> keras.layers.Dense:
            return keras.layers.Dense(size, name=name, dtype="float32")

        self.top_down_layer = dense(stoch + deter, "top_down") if top_down_residual else None
        self.prior_in, self.prior_hidden = dense(units, "prior_in"), dense(units, "prior_hidden")
        self.prior_mean, self.prior_stddev = dense(stoch, "prior_mean"), dense(stoch, "prior_stddev")
        self.post_in, self.post_hidden = dense(units, "post_in"), dense(units, "post_hidden")
        self.post_mean, self.post_stddev = dense(stoch, "post_mean"), dense(stoch, "post_stddev")

    def build(self, top_down_shape, embed_shape):
        if self.top_down_layer is not None:
            self.top_down_layer.build((None, self.stoch + self.deter))
        self.prior_in.build((None, 2 * self.stoch + self.deter))
        # A Keras GRUCell's weights (update, reset, new; reset after the product) without its dropout seeds.
        self.gru_kernel = self.add_weight(name="gru_kernel", shape=(self.units, 3 * self.deter))
        self.gru_recurrent_kernel = self.add_weight(
            name="gru_recurrent_kernel", shape=(self.deter, 3 * self.deter), initializer="orthogonal"
        )
        self.gru_bias = self.add_weight(name="gru_bias", shape=(2, 3 * self.deter), initializer="zeros")
        self.prior_hidden.build((None, self.deter))
        self.post_in.build((None, self.deter + embed_shape[-1]))
        for layer in (self.prior_mean, self.prior_stddev, self.post_hidden, self.post_mean, self.post_stddev):
            layer.build((None, self.units))

    def initial_state(self, batch) -> State:
        return State(tf.zeros([batch, self.stoch]), tf.zeros([batch, self.deter]))

    def weights_now(self) -> Weights:
        """The variables' present values, split and joined once for a whole recurrence."""
        gru_bias = tf.convert_to_tensor(self.gru_bias)
        posterior_shift = 0.0 if self.posterior == "residual_scaled" else _STDDEV_SHIFT
        return Weights(
            stoch_in=tf.convert_to_tensor(self.prior_in.kernel)[: self.stoch],
            gru=(
                tf.convert_to_tensor(self.gru_kernel),
                gru_bias[0],
                tf.convert_to_tensor(self.gru_recurrent_kernel),
                gru_bias[1],
            ),
            prior_hidden=(tf.convert_to_tensor(self.prior_hidden.kernel), tf.convert_to_tensor(self.prior_hidden.bias)),
            deter_out=tf.concat([self.prior_hidden.kernel, tf.convert_to_tensor(self.post_in.kernel)[: self.deter]], 1),
            hidden=(tf.convert_to_tensor(self.post_hidden.kernel), tf.convert_to_tensor(self.post_hidden.bias)),
            prior=_joined(self.prior_mean, self.prior_stddev, _STDDEV_SHIFT),
            posterior=_joined(self.post_mean, self.post_stddev, posterior_shift),
        )

    def project_top_down(self, top_down: tf.Tensor) -> tf.Tensor:
        """The part of a tick's input that comes from the level above: ``(..., stoch + deter)`` to ``(..., units)``."""
        c = top_down
        if self.top_down_layer is not None:
            c = tf.nn.relu(self.top_down_layer(c)) + 0.1 * c
        kernel = tf.convert_to_tensor(self.prior_in.kernel)[self.stoch :]
        return tf.tensordot(c, kernel, 1) + self.prior_in.bias

    def project_embed(self, embed: tf.Tensor) -> tf.Tensor:
        """What the heads' first layers add to the GRU state's part: ``(..., embed)`` to ``(..., 2 units)``."""
        kernel = tf.convert_to_tensor(self.post_in.kernel)[self.deter :]
        from_embed = tf.tensordot(embed, kernel, 1) + self.post_in.bias
        return tf.concat([tf.zeros_like(from_embed) + self.prior_hidden.bias, from_embed], -1)

    def observe(self, w: Weights, state: State, top_down, embed, noise) -> tuple[State, Normal, Normal]:
        """One tick with a frame.

        Args:
            w: ``weights_now()``.
            state: the level's state before the tick.
            top_down, embed: projected, ``(batch, units)`` and ``(batch, 2 units)``.
            noise: standard normal ``(batch, stoch)``; zeros give the mean.

        Returns:
            The state with the posterior's sample, the prior and the posterior.
        """
        deter = self._recur(w, state, top_down)
        k, a = tf.split(tf.nn.relu(tf.matmul(deter, w.deter_out) + embed), 2, -1)
        prior = self._prior(w, k)
        a = tf.nn.relu(_affine(a, w.hidden))
        mean, stddev = tf.split(_affine(a, w.posterior), 2, -1)
        if self.posterior == "residual":
            posterior = Normal(prior.mean + mean, prior.stddev + tf.nn.softplus(stddev))
        elif self.posterior == "residual_scaled":
            posterior = Normal(prior.mean + mean, prior.stddev * tf.exp(tf.clip_by_value(stddev, -_MOST, _MOST)))
        else:
            posterior = Normal(mean, tf.nn.softplus(stddev) + self.min_stddev)
        return State(posterior.mean + posterior.stddev * noise, deter), prior, posterior

    def imagine(self, w: Weights, state: State, top_down, noise) -> State:
        """One tick without a frame: the state with the prior's sample. Arguments as in ``observe``."""
        deter = self._recur(w, state, top_down)
        prior = self._prior(w, tf.nn.relu(_affine(deter, w.prior_hidden)))
        return State(prior.mean + prior.stddev * noise, deter)

    def _recur(self, w: Weights, state: State, top_down: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.matmul(state.stoch, w.stoch_in) + top_down)
        kernel, bias, recurrent_kernel, recurrent_bias = w.gru
        x_update, x_reset, x_new = tf.split(_affine(x, (kernel, bias)), 3, -1)
        h_update, h_reset, h_new = tf.split(_affine(state.deter, (recurrent_kernel, recurrent_bias)), 3, -1)
        update = tf.sigmoid(x_update + h_update)
        new = tf.tanh(x_new + tf.sigmoid(x_reset + h_reset) * h_new)
        return update * state.deter + (1.0 - update) * new

    def _prior(self, w: Weights, k: tf.Tensor) -> Normal:
        mean, stddev = tf.split(_affine(k, w.prior), 2, -1)
        return Normal(mean, tf.nn.softplus(stddev) + self.min_stddev)


def _affine(x: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(x, weights[0]), weights[1])


def _joined(mean: keras.layers.Dense, stddev: keras.layers.Dense, shift: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Two layers side by side; ``W (k + shift) + b`` is ``W k + (b + shift * column sums of W)``."""
    kernel = tf.convert_to_tensor(stddev.kernel)
    bias = stddev.bias + shift * tf.reduce_sum(kernel, 0)
    return tf.concat([mean.kernel, kernel], 1), tf.concat([mean.bias, bias], 0)
