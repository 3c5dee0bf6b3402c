"""The samples of a sound: free as they are, or through their weighted spectrum."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from nd_jax.domain import Domain
from nd_jax.visualize.parameterizations import core
from nd_jax.visualize.parameterizations.spectrum import inverse_real_fft, real_fft, spectrum_shape


@dataclasses.dataclass(frozen=True)
class Samples:
    """See `waveform`."""

    name: ClassVar[str] = "waveform"

    decay: float | None = 0.5
    sd: float = 0.01
    corner: float = 100.0
    bounds: str = "tanh"

    def init(self, key: jax.Array, domain: Domain) -> jax.Array:
        samples = self._samples(domain)
        shape = (samples, 1) if self.decay is None else spectrum_shape((samples,))
        return self.sd * jax.random.normal(key, shape)

    def apply(self, parameters: jax.Array, domain: Domain) -> jax.Array:
        samples = self._samples(domain)
        if self.decay is None:
            return core.bounded(parameters, domain, self.bounds, None)
        values = inverse_real_fft(parameters, self._weights(domain, self.decay), 1, samples)
        return core.bounded(values[:, None], domain, self.bounds, None)

    def invert(self, x: Any, domain: Domain) -> jax.Array:
        self._samples(domain)
        values = core.unbounded(core.one_example(self.name, x, domain), domain, self.bounds, None)
        return values if self.decay is None else real_fft(values[:, 0], self._weights(domain, self.decay), 1)

    def _weights(self, domain: Domain, decay: float) -> np.ndarray:
        frequency = np.fft.rfftfreq(domain.shape[0], 1.0 / domain.sample_rate)  # type: ignore[attr-defined]
        weights = 1.0 / np.maximum(frequency, self.corner) ** decay
        return weights / np.sqrt(2.0 * np.mean(np.square(weights)))

    def _samples(self, domain: Domain) -> int:
        if domain.kind != "waveform":
            raise ValueError(f"parameterizations.waveform is for a Waveform domain, not for {domain.kind!r}")
        return domain.shape[0]


def waveform(decay: float | None = 0.5, sd: float = 0.01, *, corner: float = 100.0, bounds: str = "tanh") -> Samples:
    """Samples of a sound in -1 ... 1, free directly or through their weighted spectrum.

    Parameters: (samples // 2 + 1, 2) real and imaginary parts, or (samples, 1) when `decay` is None. The weights have
    unit mean square, so `sd` is the RMS of the sound at the start (0.01: -40 dB below full scale) whatever the decay.

    Args:
      decay: power of the frequency that the spectrum is divided by: 0.5 is pink (equal energy per octave, like most
        natural sound), 0 white, 1 brown. None frees the samples themselves.
      sd: RMS at the start, in full scale; begins around silence.
      corner: Hz below which the weight stays constant, so that inaudible rumble is not favoured.
      bounds: "tanh" (a smooth limiter), "sigmoid" (half as steep), "clip" or "none".

    Raises:
      ValueError: a bad argument, in one sentence.
    """
    if decay is not None:
        core.not_negative("decay", decay)
    if not corner > 0:
        raise ValueError(f"corner must be a positive frequency in Hz, got {corner!r}")
    return Samples(decay, core.not_negative("sd", sd), float(corner), core.choice("bounds", bounds, core.BOUNDS))
