"""Settings chosen by measurement: strengths side by side in one sweep, and the choice that the natural inputs make."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nd_jax as nd
from nd_jax import tuning
from nd_jax.visualize import program

DOMAIN = nd.domain.Image(shape=(24, 4, 1))


class Rows(nn.Module):
    """Twenty-four units: the mean of a row each, so that a bright row is all that a unit wants."""

    @nn.compact
    def __call__(self, x):
        rows = nn.Dense(24, use_bias=False, name="rows")(x[..., 0].mean(axis=2))
        return nn.Dense(4, name="head")(rows)


@pytest.fixture(scope="module")
def network():
    module = Rows()
    variables = module.init(jax.random.key(0), jnp.zeros((1, *DOMAIN.shape)))
    params = {**variables["params"], "rows": {"kernel": jnp.eye(24)}}
    return nd.Network(module, {"params": params}, input=DOMAIN)


@pytest.fixture(scope="module")
def natural():
    """Grey pictures, in which now one row is brighter, now another, but never as bright as it could be."""
    draws = np.random.default_rng(0)
    bright = 0.2 + 0.1 * draws.random((400, 1, 1))
    which = np.eye(24)[draws.integers(0, 24, 400)][:, :, None]
    return (0.5 + bright * which * np.ones((1, 1, 4)) + 0.02 * draws.random((400, 24, 4)))[..., None]


KNOBS = (
    tuning.Knob("grey", (nd.penalties.l2(weight=1.0),), (0.0, 100.0, 1000.0, 100000.0)),
    tuning.Knob("brightness", (nd.transforms.brightness(0.3),), (0.0, 1.0)),
)
SETTINGS = {
    "parameterization": nd.parameterizations.pixels(),
    "steps": 60,
    "optimizer": nd.visualize.adam(0.1),
    "progress": False,
}


@pytest.fixture(scope="module")
def tuned(network, natural):
    return tuning.tune(network, "rows", natural, key=jax.random.key(1), knobs=KNOBS, **SETTINGS)


def lane(result, at):
    return jax.tree.map(lambda leaf: leaf[at], result.parameters)


def test_strengths_are_what_penalties_and_transforms_with_those_numbers_are(network):
    costs, moves = [nd.penalties.l2(weight=1.0)], [nd.transforms.brightness(0.3), nd.transforms.jitter(1)]
    plain = {"key": jax.random.key(0), "steps": 12, "polish": 0.0, "parameterization": nd.parameterizations.pixels()}
    units = nd.objectives.channel("rows", [3] * 4)
    rows = [[1, 1, 1], [0, 1, 1], [0.5, 0, 1], [2, 0, 0]]

    def run(objective, **settings):
        return nd.visualize_batch(network, objective, **{**plain, "progress": False, "restarts": 0, **settings})

    side = run(units, penalties=costs, transforms=moves, strengths=rows, replicates=[0] * 4)
    one = nd.objectives.channel("rows", [3])
    alone = [
        run(one, penalties=costs, transforms=moves),
        run(one, transforms=moves),
        run(one, penalties=[nd.penalties.l2(weight=0.5)], transforms=moves, strengths=[1, 0, 1]),
        run(one, penalties=[nd.penalties.l2(weight=2.0)], transforms=()),
    ]
    for at, other in enumerate(alone):
        chex.assert_trees_all_close(lane(side, at), lane(other, 0), atol=1e-5)
    assert not np.allclose(side.inputs[0], side.inputs[1])
    chex.assert_trees_all_equal(side.rerun([2], progress=False).inputs[0], side.inputs[2])
    # Other strengths are other numbers for the same program.
    before = program.programs(None).advance.compiled()
    run(units, penalties=costs, transforms=moves, strengths=rows[::-1], replicates=[0] * 4)
    assert program.programs(None).advance.compiled() == before
    for wrong, message in (
        ([1.0, 1.0], "strengths are 1 factors on penalties and 2 chances"),
        ([1.0, 1.5, 0.0], "chances of 0 to 1"),
        ([-1.0, 1.0, 0.0], "factors of 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            run(one, penalties=costs, transforms=moves, strengths=wrong)


def test_a_chance_is_how_often(network):
    # One step up the square of a row, whose slope depends on whether brightness was changed before it was taken.
    settings = {
        "key": jax.random.key(0),
        "steps": 1,
        "polish": 0.0,
        "transforms": [nd.transforms.brightness(0.5)],
        "replicates": list(range(64)),
        "parameterization": nd.parameterizations.pixels(),
        "optimizer": optax.sgd(1.0),
        "restarts": 0,
        "progress": False,
    }
    squared = nd.objectives.channel("rows", [0] * 64, power=2)
    never, often, always = (
        nd.visualize_batch(network, squared, strengths=[chance], **settings).inputs for chance in (0.0, 0.5, 1.0)
    )
    moved = np.abs(often - never).max(axis=(1, 2, 3)) > 1e-6
    assert 16 <= moved.sum() <= 48
    chex.assert_trees_all_close(often[moved], always[moved], atol=1e-6)


def test_the_choice_is_nearest_to_nature_on_both_halves(tuned):
    assert tuned.strengths[0].tolist() == [0.0, 1.0]
    assert len(tuned.strengths) == 8
    half, other = tuned.units
    assert sorted(half + other) == list(range(24))
    assert tuned.chosen == int(np.argmin(tuned.tuning))
    # Too little restraint is too bright, too much is grey: neither end is chosen, and it holds for the other units.
    assert tuned.strengths[tuned.chosen][0] == 1000.0
    grey = np.flatnonzero(tuned.strengths[:, 0] == 100000.0)
    assert (tuned.held_out[grey] > tuned.held_out[tuned.chosen]).all()
    assert tuned.held_out[tuned.chosen] < tuned.held_out[0]
    assert tuned.score[0] > 1
    assert "grey" in tuned.words()


def test_chosen_settings_are_kept_and_used(network, tuned, tmp_path):
    path = tuning.save(tmp_path / "settings.json", network, [tuned])
    settings = tuning.load(path).check(network)
    given = settings("rows")
    assert given["strengths"].tolist() == list(tuned.row)
    result = nd.visualize_batch(
        network, nd.objectives.channel("rows", [2]), key=jax.random.key(1), **given, progress=False
    )
    assert result.manifest["settings"]["penalties"] == tuned.settings["penalties"]
    assert result.scale == pytest.approx(tuned.scale)
    swept = nd.visualize.sweep(
        network, tmp_path / "sweep", key=jax.random.key(1), layers=["rows"], units=3, settings=settings, progress=False
    )
    chex.assert_trees_all_equal(swept.result("rows").inputs[2], result.inputs[0])
    with pytest.raises(ValueError, match="no settings were chosen for 'head'"):
        settings("head")
    other = nd.Network(Rows(), jax.tree.map(lambda leaf: leaf + 1, network.variables), input=DOMAIN)
    with pytest.raises(ValueError, match="chosen for a network of digest"):
        settings.check(other)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"does not hold settings that nd_jax.tuning wrote"):
        tuning.load(tmp_path / "other.json")


def test_mistakes_give_one_sentence(network, natural):
    with pytest.raises(ValueError, match="penalties is what the knobs decide"):
        tuning.tune(network, "rows", natural, key=jax.random.key(0), penalties=[])
    with pytest.raises(ValueError, match="4 units and 2 natural inputs or more, got 2 and 400"):
        tuning.tune(network, "rows", natural, key=jax.random.key(0), units=[0, 1])
    broken = np.array(natural)
    broken[3, 0, 0, 0] = np.nan
    mixed = tuning.Knob("mixed", (nd.penalties.l2(), nd.transforms.brightness(0.3)), (0.0, 1.0))
    for given, more, words in (
        (broken, {}, "natural inputs must be finite numbers, and some are not"),
        (natural[:, :3], {}, r"natural inputs must be inputs of shape \(m, \*\(24, 4, 1\)\), got \(400, 3, 4, 1\)"),
        (natural, {"units": [0, 1, 2, 99]}, "units lie in 0 ... 23, got 99"),
        (natural, {"units": [0, 0, 1, 1]}, r"a unit is given twice: \[0, 0, 1, 1\]"),
        (natural, {"inputs_per_lane": 2}, "tuning takes one input a lane, got inputs_per_lane=2"),
        (natural, {"knobs": (mixed,)}, "knob 'mixed' must have penalties or transforms"),
    ):
        with pytest.raises(ValueError, match=words):
            tuning.tune(network, "rows", given, key=jax.random.key(0), **more)
    names = [knob.name for knob in tuning.default_knobs(network)]
    assert names[0] == "smoothness"
