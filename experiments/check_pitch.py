"""Are the optimised sounds of the pitch units what they claim? Measured on the sound, not on the picture.

    python experiments/visualize.py && python experiments/check_pitch.py --result out/atlas/results/pitch

Each unit's spectrogram is made into sound (mel inversion, Griffin-Lim), and the sound is judged twice: by the network
itself, through its own front end, and by the period of its autocorrelation, which knows nothing of any network.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax.runtime import command_line, enable_compilation_cache

LOWEST_MIDI = 24
_STRONG = 0.85


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which result to judge."""

    result: pathlib.Path = pathlib.Path("out/atlas/results/pitch")
    """A folder that Visualization.save wrote, one lane for each unit of the layer `pitch`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    settings = command_line(Settings, arguments, __doc__)
    enable_compilation_cache()
    result = nd.Visualization.load(settings.result)
    if result.network is None or set(result.layers) != {"pitch"}:
        print(f"error: {settings.result} is not a result of the layer 'pitch' with its network", file=sys.stderr)
        return 1
    domain = result.domain
    waves = np.asarray(jax.jit(domain.transform.inverse)(domain.to_db(jnp.asarray(result.inputs[..., 0]))))
    heard = np.argmax(result.network(domain.from_wave(waves))["pitch"], axis=-1)
    true = 440.0 * 2 ** ((LOWEST_MIDI + result.units - 69) / 12)
    cents = np.array(
        [1200 * np.log2(period_pitch(w, domain.sample_rate) / f) for w, f in zip(waves, true, strict=True)]
    )
    print(f"recognised by the network after resynthesis: {np.sum(heard == result.units)} of {len(result)}")
    for low in (24, 40):
        chosen = LOWEST_MIDI + result.units >= low
        right = np.abs(cents[chosen]) <= 50
        print(f"autocorrelation within 50 cents, MIDI {low} and up: {right.sum()} of {chosen.sum()}")
    return 0


def period_pitch(wave: np.ndarray, sample_rate: int, low: float = 28.0, high: float = 1200.0) -> float:
    """The pitch in Hz from the first strong peak of the autocorrelation of the middle of a sound, (samples,)."""
    middle = wave[len(wave) // 8 : -len(wave) // 8]
    spectrum = np.fft.rfft(middle, 2 * len(middle))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(middle)]
    inner = correlation[1:-1]
    peaks = 1 + np.flatnonzero((inner > correlation[:-2]) & (inner >= correlation[2:]))
    peaks = peaks[(peaks >= sample_rate / high) & (peaks <= sample_rate / low)]
    if not len(peaks):
        return float("nan")
    return sample_rate / float(peaks[np.argmax(correlation[peaks] >= _STRONG * correlation[peaks].max())])


if __name__ == "__main__":
    sys.exit(main())
