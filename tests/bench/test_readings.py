"""Readings of inputs whose likeness, pitch and onset are known."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from nd_jax.bench import planted, readings

SIZE = planted.Size(per_kind=3, two=1, random=1, dead=1)
FOUND = planted.plant(jax.random.key(3), "aligned", size=SIZE)
LIVE = [unit for unit in FOUND.units if not unit.dead]


@pytest.mark.parametrize("unit", LIVE, ids=lambda unit: f"{unit.kind}-{unit.readout}-{unit.pool}")
def test_the_truth_is_read_as_the_truth(unit):
    for x in unit.best_inputs(FOUND.domain):
        reading = readings.read(x, unit, FOUND.domain)
        assert reading.correlation == pytest.approx(1, abs=1e-6)
        assert not abs(reading.pitch_cents) > 30
        assert not abs(reading.onset_frames) > 1


def unit_of(kind, pool):
    return next(unit for unit in LIVE if unit.kind == kind and unit.pool == pool)


def test_a_shift_in_time_is_aligned_unless_the_unit_knows_the_time():
    for pool, late in (("max", 0), ("position", 3)):
        unit = unit_of("onset", pool)
        x = next(unit.best_inputs(FOUND.domain))
        moved = np.roll(x, 3, axis=1)
        before, after = (readings.read(each, unit, FOUND.domain) for each in (x, moved))
        assert after.correlation == pytest.approx(1, abs=1e-6) and after.shift == before.shift + 3
        assert after.onset_frames - before.onset_frames == pytest.approx(late)


def test_a_shift_in_frequency_is_a_wrong_pitch_and_no_likeness():
    unit = unit_of("tone", "position")
    x = next(unit.best_inputs(FOUND.domain))
    reading = readings.read(np.roll(x, 4, axis=0), unit, FOUND.domain)
    assert reading.correlation < 0.6 and abs(reading.pitch_cents) > 100


def test_nothing_and_noise_are_not_alike():
    unit = unit_of("chirp", "max")
    assert readings.read(np.zeros(FOUND.domain.shape), unit, FOUND.domain).correlation == 0
    noise = np.random.default_rng(0).uniform(size=FOUND.domain.shape)
    assert abs(readings.read(noise, unit, FOUND.domain).correlation) < 0.3


def test_either_concept_of_a_unit_counts():
    unit = next(unit for unit in LIVE if unit.kind == "two")
    first, second = unit.best_inputs(FOUND.domain)
    assert not np.allclose(first, second)
    for x in (first, second):
        assert readings.read(x, unit, FOUND.domain).correlation == pytest.approx(1, abs=1e-6)


def test_correlation_looks_at_what_matters_only():
    best, matters = np.asarray([0.0, 1.0, 0.0, 1.0]), np.asarray([True, True, False, True])
    rows = np.asarray([[0.0, 0.5, 9.0, 0.5], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert readings.correlations(rows, best, matters) == pytest.approx([1.0, -1.0, 0.0])


def test_pitch_between_two_bands():
    domain = FOUND.domain
    time = np.arange(domain.samples) / domain.sample_rate
    for hertz in (523.0, 1234.0, 3456.0):
        picture = np.asarray(domain.from_wave((0.3 * np.sin(2 * math.pi * hertz * time)).astype(np.float32)))
        found = readings.pitch_of(picture[..., 0], domain)
        assert abs(1200 * math.log2(found / hertz)) < 15
