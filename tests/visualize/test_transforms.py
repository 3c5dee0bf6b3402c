"""Transforms: the physics of each, range, gradients, vmap equality, refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from nd_jax import domain as domains
from nd_jax.audio.mel import LogMel
from nd_jax.visualize import transforms

HOP = 128 / 8000
MEL = domains.LogMel(LogMel(sample_rate=8000, n_fft=256, hop_length=128, n_mels=20), frames=24)
WAVE = domains.Waveform(samples=800, sample_rate=8000)
IMAGE = domains.Image((12, 14, 3))
SQUARE = domains.Image((9, 9, 1), low=-1.0, high=1.0)
LATENT = domains.Latent(5)
PARTS = domains.Parts({"z": LATENT, "sound": WAVE})

CASES = {
    "mel/time_shift": (MEL, transforms.time_shift(5 * HOP)),
    "mel/gain": (MEL, transforms.gain(6.0)),
    "mel/time_stretch": (MEL, transforms.time_stretch(0.8, 1.25)),
    "mel/noise_db": (MEL, transforms.noise(-40.0)),
    "mel/noise_sd": (MEL, transforms.noise(sd=0.3)),
    "mel/time_mask": (MEL, transforms.time_mask(6 * HOP, count=2)),
    "mel/band_mask": (MEL, transforms.band_mask(5)),
    "mel/band_mask_hz": (MEL, transforms.band_mask(hertz=900.0)),
    "mel/blur": (MEL, transforms.blur(HOP, 2 * HOP)),
    "mel/bilateral": (MEL, transforms.bilateral(HOP)),
    "mel/frequency_shift": (MEL, transforms.frequency_shift(3, allow_on_sound=True)),
    "wave/time_shift": (WAVE, transforms.time_shift(0.02)),
    "wave/gain": (WAVE, transforms.gain(6.0)),
    "wave/noise_db": (WAVE, transforms.noise(-20.0)),
    "wave/time_mask": (WAVE, transforms.time_mask(0.03)),
    "wave/band_mask": (WAVE, transforms.band_mask(hertz=1000.0)),
    "wave/blur": (WAVE, transforms.blur(0.0002)),
    "image/jitter": (IMAGE, transforms.jitter(3)),
    "image/scale": (IMAGE, transforms.scale()),
    "image/rotate": (IMAGE, transforms.rotate(30.0)),
    "image/blur": (IMAGE, transforms.blur(0.5, 1.5)),
    "image/bilateral": (IMAGE, transforms.bilateral(0.5, tone=0.3)),
    "image/padding": (IMAGE, transforms.padding(2)),
    "image/brightness": (IMAGE, transforms.brightness(0.4)),
    "image/contrast": (IMAGE, transforms.contrast(0.5, 2.0)),
    "image/saturation": (IMAGE, transforms.saturation(0.5, 2.0)),
    "image/hue": (IMAGE, transforms.hue(0.3)),
    "latent/noise_sd": (LATENT, transforms.noise(sd=0.3)),
}


def example(domain, seed=0):
    """Values over the whole range of a domain, or normal."""
    key = jax.random.key(seed)
    if np.isfinite(domain.low):
        return jax.random.uniform(key, domain.shape, minval=domain.low, maxval=domain.high)
    return jax.random.normal(key, domain.shape)


def draws(transform, domain, x, count=12, seed=7):
    """`count` results on the same x, as numpy."""
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: transform(key, x, domain)))(keys))


@pytest.mark.parametrize("case", CASES)
def test_pure_bounded_and_the_same_alone_or_in_a_batch(case):
    domain, transform = CASES[case]
    assert isinstance(transform, transforms.Transform) and hash(transform) == hash(transform)
    transform.check(domain)
    x = jnp.stack([example(domain, seed) for seed in range(3)])
    kept = np.array(x)
    keys = jax.random.split(jax.random.key(1), 3)

    def run(keys, x):
        total = jax.vmap(lambda key, one: transform(key, one, domain))
        out, pull = jax.vjp(lambda x: total(keys, x), x)
        return out, pull(jnp.ones_like(out))[0]

    out, gradient = jax.jit(run)(keys, x)
    chex.assert_shape(out, x.shape)
    assert out.dtype == jnp.float32
    assert float(out.min()) >= domain.low - 1e-6 and float(out.max()) <= domain.high + 1e-6
    chex.assert_tree_all_finite(gradient)
    assert float(jnp.abs(gradient).max()) > 0
    alone = jax.jit(lambda key, one: transform(key, one, domain))(keys[2], x[2])
    chex.assert_trees_all_close(alone, out[2], atol=2e-6)
    chex.assert_trees_all_equal(np.array(x), kept)
    assert float(jnp.abs(out - x).max()) > 1e-4, "it changes something"


@pytest.mark.parametrize(
    ("domain", "transform"),
    [
        (MEL, transforms.time_shift(0.0)),
        (MEL, transforms.gain(0.0)),
        (MEL, transforms.time_stretch(1.0, 1.0)),
        (MEL, transforms.noise(sd=0.0)),
        (MEL, transforms.time_mask(0.0)),
        (MEL, transforms.band_mask(0)),
        (MEL, transforms.blur(0.0)),
        (MEL, transforms.bilateral(0.0)),
        (WAVE, transforms.time_shift(0.0)),
        (WAVE, transforms.gain(0.0)),
        (WAVE, transforms.time_mask(0.0)),
        (WAVE, transforms.band_mask(hertz=0.0)),
        (IMAGE, transforms.jitter(0)),
        (IMAGE, transforms.scale(1.0, 1.0)),
        (IMAGE, transforms.rotate(0.0)),
        (IMAGE, transforms.padding(0)),
        (IMAGE, transforms.brightness(0.0)),
        (IMAGE, transforms.contrast(1.0, 1.0)),
        (IMAGE, transforms.saturation(1.0, 1.0)),
        (IMAGE, transforms.hue(0.0)),
        (IMAGE, transforms.none()),
    ],
)
def test_identity_at_zero_strength(domain, transform):
    x = example(domain)
    same = jax.jit(lambda x: transform(jax.random.key(0), x, domain))(x)
    chex.assert_trees_all_close(same, x, atol=3e-7)


# ---- Time and level --------------------------------------------------------------------------------------------------


def test_time_shift_moves_an_event_by_whole_frames_and_leaves_silence():
    x = jnp.zeros(MEL.shape).at[3, 10].set(0.8)
    out = draws(transforms.time_shift(4 * HOP), MEL, x, 64)
    places = np.argmax(out[:, 3, :, 0], axis=1)
    chex.assert_trees_all_close(out.sum(axis=(1, 2, 3)), np.full(64, 0.8), rtol=1e-6)
    assert set(places) == set(range(6, 15)), "every whole shift in -4 ... 4 is drawn"
    full = draws(transforms.time_shift(4 * HOP), MEL, jnp.ones(MEL.shape), 64)
    assert set(np.round((full == 0).sum(axis=(1, 2, 3)) / 20).astype(int)) == set(range(5)), "silence comes in"
    held = draws(transforms.time_shift(4 * HOP, fill="edge"), MEL, jnp.ones(MEL.shape))
    chex.assert_trees_all_equal(held, np.ones_like(held))
    wrapped = draws(transforms.time_shift(4 * HOP, fill="wrap"), MEL, example(MEL))
    chex.assert_trees_all_close(wrapped.sum(axis=(1, 2, 3)), np.full(12, float(example(MEL).sum())), rtol=1e-5)


def test_time_shift_of_a_waveform_is_exact_and_does_not_click():
    x = jnp.zeros(WAVE.shape).at[400, 0].set(1.0)
    places = np.argmax(draws(transforms.time_shift(0.01), WAVE, x, 32)[..., 0], axis=1)
    assert np.abs(places - 400).max() <= 80 and len(set(places)) > 15
    ends = draws(transforms.time_shift(0.01), WAVE, 0.5 * jnp.ones(WAVE.shape), 32)[..., 0]
    moved = ends[(ends == 0).sum(axis=1) >= 40]
    assert len(moved) > 5
    assert np.abs(np.diff(moved, axis=1)).max() < 0.5 / 40 * 1.1, "fades over 5 ms, 40 samples"


def test_gain_adds_decibels():
    x = jnp.full(MEL.shape, 0.5)
    change = np.asarray(MEL.to_db(draws(transforms.gain(6.0), MEL, x, 64))) - MEL.to_db(0.5)
    chex.assert_trees_all_close(np.ptp(change.reshape(64, -1), axis=1), np.zeros(64), atol=1e-5)
    assert 5 < change.max() <= 6.001 and -6.001 <= change.min() < -5
    loud = draws(transforms.gain(6.0), WAVE, jnp.full(WAVE.shape, 0.25), 64)
    decibels = 20 * np.log10(loud[:, 0, 0] / 0.25)
    assert 5 < decibels.max() <= 6.001 and -6.001 <= decibels.min() < -5
    edge = draws(transforms.gain(6.0), MEL, jnp.zeros(MEL.shape))
    assert edge.min() == 0, "below the floor stays at the floor"


def test_time_stretch_keeps_the_band_and_moves_time_around_the_middle():
    x = jnp.zeros(MEL.shape).at[7, 2:22].set(0.9)
    out = draws(transforms.time_stretch(0.5, 0.5), MEL, x)
    energy = out.sum(axis=(0, 2, 3))
    assert energy[7] > 0 and np.delete(energy, 7).sum() == 0
    lengths = (out[:, 7, :, 0] > 0.45).sum(axis=1)
    chex.assert_trees_all_equal(lengths, np.full(12, 10))
    assert out[0, 7, 11, 0] == pytest.approx(0.9) and out[0, 7, 0, 0] == 0
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, 24)[None, :, None], MEL.shape)
    longer = draws(transforms.time_stretch(2.0, 2.0), MEL, ramp)[0, 0, :, 0]
    chex.assert_trees_all_close(np.diff(longer), np.full(23, 0.5 / 23), atol=1e-6)
    held = draws(transforms.time_stretch(0.5, 0.5, fill="edge"), MEL, ramp)[0, 0, :, 0]
    assert held[-1] == 1.0 and held[0] == 0.0


def test_noise_has_its_level():
    quiet = draws(transforms.noise(-30.0), MEL, jnp.zeros(MEL.shape), 32)
    power = np.mean(10 ** (np.asarray(MEL.to_db(quiet)) / 10))
    assert 10 * np.log10(power) == pytest.approx(-30, abs=0.3)
    loud = draws(transforms.noise(-60.0), MEL, jnp.full(MEL.shape, 0.9), 4)
    chex.assert_trees_all_close(loud, np.full_like(loud, 0.9), atol=1e-3)
    wave = draws(transforms.noise(-30.0), WAVE, jnp.zeros(WAVE.shape), 32)
    assert 10 * np.log10(2 * np.mean(wave**2)) == pytest.approx(-30, abs=0.3)
    assert np.std(draws(transforms.noise(sd=0.1), LATENT, jnp.zeros(LATENT.shape), 200)) == pytest.approx(0.1, rel=0.1)


def test_masks_silence_one_stretch_of_the_right_size():
    ones = jnp.ones(MEL.shape)
    frames = (draws(transforms.time_mask(6 * HOP), MEL, ones, 128) == 0).all(axis=(1, 3))
    bands = (draws(transforms.band_mask(5), MEL, ones, 128) == 0).all(axis=(2, 3))
    for masked, most in ((frames, 6), (bands, 5)):
        widths = masked.sum(axis=1)
        assert set(widths) == set(range(most + 1)) and widths.mean() == pytest.approx(most / 2, abs=0.6)
        edges = np.diff(np.pad(masked.astype(int), ((0, 0), (1, 1))), axis=1)
        assert (edges == 1).sum(axis=1).max() == 1, "one stretch"
    assert (frames.any(axis=0)).all() and bands.any(axis=0).all(), "anywhere"
    hertz = (draws(transforms.band_mask(hertz=600.0), MEL, ones, 128) == 0).all(axis=(2, 3))
    centres = MEL.transform.centre_frequencies
    assert max(np.ptp(centres[row]) for row in hertz if row.any()) < 600
    silent = (draws(transforms.time_mask(0.02), WAVE, jnp.ones(WAVE.shape), 64) == 0).sum(axis=(1, 2))
    assert silent.max() <= 160 and silent.mean() == pytest.approx(80, abs=20)


def test_band_mask_takes_a_band_out_of_a_waveform():
    out = draws(transforms.band_mask(hertz=2000.0), WAVE, jnp.zeros(WAVE.shape).at[400, 0].set(1.0), 16)[..., 0]
    spectrum = np.abs(np.fft.rfft(out, axis=1))  # of an impulse: 1 or 0
    chex.assert_trees_all_close(spectrum * (1 - spectrum), np.zeros_like(spectrum), atol=1e-4)
    removed = (spectrum < 0.5).sum(axis=1) * 10.0  # bins of 10 Hz
    assert removed.max() <= 2010 and removed.max() > 1000


# ---- Blurs -----------------------------------------------------------------------------------------------------------


def test_blur_keeps_the_mean_and_only_mixes_time():
    x = example(MEL)
    out = draws(transforms.blur(1.5 * HOP), MEL, x, 1)[0]
    chex.assert_trees_all_close(out.mean(axis=1), np.asarray(x).mean(axis=1), atol=1e-5)
    assert np.abs(np.diff(out, axis=1)).mean() < 0.3 * np.abs(np.diff(np.asarray(x), axis=1)).mean()
    impulse = draws(transforms.blur(2 * HOP), MEL, jnp.zeros(MEL.shape).at[4, 12].set(1.0), 1)[0, :, :, 0]
    spread = np.sqrt(np.sum(impulse[4] * (np.arange(24) - 12) ** 2))
    assert spread == pytest.approx(2.0, rel=0.02) and np.delete(impulse, 4, axis=0).sum() == 0


def test_blur_of_a_waveform_has_the_gaussian_response():
    sigma = 0.0002
    impulse = jnp.zeros(WAVE.shape).at[400, 0].set(1.0)
    response = np.abs(np.fft.rfft(draws(transforms.blur(sigma), WAVE, impulse, 1)[0, :, 0]))
    frequency = np.fft.rfftfreq(800, 1 / 8000)
    chex.assert_trees_all_close(response, np.exp(-2 * (np.pi * frequency * sigma) ** 2), atol=1e-4)
    constant = jnp.full(WAVE.shape, 0.3)
    chex.assert_trees_all_close(transforms.blur(sigma)(jax.random.key(0), constant, WAVE), constant, atol=1e-6)


def test_bilateral_smooths_noise_and_keeps_an_edge():
    step = jnp.where(np.arange(24)[None, :, None] < 12, 0.2, 0.8) + 0.02 * jax.random.normal(
        jax.random.key(0), MEL.shape
    )
    sharp = draws(transforms.bilateral(1.5 * HOP, tone=0.1), MEL, step, 1)[0, :, :, 0]
    soft = draws(transforms.blur(1.5 * HOP), MEL, step, 1)[0, :, :, 0]
    assert (sharp[:, 12] - sharp[:, 11]).mean() > 0.55 > 0.2 > (soft[:, 12] - soft[:, 11]).mean()
    assert sharp[:, :10].std() < 0.7 * np.asarray(step)[:, :10].std()
    wide = transforms.bilateral(1.0, tone=1e3)(jax.random.key(0), example(IMAGE), IMAGE)
    kernel = np.exp(-0.5 * np.arange(-2, 3) ** 2)
    x = np.asarray(example(IMAGE))[3:8, 4:9]
    assert float(wide[5, 6, 0]) == pytest.approx(np.sum(x[..., 0] * np.outer(kernel, kernel) / kernel.sum() ** 2), 1e-4)


@pytest.mark.parametrize(
    ("domain", "transform"),
    [
        (domains.Image((4, 5, 2), low=-3.0, high=3.0), transforms.bilateral(0.6, tone=0.3)),
        (domains.Image((5, 4, 2), low=-9.0, high=9.0), transforms.rotate(50.0, least=50.0)),
        (domains.Image((5, 6, 2), low=-9.0, high=9.0), transforms.rotate(-130.0, least=-130.0)),
    ],
)
def test_gradients_by_hand_are_those_of_small_differences(domain, transform):
    x = jax.random.normal(jax.random.key(0), domain.shape)
    run = jax.jit(lambda x: transform(jax.random.key(1), x, domain))
    check_grads(run, (x,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


# ---- Images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_rot90(quarters):
    x = example(SQUARE)
    turn = transforms.rotate(90.0 * quarters, least=90.0 * quarters)
    turned = jax.jit(lambda x: turn(jax.random.key(0), x, SQUARE))(x)
    chex.assert_trees_all_close(turned, jnp.rot90(x, quarters), atol=1e-5)


def test_small_turns_move_pixels_along_the_circle():
    domain = domains.Image((41, 41, 1), low=0.0, high=1.0)
    x = 0.5 + jnp.zeros(domain.shape).at[20, 35].set(0.5)
    out = draws(transforms.rotate(20.0, least=20.0), domain, x, 1)[0, :, :, 0] - 0.5
    rows, columns = np.indices(out.shape)
    place = np.array([(out * rows).sum(), (out * columns).sum()]) / out.sum()
    angle = np.deg2rad(20.0)
    chex.assert_trees_all_close(place, 20 + 15 * np.array([-np.sin(angle), np.cos(angle)]), atol=0.2)


def test_jitter_moves_both_axes_and_fills_with_grey():
    x = jnp.full(IMAGE.shape, 0.5).at[6, 7].set(1.0)
    out = draws(transforms.jitter(2), IMAGE, x, 128)[..., 0]
    places = {tuple(np.argwhere(one == 1.0)[0] - (6, 7)) for one in out}
    assert places == {(row, column) for row in range(-2, 3) for column in range(-2, 3)}
    filled = draws(transforms.jitter(2), IMAGE, jnp.ones(IMAGE.shape), 32)
    assert set(np.unique(filled)) == {0.5, 1.0}


def test_scale_enlarges_around_the_middle():
    domain = domains.Image((21, 21, 1))
    x = jnp.full(domain.shape, 0.5).at[8:13, 8:13].set(1.0)
    out = draws(transforms.scale(2.0, 2.0), domain, x, 1)[0, :, :, 0]
    assert (out > 0.75).sum() == pytest.approx(100, rel=0.25) and out[10, 10] == 1.0
    chex.assert_trees_all_close(out, out[::-1, ::-1], atol=1e-6)
    small = draws(transforms.scale(0.5, 0.5), domain, jnp.ones(domain.shape), 1)[0]
    assert small[0, 0, 0] == 0.5 and small[10, 10, 0] == 1.0


def test_colours():
    x = example(IMAGE) * 0.4 + 0.3
    weights = np.asarray([0.299, 0.587, 0.114], np.float32)
    luma = np.asarray(x) @ weights
    for transform in (transforms.saturation(0.5, 1.2), transforms.hue(0.2)):
        out = draws(transform, IMAGE, x, 4)
        chex.assert_trees_all_close(out @ weights, np.broadcast_to(luma, (4, *luma.shape)), atol=2e-3)
        assert np.abs(out - np.asarray(x)).max() > 0.01
    half = draws(transforms.contrast(0.5, 0.5), IMAGE, x, 1)[0]
    assert half.std() == pytest.approx(0.5 * float(x.std()), rel=1e-4)
    brighter = draws(transforms.brightness(0.2), IMAGE, x, 32) - np.asarray(x)
    assert np.ptp(brighter.reshape(32, -1), axis=1).max() < 1e-6 and 0.15 < brighter.max() <= 0.2001
    turned = draws(transforms.hue(1.0), IMAGE, jnp.full(IMAGE.shape, 0.4), 4)
    chex.assert_trees_all_close(turned, np.full_like(turned, 0.4), atol=1e-3)
    spread = draws(transforms.rotate(45.0, least=45.0), IMAGE, jnp.ones(IMAGE.shape), 1)
    assert spread.max() == pytest.approx(1.0, abs=1e-6) and spread[0, 0, 0, 0] == pytest.approx(0.5, abs=1e-6)
    border = draws(transforms.padding(2, value=0.0), IMAGE, jnp.ones(IMAGE.shape), 1)[0, :, :, 0]
    assert border.sum() == 8 * 10 and border[2:-2, 2:-2].min() == 1.0


# ---- Together --------------------------------------------------------------------------------------------------------


def test_compose_gives_every_transform_its_own_key():
    twice = transforms.compose(transforms.noise(sd=0.1), transforms.noise(sd=0.1))
    once = draws(transforms.noise(sd=0.1), LATENT, jnp.zeros(5), 400).std()
    assert draws(twice, LATENT, jnp.zeros(5), 400).std() == pytest.approx(once * np.sqrt(2), rel=0.1)
    with pytest.raises(ValueError, match="compose takes transforms"):
        transforms.compose(3.0)
    with pytest.raises(ValueError, match="frequency_flip is refused"):
        transforms.compose(transforms.gain(1.0), transforms.frequency_flip()).check(MEL)


@pytest.mark.parametrize("domain", [MEL, WAVE, IMAGE, SQUARE, LATENT, domains.Units(3), PARTS], ids=lambda d: d.kind)
def test_defaults_are_valid(domain):
    chosen = transforms.compose(*transforms.default(domain))
    chosen.check(domain)
    x = {name: example(part) for name, part in domain.parts.items()} if domain is PARTS else example(domain)
    out = chosen(jax.random.key(0), x, domain)
    chex.assert_trees_all_equal_shapes(out, x)
    if domain is PARTS:
        chex.assert_trees_all_equal(out["z"], x["z"])
        assert float(jnp.abs(out["sound"] - x["sound"]).max()) > 0


@pytest.mark.parametrize(
    "make",
    [
        transforms.frequency_flip,
        transforms.time_reverse,
        lambda **allow: transforms.frequency_shift(2, **allow),
        lambda **allow: transforms.rotate(10.0, **allow),
        lambda **allow: transforms.jitter(2, **allow),
        lambda **allow: transforms.scale(**allow),
    ],
)
def test_refused_on_sound_unless_asked_for(make):
    with pytest.raises(ValueError, match="refused on a sound domain because .*allow_on_sound=True") as caught:
        make().check(MEL)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="refused"):
        make()(jax.random.key(0), example(MEL), MEL)
    allowed = make(allow_on_sound=True)
    allowed.check(MEL)
    chex.assert_shape(allowed(jax.random.key(0), example(MEL), MEL), MEL.shape)


def test_flips_and_shifts_when_allowed():
    x = example(MEL)
    flip = transforms.frequency_flip(1.0, allow_on_sound=True)(jax.random.key(0), x, MEL)
    chex.assert_trees_all_equal(flip, x[::-1])
    for domain in (MEL, WAVE):
        x = example(domain)
        back = transforms.time_reverse(1.0, allow_on_sound=True)(jax.random.key(0), x, domain)
        chex.assert_trees_all_equal(back, jnp.flip(x, 1 if domain is MEL else 0))
    tone = jnp.zeros(MEL.shape).at[10].set(1.0)
    moved = draws(transforms.frequency_shift(2, allow_on_sound=True), MEL, tone, 32)
    assert set(np.argmax(moved[:, :, 0, 0], axis=1)) == {8, 9, 10, 11, 12}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transforms.time_shift(-1.0), "seconds must be"),
        (lambda: transforms.time_shift(0.1, fill="edgy"), "did you mean 'edge'"),
        (lambda: transforms.time_shift(0.001).check(MEL), "less than one step"),
        (lambda: transforms.time_shift(5.0).check(MEL), "as long as the example"),
        (lambda: transforms.time_shift(0.1).check(IMAGE), "time axis"),
        (lambda: transforms.time_shift(0.1).check(PARTS), "time axis"),
        (lambda: transforms.gain(float("inf")), "db must be"),
        (lambda: transforms.gain(1.0).check(IMAGE), "levels in dB"),
        (lambda: transforms.time_stretch(1.1, 0.9), "low <= high"),
        (lambda: transforms.time_stretch(fill="wrap"), "no fill 'wrap'"),
        (lambda: transforms.time_stretch().check(WAVE), "pitch"),
        (lambda: transforms.noise(), "either level_db or sd"),
        (lambda: transforms.noise(-10.0, sd=1.0), "either level_db or sd"),
        (lambda: transforms.noise(float("-inf")), "finite"),
        (lambda: transforms.noise(-10.0).check(LATENT), "levels in dB"),
        (lambda: transforms.noise(sd=0.1).check(PARTS), "on_part"),
        (lambda: transforms.time_mask(0.1, count=0), "count must be"),
        (lambda: transforms.band_mask(), "either bands or hertz"),
        (lambda: transforms.band_mask(2).check(WAVE), "hertz"),
        (lambda: transforms.band_mask(2).check(IMAGE), "frequency axis"),
        (lambda: transforms.time_reverse(2.0), "probability"),
        (lambda: transforms.frequency_shift(40, allow_on_sound=True).check(MEL), "leaves nothing"),
        (lambda: transforms.frequency_flip(allow_on_sound=True).check(WAVE), "frequency axis"),
        (lambda: transforms.blur(2.0, 1.0), "sigma <= most"),
        (lambda: transforms.blur(1.0).check(LATENT), "time axis"),
        (lambda: transforms.bilateral(1.0, tone=0.0), "tone must be"),
        (lambda: transforms.bilateral(0.1).check(WAVE), "distortion"),
        (lambda: transforms.jitter(1.5), "whole number"),
        (lambda: transforms.jitter(20).check(IMAGE), "leaves nothing"),
        (lambda: transforms.jitter(2, allow_on_sound=True).check(WAVE), "image domains"),
        (lambda: transforms.scale(0.0, 1.0), "low <= high"),
        (lambda: transforms.rotate(5.0, least=6.0), "least <= degrees"),
        (lambda: transforms.padding(6).check(IMAGE), "leaves nothing"),
        (lambda: transforms.padding(1, value=3.0).check(IMAGE), "outside"),
        (lambda: transforms.brightness(0.1).check(MEL), "no physical meaning for sound"),
        (lambda: transforms.saturation().check(SQUARE), "3 channels"),
        (lambda: transforms.on_part("zz", transforms.noise(sd=1.0)).check(PARTS), "did you mean 'z'"),
        (lambda: transforms.on_part("z", transforms.noise(sd=1.0)).check(LATENT), "domain of parts"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
