"""Generators as priors: what fits what, one lane alone and in company, no copies of weights, saved by reference."""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nd_jax as nd
from nd_jax import audio, domain
from nd_jax.network import Network, digest
from nd_jax.networks import mel_dcgan, wavegan
from nd_jax.visualize import Visualization, objectives, parameterizations, penalties, program

KEY = jax.random.key(3)
NAMES = ("low", "mid", "high")
MEL = domain.LogMel(audio.LogMel(sample_rate=8000, n_fft=64, hop_length=32, n_mels=8), frames=12)


def invented(module, given, seed=0):
    shapes = jax.eval_shape(module.init, jax.random.key(0), given)
    draw = np.random.default_rng(seed)

    def one(path, leaf):
        if path[0].key == "batch_stats":
            return np.full(leaf.shape, float(path[-1].key == "var"), np.float32)
        return (0.4 * draw.standard_normal(leaf.shape) + float(path[-1].key == "scale")).astype(np.float32)

    return jax.tree_util.tree_map_with_path(one, dict(shapes))


class Judge(nn.Module):
    """Three logits from any input."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(6, name="hidden")(x.reshape(x.shape[0], -1)))
        return nn.Dense(3, name="logits")(x)


def judge(given, seed=1):
    module = Judge()
    return Network(module, invented(module, jnp.zeros((1, *given.shape)), seed), input=given, card={"name": "judge"})


def mel_gan(output=MEL, classes=(), conditioning="concat", seed=0):
    module = mel_dcgan.Generator(latent=5, start=(2, 3), widths=(6, 4), classes=len(classes), conditioning=conditioning)
    given = {"z": jnp.zeros((1, 5)), "label": jnp.zeros(1, int)} if classes else jnp.zeros((1, 5))
    z = domain.Latent(5)
    taken = domain.Parts({"z": z, "label": domain.Label(classes)}) if classes else z
    return Network(module, invented(module, given, seed), input=taken, output=output, card={"name": "tiny mel GAN"})


def wave_gan(rate=16000, law="uniform"):
    module = wavegan.Generator(samples=256, dim=3, latent=6, layers=2, kernel=9)
    variables = invented(module, jnp.zeros((1, 6)))
    return Network(module, variables, input=domain.Latent(6, law=law), output=domain.Waveform(256, rate))


def visualize(network, units, generator, **changes):
    if "parameterization" not in changes:
        changes["parameterization"] = parameterizations.prior(generator)
    settings = {"steps": 30, "transforms": (), "restarts": 0}
    goal = objectives.logit(units)
    return nd.visualize_batch(network, goal, key=KEY, progress=False, snapshots=2, **{**settings, **changes})


@pytest.fixture(scope="module")
def raised():
    return visualize(judge(MEL), [0, 1, 2], mel_gan())


def test_a_mel_gan_before_a_mel_network_raises_every_score(raised):
    assert np.all(raised.history[1] > raised.history[0] + 0.02)
    generator = mel_gan()
    z = np.asarray(raised.parameters["z"])
    made = generator(z * np.sqrt(5.0) / np.linalg.norm(z, axis=1, keepdims=True))
    chex.assert_trees_all_close(raised.inputs, np.asarray(made), atol=1e-5)
    chex.assert_trees_all_close(raised.norm_percentile(), raised.norm_percentile()[:1].repeat(3), rtol=1e-3)
    assert 40 < raised.norm_percentile()[0] < 70


def test_a_lane_is_the_same_alone(raised):
    alone = visualize(judge(MEL), [1], mel_gan())
    chex.assert_trees_all_equal(alone.inputs[0], raised.inputs[1])
    chex.assert_trees_all_equal(alone.parameters["z"][0], raised.parameters["z"][1])


def test_weights_are_arguments_of_the_program(raised):
    before = program.programs(None).advance.compiled()
    other = visualize(judge(MEL), [0, 1, 2], mel_gan(seed=9))
    assert program.programs(None).advance.compiled() == before, "another generator of the same shape"
    assert not np.allclose(other.inputs, raised.inputs)
    assert set(raised.parameters) == {"z"} and raised.parameters["z"].shape == (3, 5)


@pytest.mark.parametrize("target", [MEL, domain.Waveform(300, 8000)], ids=lambda each: each.kind)
def test_a_wave_gan_before_a_network_of_another_rate(target):
    found = visualize(judge(target), [0, 2], wave_gan())
    assert np.all(found.history[1] > found.history[0])
    chex.assert_shape(found.inputs, (2, *target.shape))
    z = jax.scipy.special.erf(found.parameters["z"] / np.sqrt(2.0))
    made = wave_gan()(z)
    convert = domain.converter(wave_gan().output, target)
    chex.assert_trees_all_close(found.inputs, np.asarray(jax.vmap(convert)(made)), atol=1e-4)


def test_freed_latents_and_their_penalty():
    """The loss on the length holds what nothing else does; without both, a latent walks away from its law."""
    free = parameterizations.prior(mel_gan(), project=False)
    long, short = (
        visualize(judge(MEL), [0], mel_gan(), parameterization=free, penalties=cost)
        for cost in ((), [penalties.latent_length(l2=100.0)])
    )
    lengths = [float(np.linalg.norm(found.parameters["z"])) for found in (long, short)]
    assert lengths[1] < 0.8 * lengths[0]
    assert short.norm_percentile()[0] < long.norm_percentile()[0]
    z = jnp.arange(5.0)
    cost = penalties.latent_length(l2=2.0, l1=0.5)
    expected = (2.0 * 30.0 + 0.5 * 10.0) / (8 * 12)
    assert float(cost.of(free, {"z": z}, MEL)) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"LatentLength is for parameterizations.prior"):
        visualize(judge(MEL), [0], mel_gan(), parameterization=parameterizations.pixels(), penalties=[cost])


@pytest.mark.parametrize("conditioning", ["concat", "batch_norm"])
def test_classes_asked_for_free_and_held(conditioning):
    generator = mel_gan(classes=NAMES, conditioning=conditioning)
    z = jax.random.normal(jax.random.key(0), (5,))

    def made(label, /, **more):
        one = parameterizations.prior(generator, label=label, project=False)
        return one.apply({"z": z, **more}, MEL)

    asked = [generator({"z": z[None], "label": np.array([number])})[0] for number in range(3)]
    chex.assert_trees_all_close(made("mid"), asked[1], atol=1e-6)
    chex.assert_trees_all_close(made(2), asked[2], atol=1e-6)
    chex.assert_trees_all_close(made("free", label=jnp.asarray([0.0, 40.0, 0.0])), asked[1], atol=1e-5)
    chex.assert_trees_all_close(made("held", label=jnp.asarray([1.0, 0.0, 0.0])), asked[0], atol=1e-6)
    for label, moves in (("free", True), ("held", False)):
        slope = jax.grad(lambda one, label=label: jnp.sum(made(label, label=one) ** 2))(jnp.asarray([0.2, 0.5, 0.3]))
        assert bool(jnp.any(slope != 0)) == moves


def test_each_lane_holds_its_own_class():
    generator = mel_gan(classes=NAMES)
    made = parameterizations.prior(generator, label="held")
    start = made.starts(jax.random.key(5), 3, ["high", "low"])
    assert start["label"].argmax(1).tolist() == [2, 0, 2]
    chex.assert_trees_all_equal(made.starts(jax.random.key(5), 1, ["high"])["z"][0], start["z"][0])
    found = visualize(judge(MEL), [0, 1, 2], generator, parameterization=made, start=start, steps=4)
    chex.assert_trees_all_equal(found.parameters["label"], start["label"])
    assert not np.array_equal(found.parameters["z"], start["z"])
    another = visualize(judge(MEL), [0, 1, 2], generator, parameterization=parameterizations.prior(generator, label=0))
    before = program.programs(None).advance.compiled()
    visualize(judge(MEL), [0, 1, 2], generator, parameterization=parameterizations.prior(generator, label=2))
    assert program.programs(None).advance.compiled() == before and another.manifest


def test_saved_by_reference(raised, tmp_path):
    stored = raised.manifest["settings"]["parameterization"]["generator"]
    assert (stored["network"], stored["digest"]) == ("tiny mel GAN", digest(mel_gan()))
    again = raised.rerun([1])
    chex.assert_trees_all_equal(again.inputs[0], raised.inputs[1])
    folder = raised.save(tmp_path / "result")
    assert not list(folder.glob("**/*generator*"))
    loaded = Visualization.load(folder, network=judge(MEL))
    chex.assert_trees_all_equal(loaded.inputs, raised.inputs)
    chex.assert_trees_all_close(loaded.norm_percentile(), raised.norm_percentile())
    with pytest.raises(ValueError, match="went through the network 'tiny mel GAN' of digest"):
        loaded.rerun([1])
    again = loaded.rerun([1], parameterization=parameterizations.prior(mel_gan()))
    chex.assert_trees_all_equal(again.inputs[0], raised.inputs[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: parameterizations.prior(None), "takes a generator, a nd_jax Network, got NoneType"),
        (lambda: parameterizations.prior(judge(MEL)), "not a generator: it takes log-mel inputs"),
        (lambda: parameterizations.prior(mel_gan(), label=1), "generator has no classes"),
        (lambda: parameterizations.prior(mel_gan(classes=NAMES)), "asked for one of 3 classes"),
        (lambda: parameterizations.prior(mel_gan(classes=NAMES), label="lw"), "no class 'lw'.*'low'"),
        (lambda: parameterizations.prior(mel_gan(), sd=-1), "sd must be a number"),
        (lambda: parameterizations.prior(mel_gan()).starts(KEY, 2, ["low"]), "labels where the prior has"),
        (lambda: parameterizations.invert(parameterizations.prior(mel_gan()), jnp.zeros(MEL.shape), MEL), "no method"),
    ],
)
def test_senseless_priors_end_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_generator_that_does_not_fit_is_refused_before_anything_compiles():
    other = dataclasses.replace(MEL, transform=dataclasses.replace(MEL.transform, hop_length=16))
    with pytest.raises(ValueError, match="hop_length 16 cannot become those with hop_length 32; what fits is"):
        visualize(judge(MEL), [0], mel_gan(output=other))


def test_a_generator_that_cannot_mix_says_so():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, given):
            row = nn.Embed(3, 4)(given["label"])
            return nn.sigmoid(nn.Dense(96)(jnp.concatenate([given["z"], row], axis=-1))).reshape(-1, 8, 12, 1)

    module = Own()
    given = {"z": jnp.zeros((1, 5)), "label": jnp.zeros(1, int)}
    taken = domain.Parts({"z": domain.Latent(5), "label": domain.Label(NAMES)})
    generator = Network(module, invented(module, given), input=taken, output=MEL)
    parameterizations.prior(generator, label=0)
    with pytest.raises(ValueError, match="takes whole classes only"):
        parameterizations.prior(generator, label="free")


def test_the_atlas_shows_how_usual_a_latent_is(raised, tmp_path):
    nd.report.atlas(raised, tmp_path / "atlas")
    found = f'"latent":{round(float(raised.norm_percentile()[0]), 1)}'
    pages = [path.read_text(errors="ignore").replace(" ", "") for path in (tmp_path / "atlas").rglob("*.js*")]
    assert {page.count(found) for page in pages} == {3}, "once a lane, in every file that holds details"


def test_dropout_reaches_the_latent_behind_a_prior():
    """One step of plain descent: what was dropped has no slope, others at every lane, none in the polish."""
    free = parameterizations.prior(mel_gan(), project=False)
    start = free.starts(KEY, 24)
    settings = {
        "parameterization": free,
        "optimizer": optax.sgd(1.0),
        "transforms": [nd.transforms.latent_dropout(0.5), nd.transforms.gain(1.0)],
        "start": start,
        "steps": 1,
    }

    def still(polish):
        found = visualize(judge(MEL), [0], mel_gan(), replicates=24, polish=polish, **settings)
        return found.parameters["z"] == start["z"]

    dropped = still(0.0)
    assert 0.3 < dropped.mean() < 0.7 and len(np.unique(dropped, axis=0)) > 8
    assert not still(1.0).any()


def test_noise_on_the_latent_behind_a_prior(raised):
    def noisy(sd, units=(0, 1, 2), **changes):
        made = {"transforms": [nd.transforms.latent_noise(sd)], "polish": 0.0, **changes}
        return visualize(judge(MEL), list(units), mel_gan(), **made)

    chex.assert_trees_all_close(noisy(0.0).inputs, raised.inputs, atol=1e-3)
    much = noisy(1.0)
    assert not np.allclose(much.parameters["z"], raised.parameters["z"], atol=1e-2)
    chex.assert_trees_all_equal(noisy(1.0, [1]).parameters["z"][0], much.parameters["z"][1])
    chex.assert_trees_all_equal(much.rerun([2]).inputs[0], much.inputs[2])
    with pytest.raises(ValueError, match=r"latent_noise is for a generator's latent, not for 'log_mel'.*prior"):
        noisy(1.0, parameterization=parameterizations.pixels())


def test_lanes_spread_over_devices(raised):
    spread = visualize(judge(MEL), [0, 1, 2], mel_gan(), devices=jax.devices()[:2], steps=5)
    here = visualize(judge(MEL), [0, 1, 2], mel_gan(), steps=5)
    chex.assert_trees_all_close(spread.inputs, here.inputs, atol=1e-4)
