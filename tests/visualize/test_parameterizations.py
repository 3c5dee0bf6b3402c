"""Parameterizations: parity with Lucid and Lucent, physics of the start, bounds, and errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nd_jax import domain as domains
from nd_jax.audio.mel import LogMel
from nd_jax.visualize import parameterizations

CASES = {  # name: (grid, channels, decay)
    "case0": ((16, 16), 3, 1.0),
    "case1": ((15, 15), 3, 1.0),
    "case2": ((12, 20), 3, 1.0),
    "case3": ((11, 18), 3, 1.0),
    "case4": ((18, 11), 3, 1.5),
    "case5": ((14, 14), 1, 0.5),
    "case6": ((9, 9), 4, 2.0),
}
LOG_MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=20), frames=17)
WAVE = domains.Waveform(samples=801, sample_rate=8000)
IMAGE = domains.Image((9, 12, 3))
GREY = domains.Image((7, 8, 1), low=-1.0, high=1.0)
LATENT = domains.Latent(6)
ALL = {"log_mel": LOG_MEL, "wave": WAVE, "image": IMAGE, "grey": GREY, "latent": LATENT}


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "reference" / "lucid_fft"
    return {name: dict(np.load(folder / f"{name}.npz")) for name in ("lucid", "lucent")}


def image_close(ours, theirs):
    chex.assert_trees_all_close(np.asarray(ours), theirs, rtol=0, atol=1e-5 * np.abs(theirs).max() + 1e-6)


def colours(values):
    """(batch, channels, h, w) to decorrelated (batch, h, w, channels)."""
    return parameterizations.correlate_colours(jnp.moveaxis(jnp.asarray(values), 1, -1))


@pytest.mark.parametrize("case", CASES)
def test_lucent_parity(reference, case):
    theirs = reference["lucent"]
    grid, channels, decay = CASES[case]
    spectrum = jnp.asarray(theirs[f"{case}/spectrum"])
    extra = theirs[f"{case}/freqs"]
    chex.assert_trees_all_close(parameterizations.frequencies(grid, "lucent"), extra, atol=1e-12)

    image = parameterizations.fourier_image(spectrum, grid, decay=decay, rule="lucent")
    image_close(image, theirs[f"{case}/image"])
    kept = spectrum[..., : grid[1] // 2 + 1, :]
    chex.assert_trees_all_close(parameterizations.fourier_image(kept, grid, decay=decay), image, atol=1e-6)
    chex.assert_trees_all_close(np.asarray(jax.nn.sigmoid(image)), theirs[f"{case}/sigmoid"], rtol=0, atol=1e-5)
    if channels == 3:
        mixed = colours(image)
        image_close(jnp.moveaxis(mixed, -1, 1), theirs[f"{case}/decorrelated"])
        rgb = np.asarray(jnp.moveaxis(jax.nn.sigmoid(mixed), -1, 1))
        chex.assert_trees_all_close(rgb, theirs[f"{case}/rgb"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [case for case, (_, channels, _) in CASES.items() if channels == 3])
def test_lucent_gradient_parity(reference, case):
    theirs = reference["lucent"]
    grid, _, decay = CASES[case]
    weights = jnp.moveaxis(jnp.asarray(theirs[f"{case}/cotangent"]), 1, -1)

    def loss(spectrum):
        image = parameterizations.fourier_image(spectrum, grid, decay=decay, rule="lucent")
        return jnp.sum(jax.nn.sigmoid(colours(image)) * weights)

    gradient = np.asarray(jax.grad(loss)(jnp.asarray(theirs[f"{case}/spectrum"])))
    expected = theirs[f"{case}/spectrum_grad"]
    chex.assert_trees_all_close(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
def test_lucid_parity(reference, case):
    grid, channels, decay = CASES[case]
    theirs = reference["lucid"]
    spectrum = jnp.asarray(reference["lucent"][f"{case}/spectrum"])
    image = parameterizations.fourier_image(spectrum, grid, decay=decay, rule="lucid")
    image_close(jnp.moveaxis(image, 1, -1), theirs[f"{case}/image"])
    if channels == 3:
        image_close(colours(image), theirs[f"{case}/decorrelated"])
        domain = domains.Image((*grid, 3))
        for bounds, start, name in (("sigmoid", None, "rgb"), ("clip", (0.48, 0.46, 0.41), "rgb_clip")):
            rgb = jax.vmap(lambda v, b=bounds, s=start: parameterizations.bounded(v, domain, b, s))(colours(image))
            chex.assert_trees_all_close(np.asarray(rgb), theirs[f"{case}/{name}"], rtol=0, atol=1e-5)


def test_the_parameterization_is_the_parity_tested_function(reference):
    spectrum = jnp.asarray(reference["lucent"]["case2/spectrum"])
    x = jax.vmap(lambda s: parameterizations.fourier().apply(s, domains.Image((12, 20, 3))))(spectrum)
    chex.assert_trees_all_close(np.asarray(x), reference["lucid"]["case2/rgb"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [(8,), (9,), (6, 8), (7, 8), (6, 9), (7, 9), (1, 5), (5, 1), (3, 2)])
def test_every_real_array_has_a_spectrum(grid):
    """The exact rule: the forward transform of any array, unweighted, gives that array back."""
    values = np.random.default_rng(0).normal(size=grid).astype(np.float32)
    bins = np.fft.rfftn(values, norm="ortho") * np.maximum(parameterizations.frequencies(grid), 1 / max(grid)) * 4
    spectrum = jnp.asarray(np.stack([bins.real, bins.imag], -1), jnp.float32)
    chex.assert_shape(spectrum, parameterizations.spectrum_shape(grid))
    chex.assert_trees_all_close(np.asarray(parameterizations.fourier_image(spectrum, grid)), values, atol=1e-5)


def test_axis_scale_smooths_that_axis():
    def roughness(axis_scale):
        spectrum = jax.random.normal(jax.random.key(0), (32, *parameterizations.spectrum_shape((16, 16))))
        image = parameterizations.fourier_image(spectrum, (16, 16), axis_scale=axis_scale)
        return [float(jnp.mean(jnp.abs(jnp.diff(image, axis=axis)))) for axis in (-2, -1)]

    rows, columns = roughness(None)
    assert rows == pytest.approx(columns, rel=0.1)
    scaled_rows, scaled_columns = roughness((1.0, 4.0))
    assert scaled_columns < 0.7 * scaled_rows


@pytest.mark.parametrize(
    ("name", "made"),
    [(name, parameterizations.default(domain)) for name, domain in ALL.items()]
    + [("grey", parameterizations.pixels()), ("latent", parameterizations.pixels(sd=1.0))]
    + [("grey", parameterizations.fourier(bounds="clip", start=0.3))]
    + [("wave", parameterizations.fourier()), ("wave", parameterizations.waveform(decay=None, bounds="clip"))],
)
def test_shape_range_gradient_and_lanes(name, made):
    domain = ALL[name]
    assert isinstance(made, parameterizations.Parameterization) and hash(made) == hash(made) and made.name

    keys = jax.random.split(jax.random.key(1), 3)
    parameters = jax.vmap(lambda key: made.init(key, domain))(keys)
    loud = jax.tree.map(lambda leaf: 300 * leaf, parameters)
    apply = jax.jit(jax.vmap(lambda p: made.apply(p, domain)))
    x = apply(loud)
    chex.assert_shape(x, (3, *domain.shape))
    assert x.dtype == jnp.float32 and float(x.min()) >= domain.low and float(x.max()) <= domain.high
    alone = made.apply(jax.tree.map(lambda leaf: leaf[1], loud), domain)
    chex.assert_trees_all_close(alone, x[1], atol=1e-4)
    gradient = jax.grad(lambda p: jnp.sum(jnp.square(made.apply(p, domain))))(made.init(keys[0], domain))
    chex.assert_tree_all_finite(gradient)


def test_starts():
    key = jax.random.key(0)
    x = parameterizations.fourier().apply(parameterizations.fourier().init(key, LOG_MEL), LOG_MEL)
    assert np.asarray(LOG_MEL.to_db(x)).mean() == pytest.approx(-64, abs=2)
    for domain in (IMAGE, GREY):
        made = parameterizations.default(domain)
        middle = np.mean(np.asarray(made.apply(made.init(key, domain), domain)))
        assert middle == pytest.approx((domain.low + domain.high) / 2, abs=0.05)
    sound = parameterizations.waveform(sd=0.01)
    rms = float(jnp.sqrt(jnp.mean(jnp.square(sound.apply(sound.init(key, WAVE), WAVE)))))
    assert rms == pytest.approx(0.01, rel=0.15)
    quiet = parameterizations.pixels(sd=0.0, start=0.1)
    chex.assert_trees_all_close(quiet.apply(quiet.init(key, LOG_MEL), LOG_MEL), jnp.full(LOG_MEL.shape, 0.1), rtol=1e-5)
    free = parameterizations.pixels(sd=0.01, bounds="none")
    parameters = free.init(key, GREY)
    chex.assert_trees_all_close(free.apply(parameters, GREY), parameters)


def test_start_at_the_band_mean():
    mean = np.linspace(0.1, 0.7, 20, dtype=np.float32)
    domain = domains.LogMel(LOG_MEL.transform, frames=17, band_mean=mean)
    made = parameterizations.fourier(sd=0.0, start="mean")
    x = made.apply(made.init(jax.random.key(0), domain), domain)
    chex.assert_trees_all_close(x, jnp.broadcast_to(mean[:, None, None], domain.shape), atol=1e-5)
    with pytest.raises(ValueError, match="band_mean"):
        made.apply(made.init(jax.random.key(0), LOG_MEL), LOG_MEL)


def test_waveform_decay_is_a_slope_in_db_per_octave():
    """decay 0.5: power falls by 3 dB per octave above the corner and is flat below it."""
    domain = domains.Waveform(samples=8000, sample_rate=8000)
    made = parameterizations.waveform(decay=0.5, sd=0.01, corner=200.0)
    keys = jax.random.split(jax.random.key(2), 16)
    waves = jax.vmap(lambda key: made.apply(made.init(key, domain), domain))(keys)[..., 0]
    power = np.mean(np.abs(np.fft.rfft(np.asarray(waves), axis=-1)) ** 2, axis=0)  # 1 Hz bins
    octaves = [10 * np.log10(power[low : 2 * low].mean()) for low in (250, 500, 1000, 2000)]
    chex.assert_trees_all_close(np.diff(octaves), np.full(3, -3.01), atol=0.3)
    assert abs(10 * np.log10(power[10:90].mean() / power[100:190].mean())) < 0.6


def test_parts_are_drawn_by_name():
    domain = domains.Parts({"z": LATENT, "sound": WAVE})
    made = parameterizations.default(domain)
    parameters = made.init(jax.random.key(3), domain)
    x = made.apply(parameters, domain)
    chex.assert_shape(x["z"], (6,))
    chex.assert_shape(x["sound"], WAVE.shape)
    flipped = domains.Parts({"sound": WAVE, "z": LATENT})
    again = parameterizations.default(flipped).init(jax.random.key(3), flipped)
    chex.assert_trees_all_close(again["z"], parameters["z"])
    chosen = parameterizations.parts(z=parameterizations.latent(sd=2.0), sound=parameterizations.waveform(decay=None))
    chex.assert_shape(chosen.init(jax.random.key(0), domain)["sound"], (801, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parameterizations.pixels(sd=-1.0), "sd must be"),
        (lambda: parameterizations.pixels(bounds="sigmod"), "did you mean 'sigmoid'"),
        (lambda: parameterizations.pixels(start=0.0), "between 0 and 1"),
        (lambda: parameterizations.pixels(start="mid"), "'mean'"),
        (lambda: parameterizations.fourier(decay=float("nan")), "decay must be"),
        (lambda: parameterizations.fourier(axis_scale=(1.0, -1.0)), "axis_scale must be"),
        (lambda: parameterizations.waveform(corner=0.0), "corner must be"),
        (lambda: parameterizations.fourier(axis_scale=(1, 1, 1)).init(jax.random.key(0), IMAGE), "2 axes"),
        (lambda: parameterizations.fourier(start=(0.5, 0.5)).apply(jnp.zeros((3, 9, 7, 2)), IMAGE), "3 channels"),
        (lambda: parameterizations.fourier().init(jax.random.key(0), LATENT), "fourier needs a domain"),
        (lambda: parameterizations.waveform().init(jax.random.key(0), LOG_MEL), "Waveform domain"),
        (lambda: parameterizations.latent().init(jax.random.key(0), IMAGE), "unbounded"),
        (lambda: parameterizations.pixels().init(jax.random.key(0), domains.Parts({"z": LATENT})), "parts"),
        (lambda: parameterizations.parts(y=parameterizations.latent()).init(jax.random.key(0), LATENT), "parts"),
        (lambda: parameterizations.fourier_image(jnp.zeros((8, 4, 2)), (8, 8)), "needs a spectrum"),
        (lambda: parameterizations.fourier_image(jnp.zeros((8, 5, 2)), (8, 8), rule="lucidd"), "did you mean 'lucid'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
