"""Templates are sounds of their own, apart from the bank's, and legible."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from nd_jax.bench import planted, readings, templates
from nd_jax.data import synthetic

SIZE = planted.Size()
DOMAIN = SIZE.domain()


def test_no_code_of_the_sound_bank_is_used():
    source = inspect.getsource(templates)
    assert "synthetic" not in source.split('"""', 2)[2] and "parameterizations" not in source


@pytest.mark.parametrize("kind", templates.KINDS)
def test_every_kind_has_a_range_that_the_bank_does_not_reach(kind):
    mine, theirs, classes = templates.APART[kind]
    low, high = templates.RANGES[kind][mine]
    if mine == "frames":
        low, high = (frames * DOMAIN.seconds_per_frame for frames in (low, high))
    assert classes
    for name in classes:
        given = synthetic.CLASSES[name].parameters
        if theirs in given:
            found = synthetic.CLASSES[name].ranges(DOMAIN.sample_rate, 0.5)[theirs]
            assert found.high < low or high < found.low, f"{kind}: {mine} meets {theirs} of {name}"
    assert any(theirs in synthetic.CLASSES[name].parameters for name in classes)


@pytest.mark.parametrize("kind", templates.KINDS)
def test_pictures_show_what_was_drawn(kind):
    for seed in range(4):
        template = templates.draw(kind, np.random.default_rng(seed), DOMAIN, SIZE.window)
        assert template.pattern.shape == (SIZE.bands, SIZE.window)
        assert template.pattern.min() >= 0 and 0.5 < template.pattern.max() <= 1
        for name, (low, high) in templates.RANGES[kind].items():
            assert low <= template.parameters[name] <= high
        if not math.isnan(template.onset):
            assert abs(readings.onset_of(template.pattern) - template.onset) <= 1
        if not math.isnan(template.pitch):
            found = readings.pitch_of(template.pattern, DOMAIN, stack=kind == "stack")
            assert abs(1200 * math.log2(found / template.pitch)) <= 25


def test_stationary_sounds_do_not_change():
    template = templates.draw("stack", np.random.default_rng(0), DOMAIN, SIZE.window, stationary=True)
    assert np.ptp(template.pattern, axis=1).max() == 0 and math.isnan(template.onset)
    with pytest.raises(ValueError, match="changes in time"):
        templates.draw("chirp", np.random.default_rng(0), DOMAIN, SIZE.window, stationary=True)
    with pytest.raises(ValueError, match="gong"):
        templates.draw("gong", np.random.default_rng(0), DOMAIN, SIZE.window)


def test_white_templates_fill_the_range():
    for smooth in (0.0, 1.5):
        template = templates.white(np.random.default_rng(1), DOMAIN, SIZE.window, smooth)
        assert template.pattern.min() == 0 and template.pattern.max() == 1
