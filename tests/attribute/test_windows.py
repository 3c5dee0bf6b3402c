"""Windows in steps, seconds and Hz."""

from __future__ import annotations

import chex
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.attribute import TimeFrequency, bands, grid
from nd_jax.domain import Image, LogMel, Units, Waveform

MEL = LogMel(nd.audio.LogMel(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16), frames=50)
SOUND = Waveform(4000, 8000)


def test_captums_windows_are_cut_at_the_edge():
    windows = grid(Image((10, 7, 2)), window=4, stride=3)
    assert windows.counts == (3, 2, 1)
    starts, ends = windows.places()
    assert starts.tolist() == [[0, 0, 0], [0, 3, 0], [3, 0, 0], [3, 3, 0], [6, 0, 0], [6, 3, 0]]
    assert ends[-1].tolist() == [10, 7, 2]


def test_sums_over_windows_are_those_of_their_masks():
    windows = grid(Image((10, 7, 2)), window=(4, 5, 1), stride=(3, 2, 1))
    starts, ends = windows.places()
    values = np.random.default_rng(0).normal(size=(3, len(windows)))
    masks = np.zeros((len(windows), 10, 7, 2))
    for mask, start, end in zip(masks, starts, ends, strict=True):
        mask[tuple(slice(*pair) for pair in zip(start, end, strict=True))] = 1
    chex.assert_trees_all_close(windows.spread(values), np.tensordot(values, masks, axes=1), atol=1e-12)
    chex.assert_trees_all_equal(windows.coverage(), masks.sum(axis=0).astype(int))


def test_seconds_and_hertz():
    windows = grid(MEL, time=0.1, time_stride=0.05)
    assert windows.axes[1].edges[0][:2].tolist() == [[0.0, 0.1], [0.05, 0.15000000000000002]]
    assert (windows.axes[1].ends - windows.axes[1].starts)[0].tolist() == [10] * 9  # 0.49 s, a frame every 10 ms
    assert windows.coverage().min() == 1
    assert windows.counts == (1, 9, 1)

    octaves = bands("octave", 3, 500, 4000)
    chex.assert_trees_all_close(octaves, np.array([500.0, 1000.0, 2000.0, 4000.0]))
    both = grid(MEL, time=0.25, frequency=octaves)
    centres = MEL.axes[0].values
    for low, high, start, end in zip(octaves, octaves[1:], both.axes[0].starts[0], both.axes[0].ends[0], strict=False):
        inside = (centres >= low) & (centres < high)
        assert inside[start:end].all()
        assert inside.sum() == end - start
    assert both.counts == (3, 2, 1)

    samples = grid(SOUND, time=[0.0, 0.1, 0.5])
    assert samples.places()[0][:, 0].tolist() == [0, 800]
    assert samples.places()[1][:, 0].tolist() == [800, 4000]


def test_clips_may_have_segments_of_their_own():
    windows = grid(SOUND, time=[[0.0, 0.1, 0.2, 0.5], [0.0, 0.25, 0.5]])
    assert windows.clips == 2
    assert windows.places(0)[1][:, 0].tolist() == [800, 1600, 4000]
    assert windows.places(1)[1][:, 0].tolist() == [2000, 4000, 0]
    chex.assert_trees_all_equal(windows.coverage(1), np.ones((4000, 1), int))


def test_bands_of_equal_width_on_their_scale():
    for scale in ("linear", "mel", "octave", "erb"):
        edges = bands(scale, 8, 100, 4000)
        chex.assert_trees_all_close(edges[[0, -1]], np.array([100.0, 4000.0]), rtol=1e-6)
        assert np.all(np.diff(edges) > 0)
    chex.assert_trees_all_close(np.diff(bands("linear", 4, 0, 400)), np.full(4, 100.0))
    # Glasberg & Moore 1990: 15.62 units of the rate lie below 1 kHz, where one is 132.6 Hz wide.
    rate = bands("erb", 1562, 0, 1000)
    assert rate[-1] - rate[-2] == pytest.approx(1.326, rel=0.01)


@pytest.mark.parametrize(
    ("domain", "options", "message"),
    [
        (MEL, {}, "say what is taken away"),
        (MEL, {"window": 3, "time": 0.1}, "not both"),
        (MEL, {"window": (3, 3)}, "one whole number of at least 1 for each axis"),
        (MEL, {"window": 0}, "window is a whole number of at least 1"),
        (MEL, {"window": 3, "stride": 0}, "stride is a whole number of at least 1"),
        (MEL, {"window": 17}, "a window of 17 is larger than the input, which has 16 steps along its axis 'frequency'"),
        (MEL, {"window": (17, 3, 1)}, "a window of 17 is larger than the input"),
        # Steps 3, 7, 11 and 15 of 16.
        (MEL, {"window": 3, "stride": 4}, "4 of its 16 steps, the first from 3 to 3, would never be covered"),
        (MEL, {"stride": 4, "time": 0.1}, "stride=4 belongs to window="),
        (MEL, {"time": 0.0}, "the time of a window and its stride are above 0 s, and they are 0 and 0"),
        (MEL, {"time": 0.1, "time_stride": 0.0}, "and they are 0.1 and 0"),
        (MEL, {"time": 0.1, "time_stride": 0.25}, "0.15 s of every 0.25 would never be covered: take at most 0.1"),
        (MEL, {"time": 0.6}, "a window of 0.6 s is larger than the input, whose time ends at 0.5 s"),
        (MEL, {"frequency": [100.0, 4100.0]}, "half the sample rate, 4000 Hz, and these go from 100 to 4100 Hz"),
        (MEL, {"frequency": [-1.0, 900.0]}, "bands lie between 0 Hz and half the sample rate"),
        (MEL, {"frequency": bands("erb", 3, 5000, 7000)}, "these go from 5000 to 7000 Hz"),
        (MEL, {"frequency": [0.0, 1.0, 4000.0]}, "nothing lies between the edges 0 and 1 Hz"),
        (MEL, {"time": [0.0, 0.1, 70.0]}, "edges of time lie between 0 and .* s, and these go from 0 to 70 s"),
        (MEL, {"time": [-1.0, 0.1]}, "edges of time lie between 0 and"),
        (MEL, {"time": "x"}, "time is a width in s, or edges in s, not 'x'"),
        (MEL, {"frequency": 500.0, "time_stride": 0.1}, "time_stride=0.1 belongs to time=, the width of a window"),
        (MEL, {"frequency": 4500.0}, "larger than the input, whose frequency ends at 4000 Hz"),
        (TimeFrequency(SOUND, 256), {"frequency": [100.0, 8000.0]}, "half the sample rate, 4000 Hz"),
        (MEL, {"time": [0.1]}, "two or more rising numbers"),
        (MEL, {"time": [0.2, 0.1]}, "two or more rising numbers"),
        (MEL, {"time": [5.0, 6.0]}, "edges of time lie between 0 and"),
        (MEL, {"time": [0.0, 0.2], "time_stride": 0.1}, "time_stride belongs to time as one width"),
        (MEL, {"frequency": [[0.0, 300.0, 900.0]] * 3, "time": [[0.0, 0.2]] * 2}, "edges of .2, 3. clips"),
        (SOUND, {"frequency": 100.0}, "needs a domain with a frequency axis"),
        (Units(4), {"time": 0.1}, "needs a domain with a time axis"),
    ],
)
def test_windows_that_do_not_fit_are_refused(domain, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        grid(domain, **options)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("octaves", 3), "unknown scale 'octaves'.*octave"),
        (("mel", 0), "count must be"),
        (("mel", 3, 400, 300), "0 <= low < high"),
        (("octave", 3, 0.0), "above 0 for octaves"),
    ],
)
def test_bands_that_there_are_not(arguments, message):
    with pytest.raises(ValueError, match=message):
        bands(*arguments)
