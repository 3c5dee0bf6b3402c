"""The harmonic synthesiser: its pitch is its pitch, its numbers stay audible, and it is analysed by the front end."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import audio, domain
from nd_jax.visualize import manifest, parameterizations

WAVE = domain.Waveform(4000, 8000)
MEL = domain.LogMel(audio.LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=24), frames=20)


def logit(share):
    return jnp.asarray(np.log(share / (1 - share)), jnp.float32)


def parameters_of(made, given, seed=0):
    return made.init(jax.random.key(seed), given)


@pytest.mark.parametrize("given", [WAVE, MEL], ids=lambda each: each.kind)
def test_shape_range_gradients_and_lanes(given):
    made = parameterizations.harmonic(8, 4)
    assert isinstance(made, parameterizations.Parameterization) and hash(made) == hash(parameterizations.harmonic(8, 4))
    keys = jax.random.split(jax.random.key(0), 3)
    parameters = jax.vmap(lambda key: made.init(key, given))(keys)
    apply = jax.jit(jax.vmap(lambda p: made.apply(p, given)))
    for strength in (1.0, 100.0):
        x = apply(jax.tree.map(lambda leaf, by=strength: by * leaf, parameters))
        chex.assert_shape(x, (3, *given.shape))
        chex.assert_tree_all_finite(x)
        assert float(x.min()) >= given.low and float(x.max()) <= given.high
    one = jax.tree.map(lambda leaf: leaf[0], parameters)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(made.apply(p, given) ** 2)))(one)
    chex.assert_tree_all_finite(gradient)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("hertz", [110.0, 440.0, 1000.0])
def test_its_pitch_is_its_pitch(hertz):
    made = parameterizations.harmonic(4, 0, f_min=60.0, f_max=2000.0)
    parameters = parameters_of(made, WAVE)
    share = np.log(hertz / 60.0) / np.log(2000.0 / 60.0)
    parameters = {**parameters, "f0": logit(share), "glide": jnp.zeros_like(parameters["glide"])}
    chex.assert_trees_all_close(made.pitch(parameters, WAVE), jnp.full(4000, hertz), rtol=1e-4)
    spectrum = np.abs(np.fft.rfft(np.asarray(made.apply(parameters, WAVE))[:, 0] * np.hanning(4000)))
    peaks = 2.0 * np.argmax(spectrum), 2.0 * hertz
    assert abs(peaks[0] - hertz) <= 2
    at = round(hertz / 2)
    # The partials fall as 1 / number at the start.
    assert spectrum[2 * at - 2 : 2 * at + 3].max() == pytest.approx(spectrum.max() / 2, rel=0.1)


def test_a_glide_bends_the_pitch_within_its_bounds():
    made = parameterizations.harmonic(4, 0, glide=12.0)
    parameters = parameters_of(made, WAVE)
    points = parameters["glide"].shape[0]
    found = made.pitch({**parameters, "f0": logit(0.5), "glide": jnp.linspace(-50.0, 50.0, points)}, WAVE)
    middle = np.sqrt(60.0 * 2000.0)
    assert float(found[0]) == pytest.approx(middle / 2, rel=1e-3)
    assert float(found[-1]) == pytest.approx(middle * 2, rel=1e-3)
    extreme = made.pitch({**parameters, "f0": logit(0.999), "glide": jnp.full(points, 50.0)}, WAVE)
    assert float(extreme.max()) <= 2000.1


def test_nothing_sounds_above_nyquist():
    made = parameterizations.harmonic(24, 0, f_max=3000.0)
    parameters = {**parameters_of(made, WAVE), "f0": logit(0.95), "partials": jnp.full(24, 3.0).at[0].set(-20.0)}
    wave = np.asarray(made.wave(parameters, WAVE))
    pitch = float(made.pitch(parameters, WAVE)[0])
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(4000)))
    # All partials but the first lie above; folded back they would stand below it.
    assert pitch > 2000 and spectrum.max() < 1e-3


def test_envelope_and_noise_are_levels():
    made = parameterizations.harmonic(1, 6, f_min=200.0, f_max=400.0)
    parameters = parameters_of(made, WAVE)
    loud = {**parameters, "envelope": jnp.full_like(parameters["envelope"], 9.0)}
    assert float(jnp.abs(made.wave(loud, WAVE)).max()) == pytest.approx(np.tanh(1.0), abs=0.05)
    silent = {name: jnp.full_like(leaf, -40.0) for name, leaf in parameters.items()}
    assert float(jnp.abs(made.wave(silent, WAVE)).max()) < 1e-3
    hiss = {**silent, "noise": silent["noise"].at[4:].set(6.0)}
    spectrum = np.abs(np.fft.rfft(np.asarray(made.wave(hiss, WAVE)))) ** 2
    high = np.fft.rfftfreq(4000, 1 / 8000) > 1500
    assert spectrum[high].mean() > 100 * spectrum[~high].mean()


def test_a_spectrogram_is_what_its_front_end_hears():
    made = parameterizations.harmonic(6, 4)
    parameters = parameters_of(made, MEL)
    wave = made.wave(parameters, MEL)
    chex.assert_trees_all_equal(made.apply(parameters, MEL), MEL.from_wave(wave))
    assert manifest._rebuild("parameterization", manifest.plain(made)) == made


def test_lanes_begin_at_pitches_all_over_the_range():
    made = parameterizations.harmonic()
    keys = jax.random.split(jax.random.key(0), 40)
    found = jax.vmap(lambda key: made.pitch(made.init(key, WAVE), WAVE)[0])(keys)
    assert float(found.min()) < 150 and float(found.max()) > 900


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: parameterizations.harmonic(0), "partials must be"),
        (lambda: parameterizations.harmonic(noise_bands=1), "noise_bands must be 0 or"),
        (lambda: parameterizations.harmonic(f_min=500.0, f_max=100.0), "0 < f_min < f_max"),
        (lambda: parameterizations.harmonic(seconds=0.0), "seconds must be above 0"),
        (lambda: parameterizations.harmonic(glide=-1.0), "glide must be"),
        (lambda: parameterizations.harmonic().init(jax.random.key(0), domain.Image((4, 4, 1))), "not for 'image'"),
        (
            lambda: parameterizations.harmonic(f_min=50.0).init(jax.random.key(0), domain.Waveform(99, 100)),
            "leaves no room below 45 Hz",
        ),
        (lambda: parameterizations.invert(parameterizations.harmonic(), jnp.zeros(WAVE.shape), WAVE), "no method"),
    ],
)
def test_senseless_synthesisers_end_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
