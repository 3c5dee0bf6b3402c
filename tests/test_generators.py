"""What generators take and make: the same for a seed and a number, whatever else is asked for."""

from __future__ import annotations

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import generators
from nd_jax.domain import Image, Label, Latent, Parts
from nd_jax.networks import gansynth

WORDS = ("zero", "one", "seven")


class Maker(nn.Module):
    """Images of 4 x 4 from a latent and a class."""

    @nn.compact
    def __call__(self, given, train=False):
        if isinstance(given, dict):
            given = jnp.concatenate([given["z"], jax.nn.one_hot(given["label"], len(WORDS))], axis=-1)
        return jnp.tanh(nn.Dense(16)(nn.relu(nn.Dense(64)(given)))).reshape(-1, 4, 4, 1)


def network(takes):
    empty = jax.tree.map(lambda leaf: leaf[None], takes.silence())
    variables = Maker().init(jax.random.key(0), empty)
    return nd.Network(Maker(), variables, input=takes, output=Image((4, 4, 1), -1, 1))


@pytest.fixture(scope="module")
def plain():
    return network(Latent(5))


@pytest.fixture(scope="module")
def conditional():
    return network(Parts({"z": Latent(5), "label": Label(WORDS)}))


def test_a_sample_depends_on_seed_and_number_only(plain):
    many = generators.inputs(plain, 7, 40)
    chex.assert_shape(many, (40, 5))
    chex.assert_trees_all_equal(generators.inputs(plain, 7, 3), many[:3])
    assert np.abs(generators.inputs(plain, 8, 40) - many).min() > 0
    assert len({row.tobytes() for row in many}) == 40
    made = generators.make(plain, many)
    chex.assert_shape(made, (40, 4, 4, 1))
    for count in (1, 3, 17):
        chex.assert_trees_all_equal(generators.make(plain, many[:count]), made[:count])
    chex.assert_trees_all_close(made, np.asarray(plain(many)), atol=1e-6)


def test_outputs_are_float32_whatever_the_network_computes_in(plain):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), plain.variables)
    network = dataclasses.replace(plain, variables=half)
    given = generators.inputs(plain, 0, 2).astype(jnp.bfloat16)
    assert network(given).dtype == jnp.bfloat16
    assert generators.make(network, given).dtype == np.float32


def test_progress_is_told_in_whole_samples(plain):
    told = []
    generators.make(plain, generators.inputs(plain, 0, 21), progress=lambda done, total: told.append((done, total)))
    assert told == [(16, 21), (21, 21)]


def test_classes_come_in_turn(conditional):
    assert generators.classes_of(conditional) == WORDS
    given = generators.inputs(conditional, 0, 7)
    assert given["label"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    asked = generators.inputs(conditional, 0, 5, labels=["seven", "0"])
    assert asked["label"].tolist() == [2, 0, 2, 0, 2]
    chex.assert_trees_all_equal(asked["z"], given["z"][:5])
    made = generators.make(conditional, asked)
    chex.assert_trees_all_equal(made[:2], generators.make(conditional, jax.tree.map(lambda leaf: leaf[:2], asked)))


def test_a_name_that_is_a_number_is_the_name():
    digits = network(Parts({"z": Latent(5), "label": Label(("2", "1", "0"))}))
    assert generators.class_numbers(digits, ["2", "1", 2]) == [0, 1, 2]


def test_pitches_are_asked_for_by_name_or_midi_number():
    """ "60" means C4 to who asks for pitches, wherever C4 stands; a whole number that is no text is a place."""
    names = ("F#3", "G3", "G#3", "C4", "C#4")
    assert generators.named_numbers(names, ["60", "Ab3", "c4", "G3", 0]) == [3, 2, 3, 1, 0]
    assert generators.named_numbers(("48", "60"), ["60", "C3", "C4"]) == [1, 0, 1]
    # In a network with 61 pitches, 30 is a place too: text is the pitch.
    official = [f"{'C C# D D# E F F# G G# A A# B'.split()[midi % 12]}{midi // 12 - 1}" for midi in range(24, 85)]
    assert generators.named_numbers(official, ["30", 30]) == [6, 30]
    for given, called, words in (
        ("4", names, "no class '4'; .* .or a MIDI number from 54 to 61"),
        ("C5", names, "no class 'C5'; .* .or a MIDI number from 54 to 61"),
        ("H4", names, "no class 'H4'; .* .or a MIDI number from 54 to 61"),
        ("5", ("48", "60"), "no class '5'; .* .or one from 48 to 60"),
        (60, names, "no class '60'; .*a number from 0 to 4, in their order; for the MIDI number give a text, '60'"),
        (-1, names, "no class '-1'; "),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            generators.named_numbers(called, [given])
        assert "\n" not in str(caught.value)
    assert [generators.pitch_of(name) for name in ("C-1", "Bb2", "A♯2", "flute", "60", "C")] == [
        0,
        46,
        46,
        None,
        60,
        None,
    ]


@pytest.mark.parametrize("classes", [0, 3])
def test_truncation_is_refused_where_the_length_of_a_latent_is_not_how_usual_it_is(classes):
    module = gansynth.Generator(latent=4, classes=classes, blocks=1, fmap_base=2, start=(2, 2))
    takes = Parts({"z": Latent(4), "label": Label(WORDS)}) if classes else Latent(4)
    variables = module.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[None], takes.silence()))
    sings = nd.Network(module, variables, input=takes, output=nd.domain.Units(8))
    assert generators.length_weighs(sings)
    chex.assert_trees_all_equal(generators.inputs(sings, 0, 2, truncation=1.0), generators.inputs(sings, 0, 2))
    words = "weighs the latent against the class" if classes else "it reads the direction of a latent alone"
    with pytest.raises(ValueError, match=f"truncation 0.7 is not for this generator: .*{words}"):
        generators.inputs(sings, 0, 2, truncation=0.7)


def test_the_law_and_truncation(plain):
    z = generators.inputs(plain, 0, 4000)
    assert abs(z.std() - 1) < 0.03
    chex.assert_trees_all_close(generators.inputs(plain, 0, 4000, truncation=0.5), z / 2)
    flat = generators.inputs(network(Latent(5, "uniform")), 0, 4000)
    assert abs(flat.std() - 3**-0.5) < 0.01
    assert np.abs(flat).max() <= 1


def test_slerp_goes_along_the_sphere(getkey):
    one, other = np.asarray(jax.random.normal(getkey(), (2, 20)))
    way = generators.slerp(one, other, np.linspace(0, 1, 9))
    chex.assert_trees_all_close((way[0], way[-1]), (one, other), atol=1e-5)
    lengths = np.linalg.norm(way, axis=1)
    chex.assert_trees_all_close(lengths, np.linspace(lengths[0], lengths[-1], 9), rtol=1e-5)
    units = way / lengths[:, None]
    steps = np.arccos(np.sum(units[1:] * units[:-1], axis=1))
    chex.assert_trees_all_close(steps, np.full(8, steps.mean()), rtol=1e-3)
    chex.assert_trees_all_close(generators.slerp(one, one, [0.3]), one[None], atol=1e-5)
    assert np.isfinite(generators.slerp(one, 0 * one, [0.0, 0.5])).all()
    # White's formula as it stands: (sin((1 - t) w) a + sin(t w) b) / sin(w).
    right = np.asarray([3.0, 0.0]), np.asarray([0.0, 1.0])
    found = generators.slerp(*right, [0.5], proportional=False)
    chex.assert_trees_all_close(found, np.asarray([[3.0, 1.0]], np.float32) * np.sqrt(0.5), rtol=1e-6)
    for same in (one, 2 * one, -one, 0 * one):
        assert np.isfinite(generators.slerp(one, same, [0.0, 0.3, 1.0], proportional=False)).all()


def test_what_cannot_be_is_one_sentence(plain, conditional):
    classifier = nd.Network(
        Maker(), Maker().init(jax.random.key(0), jnp.zeros((1, 5))), input=nd.domain.Units(5), output=Image((4, 4, 1))
    )
    for call, words in (
        (lambda: generators.inputs(classifier, 0, 1), "not a generator: it takes units inputs of shape"),
        (lambda: generators.inputs(plain, 0, 0), "count must be 1 or more, got 0"),
        (lambda: generators.inputs(plain, 0, 1, truncation=-1.0), "truncation must be 0 or more, got -1.0"),
        (lambda: generators.inputs(plain, 0, 1, labels=["0"]), "this generator has no classes"),
        (lambda: generators.inputs(conditional, 0, 1, labels=["sevn"]), "no class 'sevn'; did you mean 'seven'"),
        (lambda: generators.inputs(conditional, 0, 1, labels=[3]), "no class '3'; .* a number from 0 to 2"),
        (lambda: generators.make(plain, np.zeros((2, 6), np.float32)), r"shape \(2, 6\), .* takes \(batch, 5\)"),
        (lambda: generators.make(plain, np.zeros((0, 5), np.float32)), "one or more of each, not 0"),
        (lambda: generators.make(plain, np.full((2, 5), np.nan, np.float32)), "10 of these numbers are NaN"),
        (
            lambda: generators.make(conditional, {"z": np.zeros((3, 5), np.float32), "label": np.zeros(2, int)}),
            "as many latents as classes, and one or more of each, not 2 and 3",
        ),
        (
            lambda: generators.make(conditional, {"z": np.zeros((1, 5), np.float32), "label": np.array([3])}),
            "label 3 is out of range: 3 classes",
        ),
        (lambda: generators.slerp(np.ones(3), np.ones(4), [0.5]), r"one size, not \(3,\) and \(4,\)"),
        (lambda: generators.slerp(1.0, 2.0, [0.5]), r"two latents \(latent,\) of one size, not \(\) and \(\)"),
        (lambda: generators.slerp(np.ones((2, 3)), np.ones((2, 3)), [0.5]), "two latents"),
        (lambda: generators.slerp(np.ones(3), np.ones(3), 0.5), r"a list of shares \(steps,\), not of shape \(\)"),
        (lambda: generators.slerp(np.ones(3), np.full(3, np.nan), [0.5]), "finite latents and shares"),
        (lambda: Latent(3, "cauchy"), "the law of a latent is 'normal' or 'uniform', not 'cauchy'"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
