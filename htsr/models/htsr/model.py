"""HTSR, and Clockwork VAE as HTSR without its residual parts.

A hierarchy of recurrent state-space models in which level ``l`` ticks every ``temporal_factor ** l`` frames (Saxena et
al., "Clockwork variational autoencoders", arXiv 2102.09532), with residual frame encoder and decoder cells, residual
level features, residual top-down input and a residual posterior (the published HTSR code).
"""

import math

import keras
import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.metrics.lpips import shared_network
from htsr.models.htsr.frames import FrameDecoder, FrameEncoder, feature_size
from htsr.models.htsr.hierarchy import Hierarchy, RolloutState, last_states
from htsr.models.htsr.rssm import Normal, RSSMCell
from htsr.models.htsr.scene import Latest, SceneLayer
from htsr.ops import noise as noise_lib
from htsr.ops.likelihoods import calibrated_nll, gaussian_kl, gaussian_nll


class HTSR(Hierarchy):
    r"""Hierarchical temporal-spatial residual model.

    Minimises, per clip of T frames, :math:`(-\ln N(x \mid \hat x, s^2) + \sum_l \beta_l KL(q_l \| p_l)) / T` in nats
    per frame. Any clip length; a rollout takes any context of at least one frame: a level uses its posterior for
    windows of ``temporal_factor ** l`` frames that are complete and its prior in an open one.

    Args:
        frame_shape: height, width, channels: 64x64 or 128x128, 1 or 3 channels.
        levels: number of levels; 1 is a plain recurrent state-space model.
        temporal_factor: ticks of a level per tick of the level above.
        stoch, deter, units: sizes of samples, GRU states and hidden layers of every level.
        dense_layers, dense_units: the dense stack between one level's features and the next one's.
        channels_mult: scales the filters of frame encoder and decoder.
        frame_stddev: standard deviation of the frame likelihood.
        calibrated: every frame's likelihood has the variance that fits its error best, plus ``frame_stddev ** 2``; what
            is minimised is then what PSNR measures, and a frame that cannot be predicted does not drown the others.
        min_stddev: floor of the latent standard deviations.
        encoder_residual, decoder_residual: the residual cells of frame encoder and decoder.
        dense_residual: level features plus 0.1 times those of the level below.
        top_down_residual: the residual layer on what comes from the level above.
        posterior: ``residual``, ``residual_scaled`` or ``independent``, see ``RSSMCell``. Clockwork VAE is
            ``independent`` with the four switches above off.
        beta: weight of the KL, one for all levels or one per level, fastest first.
        free_nats: nats per clip and level that cost nothing.
        kl_balance: share p of the KL that trains the posterior: the term becomes
            ``(1 - p) KL(sg(q) || p) + max(1 nat, p KL(q || sg(p)))``; None trains both with the plain KL.
            Deviation: in the published code the second part has no gradient at all.
        imagine_from: None trains as published, on posteriors of the whole clip. A number n uses posteriors in the
            first n frames only (the KL is per such frame then) and adds the term ``nll_imagined``: from the posterior's
            last sample, prior means are rolled out to the end of the clip, as ``noise="mean"`` does in use, and their
            likelihood is maximised too, in nats per imagined frame. Means, since samples of what the prior cannot
            predict yet would teach the decoder to ignore it. The k-th imagined frame has a weight of 1 / sqrt(k) in
            the mean: what is wrong early stays wrong. A multiple of ``temporal_factor ** (levels - 1)``.
        imagine_warmup_steps: training steps over which the weight of ``nll_imagined`` in the loss rises linearly from
            0 to 1.
        still: draw frames over the median of the observed ones, see ``SceneLayer``.
        layers: things that move over it, registered in the observed frames; with one or more, ``still`` is implied.
        walls: things of ``layers`` turn round where walls are learnt to be; else they leave the frame.
        camera: it pans and zooms; the last frame is carried on as it moves. Implies ``still``.
        flow: what covers the background goes on, every pixel as it moved, see ``htsr.models.htsr.flow``.
            Implies ``still``.
            All four need ``imagine_from``: it is also how many of the latest frames are registered.
        perceptual: weight of LPIPS in the loss, beside the likelihood. With squared errors alone a frame that is not
            known is best a blur; this makes it more like a frame. The terms ``lpips`` and ``lpips_imagined`` count
            LPIPS once for every number in a frame, so that 1 weighs 0.1 LPIPS like 0.9 dB of PSNR (``calibrated``).
        decoded_frames: None decodes every frame of a training clip. A number decodes as many, drawn at random for
            each clip and step (and as many imagined ones): the same loss on average, at a fraction of its cost.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        levels: int = 3,
        temporal_factor: int = 6,
        stoch: int = 20,
        deter: int = 200,
        units: int = 200,
        dense_layers: int = 3,
        dense_units: int = 1000,
        channels_mult: float = 1.0,
        frame_stddev: float = 1.0,
        calibrated: bool = False,
        min_stddev: float = 1e-4,
        encoder_residual: bool = True,
        decoder_residual: bool = True,
        dense_residual: bool = True,
        top_down_residual: bool = True,
        posterior: str = "residual",
        beta: float | list[float] = 1.0,
        free_nats: float = 0.0,
        kl_balance: float | None = None,
        imagine_from: int | None = None,
        imagine_warmup_steps: int = 0,
        decoded_frames: int | None = None,
        perceptual: float = 0.0,
        still: bool = False,
        layers: int = 0,
        walls: bool = True,
        camera: bool = False,
        flow: bool = False,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype=dtype, name="htsr")
        sizes = {"levels": levels, "temporal_factor": temporal_factor, "stoch": stoch, "deter": deter, "units": units}
        for name, value in {**sizes, "dense_units": dense_units}.items():
            require_int(name, value, 1)
        if frame_shape[-1] not in (1, 3):
            raise InputError(f"HTSR needs frames of 1 or 3 channels, received {frame_shape[-1]}")
        if frame_shape[0] != frame_shape[1]:
            raise InputError(f"HTSR needs square frames, received {frame_shape[0]}x{frame_shape[1]}; crop or letterbox")
        self.levels, self.temporal_factor, self.stoch = levels, temporal_factor, stoch
        self.frame_stddev, self.calibrated = frame_stddev, calibrated
        self.free_nats, self.kl_balance = free_nats, kl_balance
        self.beta = _per_level(beta, levels)
        self.periods = tuple(temporal_factor**level for level in range(levels))  # frames of a tick
        self.dense_residual = dense_residual
        self.imagine_from, self.imagine_warmup_steps = imagine_from, imagine_warmup_steps
        self.decoded_frames, self.perceptual = decoded_frames, perceptual
        if dense_layers < 0 or not min_stddev >= 0 or not free_nats >= 0 or not perceptual >= 0:
            raise InputError(
                f"dense_layers, min_stddev, free_nats and perceptual must be at least 0, received {dense_layers}, "
                f"{min_stddev}, {free_nats} and {perceptual}"
            )
        if not frame_stddev > 0:
            raise InputError(f"frame_stddev must be above 0, received {frame_stddev}; the published value is 1.0")
        slowest = self.periods[-1]
        if imagine_from is not None and (imagine_from < 1 or imagine_from % slowest):
            raise InputError(f"imagine_from must be a multiple of {slowest}, received {imagine_from}")
        require_int("imagine_warmup_steps", imagine_warmup_steps, 0)
        if imagine_warmup_steps and imagine_from is None:
            raise InputError(
                f"imagine_warmup_steps is {imagine_warmup_steps}, but imagine_from is not set; set both or neither"
            )
        if decoded_frames is not None:
            require_int("decoded_frames", decoded_frames, 1)
        if kl_balance is not None and not 0 <= kl_balance <= 1:
            raise InputError(f"kl_balance must lie in 0..1, received {kl_balance}")

        require_int("layers", layers, 0)
        if not walls and not layers:
            raise InputError("walls=false is about the things of layers, but layers is 0; set layers, or walls=true")
        registers = still or layers or camera or flow
        if registers and imagine_from is None:
            raise InputError(
                "still, layers, camera and flow need imagine_from, the number of frames that are registered; set it"
            )
        self.scene = SceneLayer(layers, walls, camera, flow, name="scene") if registers else None
        self.registered = imagine_from

        policy, size = self.dtype_policy, frame_shape[0]
        self.encoder = FrameEncoder(size, channels_mult, encoder_residual, name="encoder", dtype=policy)
        self.decoder = FrameDecoder(
            size, frame_shape[-1], channels_mult, decoder_residual, name="decoder", dtype=policy
        )
        self.features = feature_size(size, channels_mult)
        sizes = [dense_units] * (dense_layers - 1) + [self.features] * (dense_layers > 0)
        self.stacks = [
            [
                keras.layers.Dense(n, "relu" if i < len(sizes) else None, name=f"level{level}_dense{i}", dtype=policy)
                for i, n in enumerate(sizes, 1)
            ]
            for level in range(1, levels)
        ]
        self.cells = [
            RSSMCell(stoch, deter, units, posterior, top_down_residual, min_stddev, name=f"cell{level}")
            for level in range(levels)
        ]

    def build(self, input_shape=None):
        self.encoder.build((None, *self.frame_shape))
        for stack in self.stacks:
            size = self.features
            for layer in stack:
                layer.build((None, size))
                size = layer.units
        for cell in self.cells:
            cell.build(None, (None, self.features))
        self.decoder.build((None, self.stoch + self.cells[0].deter))
        if self.scene is not None:
            self.scene.build(self.frame_shape)
        self.built = True

    # ---- training

    def loss_terms(self, clip, seed, step=None):
        """Terms in nats per frame: ``nll``, ``kl_0`` ...; with ``imagine_from`` also ``nll_imagined``; with a scene
        ``nll_generated``, both of what the levels alone say, and with things ``nll_place``; with ``perceptual``
        ``lpips`` and ``lpips_imagined``; with ``kl_balance``
        ``kl_posterior_0`` ..., the same values with gradients to the posterior only."""
        num_frames = self._observed(clip.shape[1])
        observed, unseen = clip[:, :num_frames], clip[:, num_frames:]
        seeds = noise_lib.fold(seed, noise_lib.rows(tf.shape(clip)[0]))
        steps = self.observe(self.encode(observed), seeds, tf.constant(True))
        scene, pose, place_nll = (), (), None
        if self.scene is not None:
            scene, pose, place_nll = self.scene.register(Latest.of(observed, num_frames))
        parts = [("nll", observed, (steps[0].states.output, pose), np.ones(num_frames))]
        if self.imagine_from is not None:
            state = RolloutState(last_states(steps), tf.constant(num_frames), seeds, tf.constant(False))
            length = unseen.shape[1]
            imagined = tf.ensure_shape(self.imagine(state, tf.constant(length))[1], [None, length, None])
            if self.scene is not None:
                pose = self.scene.go_on(scene, length)[1]
            parts.append(("nll_imagined", unseen, (imagined, pose), np.arange(1, length + 1) ** -0.5))
        start = noise_lib.uniform(noise_lib.fold(seeds, self.levels))
        chosen = ((name, *self._few(*part, start)) for name, *part in parts)
        names, truth, drawn, weights = zip(*chosen, strict=True)
        outputs, pose = tf.nest.map_structure(lambda *x: tf.concat(x, 1), *drawn)
        likelihood = calibrated_nll if self.calibrated else gaussian_nll
        truth, generated = tf.concat(truth, 1), self.generate(outputs)
        drawn = generated if self.scene is None else self.scene.draw(scene, pose, generated)

        def per_part(values):
            parts = tf.split(values, [len(w) for w in weights], 1)
            return [tf.linalg.matvec(part, w) for part, w in zip(parts, weights, strict=True)]

        terms = dict(zip(names, per_part(likelihood(truth, drawn, self.frame_stddev)), strict=True))
        if self.scene is not None:
            terms["nll_generated"] = tf.add_n(per_part(likelihood(truth, generated, self.frame_stddev)))
        if self.perceptual:
            parts = per_part(_lpips(truth, drawn))
            terms |= {name.replace("nll", "lpips"): part for name, part in zip(names, parts, strict=True)}
        if self.scene is not None and self.scene.num_things:
            terms["nll_place"] = place_nll
        for level, (p, q, _) in enumerate(steps):
            if self.kl_balance is None:
                terms[f"kl_{level}"] = _clip_kl(q, p) / num_frames
            else:
                terms[f"kl_{level}"] = _clip_kl(_stopped(q), p) / num_frames
                terms[f"kl_posterior_{level}"] = _clip_kl(q, _stopped(p)) / num_frames
        return terms

    def _few(self, clip, drawn, weights, start):
        """The frames whose likelihood is computed, the nest of what they are drawn from, and the weight of each in the
        mean: all, or as many by systematic sampling, evenly spaced in cumulative weight from ``start`` (clip,)."""
        num_frames, count = clip.shape[1], self.decoded_frames
        weights = (weights / weights.sum()).astype(np.float32)
        if count is None or count >= num_frames:
            return clip, drawn, weights
        points = (start[:, None] + tf.range(count, dtype=tf.float32)) / count
        chosen = tf.searchsorted(np.cumsum(weights)[:-1], tf.reshape(points, [-1]), "right")
        chosen = tf.reshape(chosen, [-1, count])
        few = tf.nest.map_structure(lambda x: tf.gather(x, chosen, batch_dims=1), (clip, drawn))
        return (*few, np.full(count, 1 / count, np.float32))

    def _observed(self, num_frames: int) -> int:
        """How many frames of a training clip have posteriors."""
        if self.imagine_from is None:
            return num_frames
        if self.imagine_from >= num_frames:
            raise InputError(
                f"imagine_from is {self.imagine_from}, but clips have {num_frames} frames; set data.seq_len above it"
            )
        return self.imagine_from

    def total_loss(self, terms, num_frames, step=None):
        num_frames = self._observed(num_frames)
        loss = terms["nll"] + self.perceptual * terms.get("lpips", 0.0)
        loss += terms.get("nll_place", 0.0) + terms.get("nll_generated", 0.0)
        if self.imagine_from is not None:
            imagined = terms["nll_imagined"] + self.perceptual * terms.get("lpips_imagined", 0.0)
            loss += self._imagined_weight(step) * imagined
        for level, beta in enumerate(self.beta):
            kl = terms[f"kl_{level}"]
            if self.kl_balance is not None:
                kept = tf.maximum(1.0 / num_frames, self.kl_balance * terms[f"kl_posterior_{level}"])
                kl = (1.0 - self.kl_balance) * kl + kept
            if self.free_nats:
                kl = tf.maximum(0.0, kl - self.free_nats / num_frames)
            loss += beta * kl
        return loss

    def _imagined_weight(self, step):
        if step is None or not self.imagine_warmup_steps:
            return 1.0
        return tf.minimum(1.0, tf.cast(step, tf.float32) / self.imagine_warmup_steps)


def _lpips(truth, frames) -> tf.Tensor:
    """LPIPS of frames, times the numbers in one: ``(batch, time)``."""
    network, shape = shared_network(), tf.shape(truth)
    both = [tf.reshape(tf.clip_by_value(x, 0.0, 1.0), [-1, *truth.shape[2:]]) for x in (truth, frames)]
    difference = tf.stop_gradient(network.embed(both[0])) - network.embed(both[1])
    size = float(np.prod(truth.shape[2:]))
    return tf.reshape(size * tf.reduce_sum(tf.square(difference), -1), shape[:2])


def _clip_kl(q: Normal, p: Normal) -> tf.Tensor:
    return tf.reduce_sum(gaussian_kl(*q, *p), 1)


def _stopped(distribution: Normal) -> Normal:
    return Normal(*map(tf.stop_gradient, distribution))


def _per_level(beta, levels: int) -> list[float]:
    betas = [float(beta)] * levels if isinstance(beta, int | float) else [float(b) for b in beta]
    if len(betas) != levels or not all(math.isfinite(b) and b >= 0 for b in betas):
        raise InputError(f"beta must be a number >= 0 or a list of {levels} such numbers, received {beta}")
    return betas
