"""A map over the picture of its input: the right place, the right colour."""

import numpy as np
import pytest

from nd_jax.attribute import TimeFrequency
from nd_jax.domain import Image, LogMel, Waveform
from nd_jax.report.overlays import overlaid, placed


def test_a_mark_lies_over_its_own_place():
    import nd_jax as nd

    mel = LogMel(nd.audio.LogMel(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16), frames=20)
    values = np.zeros(mel.shape)
    values[3, 7], values[12, 2] = 2.0, -1.0
    picture = mel.picture(np.zeros(mel.shape))
    drawn = overlaid(picture, values, mel.axes).values
    red, _, blue = np.moveaxis(drawn, -1, 0)
    # The lowest band is the last row.
    assert np.unravel_index(np.argmax(red - blue), red.shape) == (12, 7)
    assert np.unravel_index(np.argmin(red - blue), red.shape) == (3, 2)
    assert red[12, 7] - blue[12, 7] > blue[3, 2] - red[3, 2] > 0
    assert np.all(drawn[0, 0] == drawn[0, 0, 0]), "grey where the map is 0"


def test_maps_of_other_axes_are_spread():
    sound = Waveform(4096, 8000)
    picture = sound.picture(np.zeros(sound.shape))
    view = TimeFrequency(sound, 256)
    cell = np.zeros(view.shape)
    cell[32, 20] = 1.0  # 1000 Hz, 0.16 s
    rows = placed(picture, cell, view.axes)
    row, column = np.unravel_index(np.argmax(rows), rows.shape)
    assert abs(picture.y.values[row] - 1000) < 40 and abs(picture.x.values[column] - 0.16) < 0.01
    wave = np.zeros(sound.shape)
    wave[:2048] = 1.0
    rows = placed(picture, wave, sound.axes)
    assert np.all(rows == rows[0]) and abs(rows[0].mean() - 0.5) < 0.02

    image = Image((4, 6, 3))
    values = np.zeros(image.shape)
    values[1, 5, :] = 1.0
    assert placed(image.picture(values), values, image.axes)[1, 5] == 3.0
    with pytest.raises(ValueError, match="has not the axes"):
        placed(image.picture(values), values[..., 0], image.axes)
