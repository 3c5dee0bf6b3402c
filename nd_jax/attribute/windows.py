"""What is taken away, one at a time: windows over any number of axes, in steps, seconds or Hz.

A `Grid` is one list of intervals an axis; a window is an interval of every axis at once, and all combinations are
tried. The same few lines serve Captum's windows on an image, segments between onsets, octave bands, and both together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nd_jax.attribute.spectra import TimeFrequency
from nd_jax.audio import hz_to_mel, mel_to_hz
from nd_jax.domain import Domain, Waveform
from nd_jax.runtime import nearest

# {name: (Hz to where a band is, and back)}
_SCALES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "linear": (np.asarray, np.asarray),
    "mel": (lambda hertz: hz_to_mel(hertz, "htk"), lambda mels: mel_to_hz(mels, "htk")),
    "octave": (np.log2, np.exp2),
    "erb": (lambda hertz: 21.4 * np.log10(1 + 0.00437 * hertz), lambda rate: (10.0 ** (rate / 21.4) - 1) / 0.00437),
}

# What lies within this share of a step of an edge lies on it.
_CLOSE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Intervals:
    """Along one axis.

    Attributes:
      name: of the axis, such as "time".
      unit: of its coordinates, such as "s".
      size: steps of the axis.
      starts: (1 or clips, count) first step of each; an interval without steps fills up clips that have fewer.
      ends: likewise, the step after the last.
      edges: (1 or clips, count, 2) from and to, in the axis's unit.
    """

    name: str
    unit: str
    size: int
    starts: np.ndarray
    ends: np.ndarray
    edges: np.ndarray

    def __len__(self) -> int:
        return self.starts.shape[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Windows over the axes of an example: all combinations of intervals."""

    axes: tuple[Intervals, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Intervals per axis."""
        return tuple(map(len, self.axes))

    @property
    def clips(self) -> int:
        """For how many clips there are windows of their own; 1 when they are the same for all."""
        return max(len(axis.starts) for axis in self.axes)

    def __len__(self) -> int:
        """Windows of a clip."""
        return math.prod(self.counts)

    def places(self, clip: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """First step and step after the last of every window, both (windows, axes); the last axis runs fastest."""
        index = np.unravel_index(np.arange(len(self)), self.counts)

        def row(array: np.ndarray) -> np.ndarray:
            return array[clip if len(array) > 1 else 0]

        starts = [row(axis.starts)[place] for axis, place in zip(self.axes, index, strict=True)]
        ends = [row(axis.ends)[place] for axis, place in zip(self.axes, index, strict=True)]
        return np.stack(starts, axis=-1).astype(np.int32), np.stack(ends, axis=-1).astype(np.int32)

    def spread(self, values: np.ndarray, clip: int = 0) -> np.ndarray:
        """The sum over the windows that cover a step: (..., windows) -> (..., *shape), float64.

        Windows are products of intervals, so that one axis after the other is summed.
        """
        found = np.asarray(values, np.float64).reshape(*np.shape(values)[:-1], *self.counts)
        first = found.ndim - len(self.axes)
        for place, axis in enumerate(self.axes):
            row = clip if len(axis.starts) > 1 else 0
            along = np.moveaxis(found, first + place, 0)
            changes = np.zeros((axis.size + 1, *along.shape[1:]))
            np.add.at(changes, axis.starts[row], along)
            np.add.at(changes, axis.ends[row], -along)
            found = np.moveaxis(np.cumsum(changes[:-1], axis=0), 0, first + place)
        return found

    def coverage(self, clip: int = 0) -> np.ndarray:
        """How many windows cover each step, (*shape)."""
        starts, ends = self.places(clip)
        return np.rint(self.spread(np.all(ends > starts, axis=-1), clip)).astype(int)


def grid(
    domain: Domain | TimeFrequency,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    time: float | Sequence[float] | Sequence[Sequence[float]] | None = None,
    time_stride: float | None = None,
    frequency: float | Sequence[float] | None = None,
    frequency_stride: float | None = None,
) -> Grid:
    """Windows over a domain.

    Args:
      domain: of the inputs, or a waveform's short-time spectrum.
      window: size along every axis of the domain in steps, or one number for all but the channels; as Captum has it.
        Starts are multiples of the stride, ceil((size - window) / stride) + 1 of them, and the last window is cut.
      stride: likewise; 1 by default, at most the window.
      time: width in seconds; or edges in seconds, of segments that follow each other; or such edges for every clip
        (`onsets`).
      time_stride: seconds between the starts of windows of a width; default the width.
      frequency: width in Hz; or edges in Hz of neighbouring bands, see `bands`. With `time`, all combinations.
      frequency_stride: Hz between the starts of bands of a width; default the width.

    Raises:
      ValueError: no such axis, sizes that do not fit, steps together with seconds or Hz; in one sentence.
    """
    shape = tuple(domain.shape)
    if window is not None:
        if time is not None or frequency is not None:
            raise ValueError("windows are given in steps (window=) or in seconds and Hz (time=, frequency=), not both")
        sizes = _per_axis("window", window, domain)
        steps = _per_axis("stride", 1 if stride is None else stride, domain)
        return Grid(tuple(_sliding(domain, axis, sizes[axis], steps[axis]) for axis in range(len(shape))))
    if stride is not None:
        raise ValueError(f"stride={stride!r} belongs to window=; seconds and Hz have time_stride and frequency_stride")
    for name, given, apart in (("time", time, time_stride), ("frequency", frequency, frequency_stride)):
        if given is None and apart is not None:
            raise ValueError(f"{name}_stride={apart!r} belongs to {name}=, the width of a window")
    if time is None and frequency is None:
        raise ValueError("say what is taken away: window= in steps, time= in seconds or frequency= in Hz")
    names = [axis.name for axis in domain.axes]
    for name, given in (("time", time), ("frequency", frequency)):
        if given is not None and name not in names:
            raise ValueError(f"{name}= needs a domain with a {name} axis, and {domain.kind!r} has none")
    parts = []
    for axis, name in enumerate(names):
        if name == "time" and time is not None:
            parts.append(_measured(domain, axis, time, time_stride))
        elif name == "frequency" and frequency is not None:
            parts.append(_measured(domain, axis, frequency, frequency_stride))
        else:
            parts.append(_steps(domain, axis, np.zeros(1, int), np.full(1, shape[axis])))
    return _checked(parts)


def laid(domain: Domain, clips: int, n_fft: int, **given: Any) -> tuple[Grid, Domain | TimeFrequency]:
    """Windows over inputs, and what they lie over: the domain, or for bands of a waveform its short-time spectrum.

    Args:
      domain: of the inputs.
      clips: how many inputs there are.
      n_fft: samples of a frame of that spectrum.
      **given: see `grid`.

    Raises:
      ValueError: as `grid`, or edges for another number of clips.
    """
    waves = isinstance(domain, Waveform) and given.get("frequency") is not None
    seen: Any = TimeFrequency(domain, n_fft) if waves else domain  # type: ignore[arg-type]
    windows = grid(seen, **given)
    if windows.clips not in (1, clips):
        raise ValueError(f"there are edges for {windows.clips} clips, and {clips} clips")
    return windows, seen


def bands(scale: str, count: int, low: float = 50.0, high: float = 4000.0) -> np.ndarray:
    """Edges of neighbouring bands of equal width on a scale, for `frequency=`: (count + 1,) Hz.

    Args:
      scale: "linear" (Hz), "mel" (HTK), "octave" (logarithmic) or "erb" (rate of equivalent rectangular bandwidths,
        Glasberg & Moore 1990: 21.4 log10(1 + 0.00437 f)).
      count: how many.
      low: the lowest edge, in Hz.
      high: the highest.

    Raises:
      ValueError: an unknown scale, no bands, or edges out of order.
    """
    if scale not in _SCALES:
        raise ValueError(f"unknown scale {scale!r}; {nearest(str(scale), _SCALES)}")
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(f"count must be a whole number of at least 1, got {count!r}")
    known = all(isinstance(edge, (int, float, np.number)) for edge in (low, high))
    if not known or not 0 <= low < high < math.inf or (scale == "octave" and low == 0):
        raise ValueError(f"bands need 0 <= low < high (above 0 for octaves), got low {low!r} and high {high!r}")
    there, back = _SCALES[scale]
    return np.asarray(back(np.linspace(there(float(low)), there(float(high)), count + 1)), np.float64)


def _per_axis(name: str, given: int | Sequence[int], domain: Domain | TimeFrequency) -> tuple[int, ...]:
    """One whole number an axis of the domain."""
    shape = tuple(domain.shape)
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        inner = shape[:-1] if domain.axes[-1].name == "channel" else shape
        if int(given) < 1:
            raise ValueError(f"{name} is a whole number of at least 1, or one for each axis of {shape}, got {given}")
        return (*(int(given),) * len(inner), *shape[len(inner) :])
    sizes = tuple(int(size) if float(size).is_integer() else -1 for size in np.atleast_1d(given))
    if len(sizes) != len(shape) or min(sizes) < 1:
        raise ValueError(f"{name} has one whole number of at least 1 for each axis of {shape}, got {given!r}")
    return sizes


def _sliding(domain: Domain | TimeFrequency, axis: int, width: int, stride: int) -> Intervals:
    """Captum's windows along one axis."""
    size = domain.shape[axis]
    name = domain.axes[axis].name
    if width > size:
        raise ValueError(
            f"a window of {width} is larger than the input, which has {size} steps along its axis {name!r}"
        )
    if stride > width and width < size:
        left = int(np.sum(np.arange(size) % stride >= width))
        raise ValueError(
            f"stride {stride} is larger than the window of {width} along the axis {name!r}, so that {left} of its "
            f"{size} steps, the first from {width} to {stride - 1}, would never be covered: take at most {width}"
        )
    starts = np.arange(math.ceil((size - width) / stride) + 1) * stride
    return _steps(domain, axis, starts, np.minimum(starts + width, size))


def _steps(domain: Domain | TimeFrequency, axis: int, starts: np.ndarray, ends: np.ndarray) -> Intervals:
    described = domain.axes[axis]
    values = np.asarray(described.values, np.float64)
    edges = np.stack([values[starts], values[ends - 1]], axis=-1)
    return Intervals(described.name, described.unit, len(values), starts[None], ends[None], edges[None])


def _measured(domain: Domain | TimeFrequency, axis: int, given: Any, stride: float | None) -> Intervals:
    """Intervals in the unit of an axis: of one width, or between edges (of all clips, or of each)."""
    described = domain.axes[axis]
    name, unit, values = described.name, described.unit, np.asarray(described.values, np.float64)
    if isinstance(given, (str, bytes)):
        raise ValueError(f"{name} is a width in {unit}, or edges in {unit}, not {given!r}")
    segments: list[Any] | None = list(given) if np.iterable(given) else None
    if segments is None:
        width = float(given)
        step = width if stride is None else float(stride)
        _fits(domain, axis, width, step)
        count = max(1, math.ceil((values[-1] - values[0] - width) / step - _CLOSE) + 1)
        starts = values[0] + step * np.arange(count)
        return _between(domain, axis, starts, starts + width)
    if stride is not None:
        raise ValueError(f"{name}_stride belongs to {name} as one width, and here it is edges")
    if not segments or not np.iterable(segments[0]):
        edges = _ordered(domain, axis, segments)
        return _between(domain, axis, edges[:-1], edges[1:])
    each = [_ordered(domain, axis, one) for one in segments]
    rows = [_between(domain, axis, edges[:-1], edges[1:]) for edges in each]
    most = max(map(len, rows))

    def together(field: str, value: float) -> np.ndarray:
        filled = [getattr(row, field) for row in rows]
        pads = [[(0, 0), (0, most - one.shape[1])] + [(0, 0)] * (one.ndim - 2) for one in filled]
        return np.concatenate([np.pad(one, pad, constant_values=value) for one, pad in zip(filled, pads, strict=True)])

    return Intervals(
        name, unit, len(values), together("starts", 0), together("ends", 0), together("edges", float("nan"))
    )


def _fits(domain: Domain | TimeFrequency, axis: int, width: float, step: float) -> None:
    """Raises ValueError for a width or stride in seconds or Hz that is none, is too large, or leaves gaps."""
    name, unit, end = domain.axes[axis].name, domain.axes[axis].unit, _end(domain, axis)
    if not 0 < width < math.inf or not 0 < step < math.inf:
        raise ValueError(
            f"the {name} of a window and its stride are above 0 {unit}, and they are {width:g} and {step:g}"
        )
    if width > end * (1 + _CLOSE):
        raise ValueError(f"a window of {width:g} {unit} is larger than the input, whose {name} ends at {end:g} {unit}")
    if step > width * (1 + _CLOSE):
        raise ValueError(
            f"a stride of {step:g} {unit} is larger than the window of {width:g} {unit}, so that {step - width:g} "
            f"{unit} of every {step:g} would never be covered: take at most {width:g}"
        )


def _end(domain: Domain | TimeFrequency, axis: int) -> float:
    """Where an axis ends: the length of the sound, or half its sample rate."""
    values = np.asarray(domain.axes[axis].values, np.float64)
    if domain.axes[axis].name == "frequency":
        sound: Any = domain.domain if isinstance(domain, TimeFrequency) else domain
        return sound.sample_rate / 2
    return float(values[-1] + (values[1] - values[0] if len(values) > 1 else 0.0))


def _ordered(domain: Domain | TimeFrequency, axis: int, edges: Any) -> np.ndarray:
    described, values = domain.axes[axis], np.asarray(edges, np.float64)
    name = described.name
    if values.ndim != 1 or len(values) < 2 or not np.all(np.diff(values) > 0):
        raise ValueError(f"edges of {name} are two or more rising numbers, not {np.array2string(values, threshold=8)}")
    end = _end(domain, axis)
    if name == "frequency" and not (values[0] >= 0 and values[-1] <= end * (1 + _CLOSE)):
        raise ValueError(
            f"bands lie between 0 Hz and half the sample rate, {end:g} Hz, and these go from {values[0]:g} to "
            f"{values[-1]:g} Hz"
        )
    if name == "time":
        sound: Any = domain.domain if isinstance(domain, TimeFrequency) else domain
        end = max(end, sound.samples / sound.sample_rate if hasattr(sound, "samples") else 0.0)
        if values[0] < 0 or values[-1] > end * (1 + _CLOSE):
            raise ValueError(
                f"edges of time lie between 0 and {end:g} s, and these go from {values[0]:g} to {values[-1]:g} s"
            )
    steps = np.asarray(described.values, np.float64)
    close = _CLOSE * np.min(np.diff(steps), initial=1.0)
    last = np.where(values[1:] >= steps[-1] - close, len(steps), np.searchsorted(steps, values[1:] - close))
    empty = np.flatnonzero(last <= np.searchsorted(steps, values[:-1] - close))
    if len(empty):
        low, high = values[empty[0]], values[empty[0] + 1]
        raise ValueError(
            f"nothing lies between the edges {low:g} and {high:g} {described.unit}: there is one step of {name} every "
            f"{np.median(np.diff(steps)):g} {described.unit} from {steps[0]:g} to {steps[-1]:g}"
        )
    return values


def _between(domain: Domain | TimeFrequency, axis: int, lows: np.ndarray, highs: np.ndarray) -> Intervals:
    """Intervals of the steps with a coordinate in [low, high), or beyond the last edge of all.

    The last step belongs to what ends there. What lies between two steps covers none and is left out.
    """
    described = domain.axes[axis]
    values = np.asarray(described.values, np.float64)
    close = _CLOSE * np.min(np.diff(values), initial=1.0)
    starts = np.searchsorted(values, lows - close)
    ends = np.where(highs >= values[-1] - close, len(values), np.searchsorted(values, highs - close))
    kept = ends > starts
    if not np.any(kept):
        raise ValueError(
            f"no window of {described.name} covers a step: there is one from {values[0]:g} to {values[-1]:g} "
            f"{described.unit} every {np.median(np.diff(values)):g}"
        )
    edges = np.stack([lows[kept], highs[kept]], axis=-1)
    return Intervals(described.name, described.unit, len(values), starts[kept][None], ends[kept][None], edges[None])


def _checked(parts: Sequence[Intervals]) -> Grid:
    rows = {len(part.starts) for part in parts} - {1}
    if len(rows) > 1:
        raise ValueError(f"there are edges of {sorted(rows)} clips: give as many in time as in frequency")
    return Grid(tuple(parts))
