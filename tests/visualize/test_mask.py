"""Masks over an input: the moving average by hand, what each number covers, and the price of area and roughness."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, domain
from nd_jax.network import Network
from nd_jax.visualize import Visualization, objectives, parameterizations, penalties, program

MEL = domain.LogMel(audio.LogMel(sample_rate=8000, n_fft=64, hop_length=32, n_mels=8), frames=12)
WAVE = domain.Waveform(400, 8000)
IMAGE = domain.Image((6, 8, 3))
RNG = np.random.default_rng(0)


def example(given):
    return RNG.uniform(given.low, given.high, given.shape).astype(np.float32)


@pytest.mark.parametrize("width", [1, 3, 4, 7])
@pytest.mark.parametrize("edges", ["zeros", "keep"])
def test_the_moving_average_of_the_source_system(width, edges):
    """m averaged by a convolution of `width` weights 1 / width, times the input, per sample."""
    x, m = example(WAVE), RNG.normal(size=400).astype(np.float32)
    made = parameterizations.mask(x, per="sample", width=width, bounds="none", start=0.0, edges=edges)
    padded = m if edges == "zeros" else np.pad(m, width, mode="edge")
    averaged = np.convolve(padded, np.full(width, 1.0 / width), mode="same")
    averaged = averaged if edges == "zeros" else averaged[width:-width]
    chex.assert_trees_all_close(np.asarray(made.mask(jnp.asarray(m), WAVE)), averaged, atol=1e-5)
    chex.assert_trees_all_close(np.asarray(made.apply(jnp.asarray(m), WAVE)), averaged[:, None] * x, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "per", "shape", "spread"),
    [
        (WAVE, "sample", (400,), lambda m: m[:, None]),
        (MEL, "frame", (12,), lambda m: m[None, :, None]),
        (MEL, "band", (8,), lambda m: m[:, None, None]),
        (MEL, "cell", (8, 12), lambda m: m[..., None]),
        (IMAGE, "cell", (6, 8), lambda m: m[..., None]),
    ],
    ids=lambda value: getattr(value, "kind", value if isinstance(value, str) else None),
)
def test_what_one_number_covers(given, per, shape, spread):
    x, baseline = example(given), example(given)
    made = parameterizations.mask(x, baseline, per=per)
    keys = jax.random.split(jax.random.key(0), 2)
    parameters = jax.vmap(lambda key: made.init(key, given))(keys) + 2.0 * jax.random.normal(keys[0], (2, *shape))
    m = spread(np.asarray(jax.nn.sigmoid(parameters[0])))
    found = jax.vmap(lambda p: made.apply(p, given))(parameters)
    chex.assert_shape(found, (2, *given.shape))
    chex.assert_trees_all_close(np.asarray(found[0]), m * x + (1 - m) * baseline, atol=1e-5)
    gradient = jax.grad(lambda p: jnp.sum(made.apply(p, given) ** 2))(parameters[0])
    chex.assert_tree_all_finite(gradient)
    assert float(jnp.abs(gradient).min()) > 0


def test_frames_of_a_waveform_are_joined_by_lines():
    made = parameterizations.mask(np.ones(WAVE.shape), per="frame", frame_seconds=0.01)
    parameters = jnp.asarray([-20.0, 20.0, 20.0, 20.0, -20.0])
    found = np.asarray(made.apply(parameters, WAVE))[:, 0]
    assert np.all(found[:40] < 1e-3) and np.all(found[120:280] > 0.999) and np.all(found[-40:] < 1e-3)
    assert np.abs(np.diff(found)).max() < 1.5 / 80


@pytest.mark.parametrize(
    ("given", "per"), [(WAVE, "sample"), (WAVE, "frame"), (MEL, "frame"), (MEL, "band"), (MEL, "cell"), (IMAGE, "cell")]
)
@pytest.mark.parametrize("bounds", ["sigmoid", "none"])
def test_a_masked_input_gives_its_mask_back(given, per, bounds):
    made = parameterizations.mask(example(given), example(given), per=per, bounds=bounds, start=0.4)
    shape = made.init(jax.random.key(0), given).shape
    # Frames of a waveform are joined by lines: of these, a level mask comes back.
    level = given is WAVE and per == "frame"
    m = 0.5 * jax.random.normal(jax.random.key(1), () if level else shape) + jnp.zeros(shape)
    found = jax.vmap(lambda x: made.invert(x, given))(made.apply(m, given)[None])[0]
    chex.assert_trees_all_close(found, m, atol=2e-3)


def test_ends_and_baseline():
    x = example(MEL)
    made = parameterizations.mask(x, width=5)
    full = jnp.full(12, 30.0)
    chex.assert_trees_all_close(np.asarray(made.apply(full, MEL)), x, atol=1e-6)
    chex.assert_trees_all_close(made.apply(-full, MEL), MEL.silence(), atol=1e-6)
    assert float(made.mask(jnp.zeros(12), MEL)[3]) == pytest.approx(0.5)
    ends = parameterizations.mask(x, width=5, edges="zeros").mask(full, MEL)
    chex.assert_trees_all_close(ends[jnp.asarray([0, 1, 2])], jnp.asarray([0.6, 0.8, 1.0]), atol=1e-6)


class Hears(nn.Module):
    """Logit 0 is the level of frames 3 and 4, logit 1 that of frame 9."""

    @nn.compact
    def __call__(self, x):
        level = jnp.mean(x[..., 0], axis=1)
        self.param("nothing", nn.initializers.zeros_init(), (1,))
        return jnp.stack([level[:, 3] + level[:, 4], level[:, 9]], axis=-1)


def network():
    return Network(Hears(), {"params": {"nothing": np.zeros(1, np.float32)}}, input=MEL)


def visualize(made, cost, **changes):
    goal = objectives.logit([0, 1])
    settings = {"steps": 150, "transforms": (), "restarts": 0, "snapshots": 1, "progress": False, **changes}
    return nd.visualize_batch(network(), goal, key=jax.random.key(0), parameterization=made, penalties=cost, **settings)


def test_little_area_keeps_what_the_logit_hears():
    x = np.full(MEL.shape, 0.8, np.float32)
    made = parameterizations.mask(x)
    found = visualize(made, [penalties.mask_area(weight=0.5)])
    kept = np.asarray(jax.nn.sigmoid(found.parameters))
    assert (kept > 0.5).nonzero()[0].tolist() == [0, 0, 1] and (kept > 0.5).nonzero()[1].tolist() == [3, 4, 9]
    before = program.programs(None).advance.compiled()
    other = visualize(parameterizations.mask(0.5 * x), [penalties.mask_area(weight=0.5)])
    assert program.programs(None).advance.compiled() == before, "another sound of the same shape"
    assert not np.allclose(other.inputs, found.inputs)


def test_variation_joins_pieces_and_early_lets_go():
    x = np.full(MEL.shape, 0.8, np.float32)
    made = parameterizations.mask(x)
    rough, smooth = (
        visualize(made, [penalties.mask_area(weight=0.5), penalties.mask_variation(weight)]) for weight in (0.0, 2.0)
    )
    steps = [float(np.abs(np.diff(np.asarray(jax.nn.sigmoid(found.parameters)))).sum()) for found in (rough, smooth)]
    assert steps[1] < 0.5 * steps[0]
    late = visualize(made, [penalties.early(penalties.mask_area(weight=0.5), 0.2)])
    assert late.inputs.mean() > rough.inputs.mean() + 0.05


def test_penalties_by_hand():
    made = parameterizations.mask(example(MEL), per="band", bounds="none", start=0.0)
    m = jnp.asarray([0.0, 1.0, 1.0, 0.0, 0.0, 0.5, 0.0, 0.5])
    assert float(penalties.mask_area().of(made, m, MEL)) == pytest.approx(3 / 8)
    assert float(penalties.mask_area(0.5).of(made, m, MEL)) == 0
    assert float(penalties.mask_variation().of(made, m, MEL)) == pytest.approx(3.5 / 7)
    # A number below zero turns a part round, which keeps as much of it as one above.
    assert float(penalties.mask_area().of(made, -m, MEL)) == pytest.approx(3 / 8)
    assert penalties.mask_area(0.2, weight=3.0).label == "mask_area(0.2) x 3"


def test_saved_and_run_again(tmp_path):
    made = parameterizations.mask(example(MEL), per="cell", width=2)
    found = visualize(made, [penalties.mask_area(0.1)], steps=5)
    loaded = Visualization.load(found.save(tmp_path / "result"), network=network())
    again = loaded.rerun([1])
    chex.assert_trees_all_equal(again.inputs[0], found.inputs[1])
    lost = {**loaded.__dict__, "carried": {}}
    with pytest.raises(ValueError, match="has an array that was not kept: pass the parameterization by hand"):
        Visualization(**lost).rerun([1])


@pytest.mark.parametrize(
    ("make", "given", "words"),
    [
        (lambda: parameterizations.mask(np.ones((3, 3))), MEL, r"x must be one input of shape \(8, 12, 1\)"),
        (lambda: parameterizations.mask(example(MEL), np.ones(2)), MEL, "baseline must be one input"),
        (lambda: parameterizations.mask(np.full(MEL.shape, np.nan)), MEL, "must be finite"),
        (lambda: parameterizations.mask(example(MEL), width=13), MEL, "width must be at most 12"),
        (lambda: parameterizations.mask(example(MEL), width=0), MEL, "width must be a whole number"),
        (lambda: parameterizations.mask(example(MEL), per="sample"), MEL, "per='sample' is for waveforms"),
        (lambda: parameterizations.mask(example(IMAGE), per="band"), IMAGE, "needs a domain with a frequency axis"),
        (lambda: parameterizations.mask(example(MEL), per="frames"), MEL, "unknown per 'frames'.*'frame'"),
        (lambda: parameterizations.mask(example(MEL), start=1.0), MEL, "start must lie between 0 and 1"),
        (lambda: penalties.mask_area(2.0), MEL, "share must lie in 0 ... 1"),
    ],
)
def test_senseless_masks_end_in_one_sentence(make, given, words):
    with pytest.raises(ValueError, match=words):
        make().init(jax.random.key(0), given)


def test_a_mask_penalty_without_a_mask_is_refused():
    with pytest.raises(ValueError, match=r"MaskArea is for parameterizations.mask"):
        visualize(parameterizations.pixels(), [penalties.mask_area()])
