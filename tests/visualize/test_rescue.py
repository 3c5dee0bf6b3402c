"""Units that do not answer: redirected gradients, other starts, probing inputs; then dead, and said so."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nd_jax as nd
from nd_jax.networks.layers import Relu, redirected_gradients, redirected_relu

SIZE = 8
DOMAIN = nd.domain.Image(shape=(SIZE, SIZE, 1))


class Thresholds(nn.Module):
    """Units that answer above a threshold on the mean of one half of the picture; the last one can never answer."""

    ours: bool

    @nn.compact
    def __call__(self, x):
        half = jnp.stack([x[:, :4].mean(axis=(1, 2, 3)), x[:, 4:].mean(axis=(1, 2, 3))] * 2, axis=-1)
        low = jnp.array([0.1, 0.75, 0.9, 1.5])[None]
        above = half - low
        return Relu(name="relu")(above) if self.ours else nn.relu(above)


def network(ours):
    return nd.Network(Thresholds(ours), {}, input=DOMAIN)


def run(ours, units=None, **settings):
    defaults = {
        "key": jax.random.key(2),
        "steps": 100,
        "parameterization": nd.parameterizations.pixels(),
        "transforms": (),
        "optimizer": optax.adam(0.05),
        "progress": False,
    }
    return nd.visualize_batch(network(ours), nd.objectives.logit(units), **{**defaults, **settings})


def test_redirected_gradients_bring_silent_units_to_life():
    result = run(True)
    assert result.status[:3] == ("ok",) * 3
    assert result.starts[:3] == ("own", "own, redirected gradients", "own, redirected gradients")
    assert result.status[3] == "dead: no response from 64 starts"
    assert (result.scores[:3] > 0).all()
    assert result.scores[3] == 0
    chex.assert_trees_all_close(result.history[-1], result.scores)


def test_without_rescue_they_stay_as_they_are():
    result = run(True, restarts=0)
    assert result.status == ("ok",) + ("dead: no response from its own start",) * 3
    chex.assert_trees_all_equal(result.inputs[0], run(True).inputs[0])


def test_a_foreign_network_restarts_from_other_seeds_and_from_probes():
    from_seeds = run(False, [0, 1, 3])
    assert from_seeds.starts[0] == "own"
    assert from_seeds.status[2] == "dead: no response from 64 starts"
    probes = np.stack([np.full(DOMAIN.shape, level, np.float32) for level in (0.2, 0.95, 0.5)])
    from_probes = run(False, [2, 3], probes=probes)
    assert from_probes.starts[0] == "probe 1"
    assert from_probes.status == ("ok", "dead: no response from 64 starts and 3 probing inputs")
    assert from_probes.scores[0] > 0.09


def test_a_rescued_lane_does_not_depend_on_its_batch(tmp_path):
    for ours in (True, False):
        whole = run(ours)
        for units in ([1], [3, 1, 0], [2, 2, 1]):
            part = run(ours, units)
            for lane, unit in enumerate(units):
                if units.count(unit) == 1:
                    chex.assert_trees_all_equal(part.inputs[lane], whole.inputs[unit])
                    assert part.status[lane] == whole.status[unit]


def test_starts_are_kept_and_a_rerun_asks_for_the_probes(tmp_path):
    probes = np.full((1, *DOMAIN.shape), 0.97, np.float32)
    result = run(False, [2], probes=probes, optimizer=None)
    again = nd.Visualization.load(result.save(tmp_path / "result"), network=network(False))
    assert again.starts == result.starts == ("probe 0",)
    with pytest.raises(ValueError, match="was started from a probing input: pass the same probes"):
        again.rerun(0, progress=False)
    chex.assert_trees_all_equal(again.rerun(0, probes=probes, progress=False).inputs, result.inputs)


def test_probes_are_checked():
    with pytest.raises(ValueError, match=r"probes must be inputs of shape \(m, \*\(8, 8, 1\)\)"):
        run(False, probes=np.zeros((3, 8, 8)))
    with pytest.raises(ValueError, match="probes must be finite"):
        run(False, probes=np.full((3, 8, 8, 1), np.nan))
    with pytest.raises(ValueError, match="restarts must be a whole number of 0 or more"):
        run(False, restarts=-1)


def test_a_penalty_does_not_hide_a_dead_unit():
    result = run(True, [0, 3], penalties=[nd.penalties.l2(0.01)])
    assert [status[:4] for status in result.status] == ["ok", "dead"]


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_redirected_gradient_is_lucids(slope):
    x = jnp.array([[-1.0, -2.0, -3.0], [-1.0, 2.0, -3.0]])
    upward = jnp.array([[1.0, -1.0, 0.5], [1.0, -1.0, 0.5]])

    def gradient(flag):
        return jax.vjp(lambda x: redirected_relu(x, slope, jnp.array(flag)), x)[1](upward)[0]

    plain = jax.vjp(lambda x: nn.leaky_relu(x, slope), x)[1](upward)[0]
    chex.assert_trees_all_close(gradient(False), plain)
    silent = plain if slope else jnp.array([[1.0, 0.0, 0.5], [0.0, -1.0, 0.0]])
    chex.assert_trees_all_close(gradient(True), silent)


def test_redirected_gradients_reach_named_relus_only():
    x = jnp.full((1, *DOMAIN.shape), 0.3)
    for ours, expected in ((True, True), (False, False)):
        module = Thresholds(ours)
        with redirected_gradients(jnp.array(True)):
            found = jax.grad(lambda x, module=module: module.apply({}, x)[0, 1])(x)
        assert bool(jnp.any(found != 0)) == expected


class Rotated(nn.Module):
    """Thresholds behind a rotation: along a row of it a silent unit's value is rounding, not exactly zero."""

    @nn.compact
    def __call__(self, x):
        half = jnp.stack([x[:, :4].mean(axis=(1, 2, 3)), x[:, 4:].mean(axis=(1, 2, 3))], axis=-1)
        live = 5 * jnp.concatenate([half, half**2, jnp.sin(3 * half)], axis=-1)
        return nn.Dense(8, use_bias=False, name="mix")(
            jnp.concatenate([live, nn.relu(half - jnp.array([[0.9, 1.5]]))], -1)
        )


def test_rounding_along_a_direction_is_no_response():
    rotation = np.linalg.qr(np.asarray(jax.random.normal(jax.random.key(0), (8, 8))))[0]
    network = nd.Network(Rotated(), {"params": {"mix": {"kernel": jnp.asarray(rotation)}}}, input=DOMAIN)
    settings = {"key": jax.random.key(2), "steps": 60, "transforms": (), "progress": False}
    bright = np.full((1, *DOMAIN.shape), 0.97, np.float32)
    result = nd.visualize_batch(network, nd.objectives.direction("mix", rotation[[0, 6, 7]]), probes=bright, **settings)
    assert result.status == ("ok", "ok", "dead: no response from 64 starts and 1 probing input")
    assert result.starts[0] == "own"
    assert result.starts[1] != "own"
    assert result.scores[1] > 0.01
