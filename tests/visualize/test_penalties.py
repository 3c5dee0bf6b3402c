"""Penalties: zero where nothing is wrong, right units, finite gradients, refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain as domains
from nd_jax.audio.mel import LogMel
from nd_jax.visualize import penalties

MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=512, hop_length=128, n_mels=40), frames=32)
WAVE = domains.Waveform(samples=1600, sample_rate=8000)
IMAGE = domains.Image((6, 8, 3))
LATENT = domains.Latent(5)
PARTS = domains.Parts({"z": LATENT})


def sine(samples, amplitude, hertz=1000.0):
    return amplitude * jnp.sin(2 * np.pi * hertz * np.arange(samples, dtype=np.float32) / 8000.0)


@pytest.mark.parametrize(
    ("domain", "penalty"),
    [
        (MEL, penalties.total_variation(time=1.0, frequency=0.5)),
        (WAVE, penalties.total_variation(time=1.0)),
        (IMAGE, penalties.total_variation(vertical=1.0, horizontal=1.0)),
        (MEL, penalties.l1()),
        (IMAGE, penalties.l2(2.0)),
        (LATENT, penalties.l2()),
        (MEL, penalties.level(-30.0)),
        (WAVE, penalties.level(-20.0, direction="toward")),
        (MEL, penalties.silence(3.0)),
        (WAVE, penalties.silence()),
    ],
    ids=lambda value: getattr(value, "label", getattr(value, "kind", None)),
)
def test_scalar_finite_and_the_same_in_a_batch(domain, penalty):
    assert isinstance(penalty, penalties.Penalty) and hash(penalty) == hash(penalty)
    assert isinstance(penalty.label, str) and penalty.label
    penalty.check(domain)
    x = jax.random.uniform(jax.random.key(0), (3, *domain.shape), minval=0.1, maxval=0.9)
    x = x.at[0].set(domain.silence())
    values, gradient = jax.jit(jax.vmap(jax.value_and_grad(lambda one: penalty(one, domain))))(x)
    chex.assert_shape(values, (3,))
    assert float(values.min()) >= 0
    chex.assert_tree_all_finite(gradient)
    chex.assert_trees_all_close(penalty(x[2], domain), values[2], rtol=1e-5)


def test_total_variation_is_a_mean_per_axis():
    ramp = jnp.broadcast_to(0.01 * np.arange(32, dtype=np.float32)[None, :, None], MEL.shape)
    assert float(penalties.total_variation(time=2.0)(ramp, MEL)) == pytest.approx(0.02, rel=1e-4)
    assert float(penalties.total_variation(frequency=2.0)(ramp, MEL)) == 0
    image = jnp.broadcast_to(0.1 * np.arange(6, dtype=np.float32)[:, None, None], IMAGE.shape)
    both = penalties.total_variation(vertical=1.0, horizontal=5.0)
    assert float(both(image, IMAGE)) == pytest.approx(0.1, rel=1e-4)
    assert both.label == "total_variation(vertical=1, horizontal=5)"
    assert penalties.total_variation(time=1.0, weight=0.1).label == "total_variation(time=1) x 0.1"


def test_distances_are_from_silence():
    for domain in (MEL, WAVE, IMAGE, LATENT):
        assert float(penalties.l1()(domain.silence(), domain)) == 0 == float(penalties.l2()(domain.silence(), domain))
    x = IMAGE.silence() + 0.25
    assert float(penalties.l1()(x, IMAGE)) == pytest.approx(0.25)
    assert float(penalties.l2()(x, IMAGE)) == pytest.approx(0.0625)


@pytest.mark.parametrize("amplitude", [1.0, 0.1])
def test_level_reads_a_sine_in_db_below_full_scale(amplitude):
    expected = 20 * np.log10(amplitude)
    wave = sine(1600, amplitude)[:, None]
    assert float(penalties.level_db(wave, WAVE)) == pytest.approx(expected, abs=0.05)
    mel = MEL.from_wave(sine(MEL.samples, amplitude))
    assert float(penalties.level_db(mel, MEL)) == pytest.approx(expected, abs=4.0)
    below, toward = (penalties.level(-30.0, direction=name) for name in ("below", "toward"))
    assert float(below(wave, WAVE)) == pytest.approx(expected + 30, abs=0.05)
    assert float(toward(0.01 * wave, WAVE)) == pytest.approx(10 - expected, abs=0.1)
    assert float(below(0.001 * wave, WAVE)) == 0
    assert below.label == "level(below -30 dB)"


def test_silence_is_free_and_its_unit_is_db():
    for domain in (MEL, WAVE):
        assert float(penalties.silence()(domain.silence(), domain)) == pytest.approx(0, abs=1e-3)
    assert float(penalties.silence()(jnp.full(MEL.shape, 0.5), MEL)) == pytest.approx(40)
    assert float(penalties.silence(10.0)(jnp.full(MEL.shape, 0.5), MEL)) == pytest.approx(30)
    assert float(penalties.silence()(sine(1600, 0.1)[:, None], WAVE)) == pytest.approx(60, abs=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: penalties.total_variation(), "at least one axis"),
        (lambda: penalties.total_variation(time=-1.0), "time must be"),
        (lambda: penalties.total_variation(time=1.0).check(IMAGE), "no time axis"),
        (lambda: penalties.total_variation(vertical=1.0).check(MEL), "no vertical axis"),
        (lambda: penalties.total_variation(time=1.0).check(PARTS), "no time axis"),
        (lambda: penalties.l1(float("nan")), "weight must be"),
        (lambda: penalties.l2().check(PARTS), "parts"),
        (lambda: penalties.level(float("inf")), "target_db must be"),
        (lambda: penalties.level(0.0, direction="belo"), "did you mean 'below'"),
        (lambda: penalties.level(0.0).check(IMAGE), "levels in dB"),
        (lambda: penalties.silence(-1.0), "margin_db must be"),
        (lambda: penalties.silence().check(LATENT), "levels in dB"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_early_keeps_what_it_wraps_and_refuses_the_rest():
    quiet = penalties.silence(weight=0.3)
    early = penalties.early(quiet, 0.25, rest=0.1)
    assert (early.weight, early.until, early.rest) == (0.3, 0.25, 0.1)
    assert early.label.endswith("in the first 25% of the steps, 0.1 of it afterwards")
    x = jnp.full(MEL.shape, 0.4)
    chex.assert_trees_all_close(early(x, MEL), quiet(x, MEL))
    with pytest.raises(ValueError, match="silence needs a waveform"):
        early.check(IMAGE)
    for arguments, message in (
        (({"penalty": 3}), "early takes a penalty"),
        (({"penalty": quiet, "until": 0}), "until must be a share"),
        (({"penalty": quiet, "rest": 2}), "rest must be a share"),
    ):
        with pytest.raises(ValueError, match=message):
            penalties.early(**arguments)
