"""What tests of parity share: a fixture's weights in a model, and what is as near as float32 is."""

import numpy as np

from htsr.published.layouts import names_of
from htsr.published.sources import SOURCES


def load(model, source, arrays):
    """Give a model the weights of a fixture, ``var/…``, each of which it has to need: the pairs of both."""
    pairs = SOURCES[source].pairs(model)
    assert {id(variable) for variable, _ in pairs} == {id(variable) for variable in model.weights}
    assert set(names_of(pairs)) == {key.removeprefix("var/") for key in arrays if key.startswith("var/")}
    for variable, recipe in pairs:
        variable.assign(recipe(lambda name: arrays[f"var/{name}"]))
    return pairs


def near(got, want, name="", tolerance=1e-4):
    """Hold values against others, to a share of the largest one."""
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)


def assert_step_of_adam(pairs, grads, arrays, noise=()):
    """Hold gradients, by their names in the fixture, and weights after a step of Adam against it, but for those whose
    gradient is rounding ``noise``."""
    for variable, recipe in pairs:
        (name,) = recipe.names
        if name in noise:
            continue
        grad = grads.get(name)
        if grad is not None:
            np.testing.assert_allclose(np.linalg.norm(grad), arrays[f"grad_norm/{name}"], rtol=1e-3, err_msg=name)
            if f"grad/{name}" in arrays:
                near(grad, recipe(lambda key: arrays[f"grad/{key}"]), name, 1e-3)
        if f"adam1/{name}" in arrays:
            want = recipe(lambda key: arrays[f"adam1/{key}"])
            there = True if grad is None else np.abs(grad) > 1e-6 + 1e-4 * np.abs(grad).max()
            np.testing.assert_allclose(variable.numpy()[there], want[there], rtol=0, atol=5e-6, err_msg=name)
