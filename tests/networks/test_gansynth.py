"""GANSynth's networks are the official ones: outputs in every stage of growth, layers, sizes, bad input."""

from __future__ import annotations

import dataclasses

import chex
import gansynth_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import generators, networks
from nd_jax.domain import Image, Label, Latent, Parts
from nd_jax.networks import deviation, gansynth

SMALL = {"blocks": 3, "start": (2, 4), "fmap_base": 32.0, "fmap_max": 8, "classes": 3}


@pytest.fixture(scope="module")
def tiny(shared):
    return reference.load(shared)


def _run(module, variables, x):
    return jax.jit(lambda variables, x: module.apply(variables, x))(variables, x)


def _small(**changes):
    maker = gansynth.Generator(latent=6, **SMALL)
    judge = gansynth.Discriminator(**SMALL, **changes)
    given = {"z": jnp.zeros((2, 6)), "label": jnp.zeros(2, jnp.int32)}
    shape = gansynth.picture_shape(judge)
    both = (
        jax.jit(maker.init)(jax.random.key(0), given),
        jax.jit(judge.init)(jax.random.key(1), jnp.zeros((2, *shape))),
    )
    names = ("C4", "D4", "E4")
    domain = Image(shape, -16.0, 16.0)
    return (
        nd.Network(maker, both[0], Parts({"z": Latent(6), "label": Label(names)}), domain),
        nd.Network(judge, both[1], domain, labels={"score": ["real"], "label": names}),
    )


def test_the_grown_networks_are_the_official_ones(tiny):
    variables, io = tiny
    given = {"z": io["z"], "label": io["label_index"]}
    maker = gansynth.Generator(latent=16, **reference.TINY)
    # Where a place has little before pixel norm, float32 is unsure: the reference of the raw weights itself by 7e-5.
    for suffix, name, off in ((reference.EMA, "ema", 5e-5), ("", "raw", 3e-4)):
        made = _run(maker, reference.params(variables, "Generator", suffix), given)
        squashed = made * np.float32(gansynth.GAIN)[None, None, None] + np.float32(gansynth.OFFSET)[None, None, None]
        chex.assert_trees_all_close(squashed, io[f"gen_{name}_tanh"], atol=off)
        if suffix:
            chex.assert_trees_all_close(made, io["gen_ema_data"], atol=5e-4)
    judge = gansynth.Discriminator(**reference.TINY)
    for x, name in ((io["real"], "real"), (io["gen_ema_data"], "fake")):
        found = _run(judge, reference.params(variables, "Discriminator"), x)
        chex.assert_trees_all_close(found["score"], io[f"D_{name}_logits"], atol=1e-5)
        chex.assert_trees_all_close(found["label"], io[f"D_{name}_pitch_logits"], atol=1e-5)


def test_every_stage_of_growth_is_the_official_one(tiny):
    variables, io = tiny
    given = {"z": io["z"], "label": io["label_index"]}
    gain, offset = (np.float32(pair)[None, None, None] for pair in (gansynth.GAIN, gansynth.OFFSET))
    for grown in sorted({int(blocks) for blocks, _ in io["prog_cases"]}):
        maker = gansynth.Generator(latent=16, **reference.TINY, grown=grown)
        judge = gansynth.Discriminator(**reference.TINY, grown=grown)

        @jax.jit
        def run(both, progress, given, real, maker=maker, judge=judge, grown=grown):
            made = maker.apply(both[0], given, progress=progress)
            blended = gansynth.blend(real, progress, grown, reference.TINY["blocks"])
            return made * gain + offset, judge.apply(both[1], real, progress=progress), blended

        both = (
            reference.params(variables, "Generator", reference.EMA, grown),
            reference.params(variables, "Discriminator", blocks=grown),
        )
        for index, (blocks, progress) in enumerate(io["prog_cases"]):
            if blocks == grown:
                made, said, blended = run(both, progress, given, io["real"])
                chex.assert_trees_all_close(made, io[f"prog{index}_gen_ema_tanh"], atol=5e-5)
                chex.assert_trees_all_close(said["score"], io[f"prog{index}_D_logits"], atol=1e-5)
                chex.assert_trees_all_close(said["label"], io[f"prog{index}_D_pitch_logits"], atol=1e-5)
                chex.assert_trees_all_close(blended, io[f"prog{index}_blend"], atol=2e-5)


def test_a_progress_that_is_known_leaves_nothing_out(tiny):
    variables, io = tiny
    cases = [gansynth.Discriminator(**reference.TINY, progress=value) for value in (1.0, 2.25)]
    for module in cases:
        found = _run(module, reference.params(variables, "Discriminator"), io["real"])
        traced = jax.jit(lambda v, x, p: gansynth.Discriminator(**reference.TINY).apply(v, x, progress=p))(
            reference.params(variables, "Discriminator"), io["real"], module.progress
        )
        chex.assert_trees_all_close(found, traced, atol=1e-6)
    for progress in (0.0, 1.5, 3.0):
        known, unknown = (gansynth.generator_shares(value, 4) for value in (progress, jnp.float32(progress)))
        assert np.allclose(known, np.asarray(unknown)) and sum(known) == 1.0
        chex.assert_trees_all_close(
            gansynth.blend(jnp.asarray(io["real"]), progress, 4, 4),
            gansynth.blend(jnp.asarray(io["real"]), jnp.float32(progress), 4, 4),
        )


def test_parameters_at_the_official_size():
    maker, judge = gansynth.Generator(), gansynth.Discriminator()
    given = {"z": jnp.zeros((2, 256)), "label": jnp.zeros(2, jnp.int32)}
    x, params = jax.eval_shape(lambda: maker.init_with_output(jax.random.key(0), given))
    assert x.shape == (2, 128, 1024, 2) == (2, *gansynth.picture_shape(maker))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 7_311_246 and len(jax.tree.leaves(params)) == 42
    said, params = jax.eval_shape(lambda x: judge.init_with_output(jax.random.key(0), x), x)
    assert jax.tree.map(jnp.shape, said) == {"score": (2, 1), "label": (2, 61)}
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 6_831_230 and len(jax.tree.leaves(params)) == 46


def test_layers_saving_and_a_single_example(tmp_path):
    maker, judge = _small()
    assert nd.taps.layers(maker)["block3/norm1"] == (8, 16, 4)
    assert list(nd.taps.layers(maker))[:5] == [
        "pixel_norm",
        *(f"block1/{layer}" for layer in ("conv0", "relu0", "norm0", "conv1")),
    ]
    assert nd.taps.layers(maker)["to_rgb1/tanh"] == (2, 4, 2) and nd.taps.layers(maker)["blend"] == (8, 16, 2)
    assert nd.taps.layers(judge)["block3/relu1"] == (8, 16, 8) and nd.taps.layers(judge)["block3"] == (4, 8, 8)
    assert nd.taps.layers(judge)["pitch"] == (3,) and nd.taps.outputs(judge)["output[label]"] == "pitch"
    given = generators.inputs(maker, 0, 6, labels=["D4"])
    notes = generators.make(maker, given)
    chex.assert_shape(notes, (6, 8, 16, 2))
    module = deviation.frozen(judge.module, judge.variables, [notes[:4], notes[2:]])
    alive = [float(nd.taps.read(judge, part, "deviation")["deviation"][0, 0, 0, -1]) for part in (notes[:4], notes[2:])]
    assert module.deviation == pytest.approx(np.mean(alive), rel=1e-5) and min(alive) > 0.01
    with pytest.raises(ValueError, match="a batch of 1 has no deviation to freeze"):
        deviation.frozen(judge.module, judge.variables, [notes[:1]])
    with pytest.raises(ValueError, match="these batches have no finite deviation"):
        deviation.frozen(judge.module, judge.variables, [notes[:4] * jnp.nan])
    fixed = nd.Network(module, judge.variables, judge.input, labels=judge.labels)
    loaded = nd.load(fixed.save(tmp_path / "judge"))
    assert loaded.module == module
    # What the others of a batch are no longer matters.
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[:1], loaded(notes)), loaded(notes[:1]), atol=1e-5)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[:1], judge(notes)), judge(notes[:1]), atol=1e-5)
    again = nd.load(maker.save(tmp_path / "maker"))
    chex.assert_trees_all_equal(again(given), maker(given))
    trained = judge.module.clone(deviation=7.0).apply(judge.variables, notes, train=True)
    chex.assert_trees_all_close(trained, judge.module.apply(judge.variables, notes), atol=1e-6)


def test_what_a_batch_decides_is_not_looked_into_before_it_is_frozen(tmp_path):
    """Up to the deviation an example is what it is; from there on it would be one that training never saw."""
    _, live = _small()
    x = np.asarray(live.input.silence())[None]
    assert nd.taps.read(live, np.repeat(x, 2, 0), ["deviation"])["deviation"].shape[0] == 2
    goal = nd.objectives.channel("block3/conv1", [0])
    nd.visualize_batch(live, goal, key=jax.random.key(0), steps=1, snapshots=0, progress=False)
    sentence = (
        r"depends on the other examples of its batch.* freeze 'deviation' over batches of real ones first, .*frozen"
    )
    for call in (
        lambda: nd.visualize_batch(live, nd.objectives.logit(["E4"], part="label"), key=jax.random.key(0)),
        lambda: nd.visualize_batch(live, nd.objectives.channel("block1/conv0", [0]), key=jax.random.key(0)),
        lambda: nd.attribute.saliency(live, x, nd.objectives.logit(["E4"], part="label")),
        lambda: nd.attribute.unit_maps(live, x, "block1/conv0"),
        lambda: nd.dissect.record(live, layers=["pitch"], folder=tmp_path, inputs=x),
        lambda: nd.dissect.exemplars(live, inputs=x, layers=["block3/conv1", "logits"]),
    ):
        with pytest.raises(nd.taps.LayerError, match=sentence) as caught:
            call()
        assert "\n" not in str(caught.value)
    batches = [np.asarray(jax.random.normal(jax.random.key(1), (3, *live.input.shape)))]
    frozen = dataclasses.replace(live, module=deviation.frozen(live.module, live.variables, batches))
    assert nd.taps.layer_shape(frozen, "pitch") == (3,)


def test_wrong_sizes_are_refused_in_one_sentence():
    given = {"z": jnp.zeros((2, 6)), "label": jnp.zeros(2, jnp.int32)}
    maker = gansynth.Generator(latent=6, **SMALL)
    for changes, words in (
        ({"grown": 4}, "at most as many grown ones, not blocks 3 and grown 4"),
        ({"blocks": 0}, "1 block or more"),
        ({"start": (0, 4)}, "start of 1 or more places"),
        ({"gain": (1.0, 0.0)}, "gain, not 0"),
        ({"fmap_base": 7.0}, "leaves block 3 of gansynth_generator no channels; take 8 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(maker.clone(**changes).init, jax.random.key(0), given)
    with pytest.raises(ValueError, match=r"gansynth_generator takes latents of shape \(batch, 6\), got \(2, 5\)"):
        jax.eval_shape(maker.init, jax.random.key(0), given | {"z": jnp.zeros((2, 5))})
    with pytest.raises(ValueError, match="with 3 classes takes"):
        jax.eval_shape(maker.init, jax.random.key(0), given["z"])
    judge = gansynth.Discriminator(**SMALL)
    with pytest.raises(ValueError, match=r"pictures of shape \(batch, 8, 16, 2\), got \(2, 16, 8, 2\)"):
        jax.eval_shape(judge.init, jax.random.key(0), jnp.zeros((2, 16, 8, 2)))
    for progress in (-1.0, 3.0, float("nan")):
        with pytest.raises(ValueError, match="progress of gansynth_discriminator with 3 blocks is 0 to 2, not"):
            jax.eval_shape(judge.clone(progress=progress).init, jax.random.key(0), jnp.zeros((2, 8, 16, 2)))
    with pytest.raises(ValueError, match="one batch of real examples"):
        deviation.frozen(judge, {}, [])
    with pytest.raises(ValueError, match="has no minibatch deviation to freeze"):
        deviation.frozen(maker, {}, [])
    maker, _ = _small()
    with pytest.raises(ValueError, match="no class 'F4'; did you mean"):
        generators.inputs(maker, 0, 2, labels=["F4"])
    assert networks.family_of(maker.module) == "gansynth_generator"
