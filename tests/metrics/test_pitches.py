"""Fundamentals of notes, what is said of them, how much notes of one pitch differ, and intervals by the jackknife."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import metrics
from nd_jax.metrics.intervals import groups_of

RATE = 16000


def note(hertz, partials=(1.0, 0.6, 0.4, 0.3, 0.2), samples=16384):
    time = np.arange(samples) / RATE
    wave = sum(
        level * np.sin(2 * np.pi * hertz * (k + 1) * time + k)
        for k, level in enumerate(partials)
        if hertz * (k + 1) < RATE / 2
    )
    return 0.2 * wave * np.exp(-time / 0.5)


def test_fundamentals_of_harmonic_notes_are_found_within_a_few_cents():
    midi = np.arange(48, 85, 4)
    hertz = 440 * 2 ** ((midi - 69) / 12)
    # Weak and missing fundamentals too.
    found = metrics.fundamentals([note(each) for each in hertz] + [note(220.0, (0.0, 1.0, 0.7, 0.5, 0.4))], RATE)
    assert np.abs(metrics.cents_off(found[:-1], midi)).max() < 5
    assert abs(metrics.cents_off(found[-1:], [57])[0]) < 5


def test_an_octave_off_is_found_there_and_silence_has_no_pitch():
    found = metrics.fundamentals([note(65.4), note(2093.0), np.zeros(16384)], RATE)
    octaves = metrics.cents_off(found[:2], [48, 84])
    assert np.abs(octaves - [-1200, 1200]).max() < 15 and np.isnan(found[2])


def test_fundamentals_refuse_what_has_none():
    with pytest.raises(ValueError, match=r"a sound must be \(samples,\) of 800 samples or more, got \(100,\)"):
        metrics.fundamentals([np.zeros(100)], RATE)
    with pytest.raises(ValueError, match="lowest and highest must rise within 0 ... 8000 Hz"):
        metrics.fundamentals([note(440.0)], RATE, lowest=100.0, highest=90.0)


def test_octave_errors_are_counted_apart():
    cents = np.array([0.0, 50.0, -49.0, 51.0, 1200.0, -2430.0, 1260.0, 700.0, np.nan, 10.0])
    found = metrics.pitch_figures(cents)
    counts = {name: found[name]["right"] for name in ("right", "octave_errors", "other", "no_pitch")}
    assert counts == {"right": 4, "octave_errors": 2, "other": 3, "no_pitch": 1}
    assert found["right"]["of"] == 10 and found["right"]["low"] < 0.4 < found["right"]["high"]
    assert found["median_cents"] == 5.0 and json.loads(json.dumps(found, allow_nan=False)) == found
    assert metrics.pitch_figures([np.nan])["median_cents"] is None
    with pytest.raises(ValueError, match="one note or more"):
        metrics.pitch_figures([])


def test_variety_is_the_ratio_of_mean_distances_within_classes():
    rng = np.random.default_rng(0)
    middles = 10 * rng.normal(size=(6, 4))
    real_classes, classes = np.arange(60) % 6, np.arange(90) % 6
    real = middles[real_classes] + rng.normal(size=(60, 4))
    made = middles[classes] + 0.5 * rng.normal(size=(90, 4))
    found = metrics.variety(real, real_classes, made, classes)

    def by_definition(x, of, each):
        chosen = x[of == each]
        apart = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1)
        return apart.sum() / (len(chosen) * (len(chosen) - 1))

    there, here = (
        np.mean([by_definition(*pair, each) for each in range(6)]) for pair in ((real, real_classes), (made, classes))
    )
    assert (found.real, found.generated, found.ratio) == pytest.approx((there, here, here / there))
    assert found.low < 0.5 < found.high and found.high - found.low < 0.2
    ratios = [by_definition(made, classes, each) / by_definition(real, real_classes, each) for each in range(6)]
    assert (found.classes, found.least_class, found.least) == (6, int(np.argmin(ratios)), pytest.approx(min(ratios)))
    # The middles differ, but a generator with one note a class has no variety at all.
    assert metrics.variety(real, real_classes, middles[classes], classes).ratio < 1e-6


def test_variety_leaves_out_classes_of_one_and_refuses_too_few():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 2)), rng.normal(size=(8, 2))
    assert metrics.variety(x, [0, 0, 1, 1, 2, 2, 3, 3, 4], y, [0, 0, 1, 1, 2, 2, 3, 4]).classes == 3
    with pytest.raises(ValueError, match="2 classes have two examples in both sets, and 3 or more are needed"):
        metrics.variety(x, [0, 0, 1, 1, 2, 2, 3, 3, 4], y, [0, 0, 1, 1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="generated has 8 examples, and classes of shape"):
        metrics.variety(x, np.zeros(9, int), y, np.zeros(9, int))


# --- intervals --------------------------------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_its_t_interval():
    x = np.random.default_rng(0).normal(size=20)
    low, high = metrics.jackknife(lambda rows: float(x[rows].mean()), 20)
    half = 2.093024 * x.std(ddof=1) / np.sqrt(20)  # t of 19 degrees of freedom
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half))
    assert metrics.jackknife(lambda rows: float(x[rows].mean()), 20, value=1.0) == pytest.approx((1 - half, 1 + half))
    assert sorted(np.bincount(groups_of(50, 20))) == [2] * 10 + [3] * 10
    with pytest.raises(ValueError, match="3 examples and groups or more, got 2"):
        metrics.jackknife(lambda rows: 0.0, 2)


def test_the_interval_of_a_kernel_distance_is_that_of_leaving_groups_out():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 3)), 0.4 + rng.normal(size=(31, 3))
    value = metrics.kernel_distance(x, y, bandwidth=2.0)
    found = metrics.kernel_interval(x, y, value, bandwidth=2.0, groups=7)
    assert found == pytest.approx(
        metrics.jackknife(lambda rows: metrics.kernel_distance(x, y[rows], bandwidth=2.0), 31, groups=7, value=value)
    )
    assert found[0] < value < found[1]


def test_entropy_is_that_of_single_examples():
    given = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert metrics.prediction_entropy(given) == pytest.approx(np.log(2) / 2)


def test_density_and_coverage_have_intervals():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(30):
        x = rng.normal(size=(40, 2))
        many = metrics.density_coverage(x, rng.normal(size=(800, 2)), 3).density
        found = metrics.density_coverage(x, rng.normal(size=(60, 2)), 3)
        covered.append(found.density_low <= many <= found.density_high)
        assert found.coverage_low <= found.coverage <= found.coverage_high
    assert np.mean(covered) > 0.8


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_judge_with_several_heads_is_asked_by_name():
    front_end = nd.domain.LogMel(nd.audio.LogMel(sample_rate=8000, n_fft=128, hop_length=64, n_mels=8), frames=12)
    module = nd.networks.build(
        "audio_cnn", {"heads": [["pitch", 3], ["family", 2]], "features": [4], "kernels": [[3, 3]], "strides": [[2, 2]]}
    )
    x = np.random.default_rng(0).uniform(size=(5, *front_end.shape)).astype(np.float32)
    network = nd.Network(
        module,
        module.init(jax.random.key(0), x),
        input=front_end,
        labels={"pitch": ("a", "b", "c"), "family": ("d", "e")},
        apply_kwargs={"train": False},
    )
    heard = metrics.hear(network, x, "pool", head="pitch")
    np.testing.assert_allclose(heard.probabilities, jax.nn.softmax(network(x)["pitch"]), atol=1e-6)
    assert metrics.labels_of(network, "family") == ("d", "e")
    with pytest.raises(ValueError, match="outputs family, pitch: name the one that judges"):
        metrics.hear(network, x, "pool")
    with pytest.raises(ValueError, match="no output 'pich'; did you mean 'pitch'"):
        metrics.labels_of(network, "pich")
