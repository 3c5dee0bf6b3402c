"""Making voices from physical quantities, with their labels: `tonal` and `noise`."""

from __future__ import annotations

from typing import Any

import numpy as np

from nd_jax.data.synthetic.voice import FEW, HIGHEST, MANY, Voice, namespace

EDGE_SECONDS = 0.01
AUDIBLE = 0.01
"""Partials more than 40 dB below the strongest do not widen the stated band."""
_SCALARS = {
    "attack": EDGE_SECONDS,
    "release": 2 * EDGE_SECONDS,
    "curve": 0.0,
    "deviation": 0.0,
    "wobble": 0.0,
    "am_depth": 0.0,
    "am_rate": 0.0,
    "noise_low": 0.0,
    "noise_high": 0.0,
    "noise_slope": 0.0,
    "noise_decay": 0.0,
}


def decibels(level: Any) -> Any:
    """A level in dB as a linear factor."""
    return 10 ** (_float(level) / 20)


def tonal(
    sample_rate: int,
    *,
    onset: Any,
    width: Any,
    level_db: Any,
    start: Any,
    end: Any = None,
    multiple: Any = (1,),
    shift: Any = 0.0,
    amplitude: Any = (1.0,),
    phase: Any = 0.0,
    decay: Any = 0.0,
    pitch: Any = None,
    period: Any = None,
    count: Any = 1,
    moving: Any = (0.0, 1.0),
    **more: Any,
) -> Voice:
    """A voice of up to `MANY` partials; see `Voice` for the arguments. `level_db` is its peak in dBFS.

    The pitch is `start` unless given. The band reaches from the lowest to the highest partial, wherever they move, plus
    what modulation, decay and the edges of the event spread.
    """
    end = start if end is None else end
    size = FEW if len(amplitude) <= FEW else MANY
    partials = [_padded(value, len(amplitude), size) for value in (multiple, shift, amplitude, phase, decay)]
    scalars = {name: _float(more.pop(name, value)) for name, value in _SCALARS.items()}
    low, high = _tonal_band(sample_rate, start, end, width, partials, scalars)
    return _voice(
        scalars,
        partials,
        onset=onset,
        width=width,
        period=period,
        count=count,
        moving=moving,
        level_db=level_db,
        start=start,
        end=end,
        low=low,
        high=high,
        pitch=start if pitch is None else pitch,
        **more,
    )


def noise(
    sample_rate: int,
    *,
    onset: Any,
    width: Any,
    level_db: Any,
    low: Any,
    high: Any,
    seed: Any,
    slope: Any = 0.0,
    decay: Any = 0.0,
    period: Any = None,
    count: Any = 1,
    **more: Any,
) -> Voice:
    """A voice of Gaussian noise between `low` and `high` Hz, `slope` dB per octave; `decay` in 1/s."""
    scalars = {name: _float(more.pop(name, value)) for name, value in _SCALARS.items()}
    scalars |= {"noise_low": low, "noise_high": high, "noise_slope": slope, "noise_decay": decay}
    spread = 4 / width + scalars["am_rate"] * (scalars["am_depth"] > 0) + 2 * decay
    partials = [_padded((), 0, 0)] * 5
    xp = namespace(low, high, width, spread)
    return _voice(
        scalars,
        partials,
        onset=onset,
        width=width,
        period=period,
        count=count,
        moving=(0.0, 1.0),
        level_db=level_db,
        start=1.0,
        end=1.0,
        low=xp.maximum(low - spread, 0),
        high=xp.minimum(high + spread, sample_rate / 2),
        pitch=np.nan,
        seed=seed,
        **more,
    )


def _tonal_band(
    sample_rate: int, start: Any, end: Any, width: Any, partials: list[Any], scalars: dict[str, Any]
) -> tuple[Any, Any]:
    multiple, shift, amplitude, _, decay = partials
    xp = namespace(start, end, width, *partials, *scalars.values())
    swing = xp.abs(scalars["deviation"])
    lowest = multiple * (xp.minimum(start, end) - swing) + shift
    highest = multiple * (xp.maximum(start, end) + swing) + shift
    loudness = xp.abs(amplitude)
    heard = (loudness > AUDIBLE * xp.max(loudness)) & (lowest < HIGHEST * sample_rate)
    spread = (
        10
        + 4 / width
        + scalars["am_rate"] * (scalars["am_depth"] > 0)
        + scalars["wobble"] * (swing > 0)
        + 2 * xp.max(decay * heard)
    )
    low = xp.min(xp.where(heard, lowest, sample_rate)) - spread
    high = xp.minimum(xp.max(xp.where(heard, highest, 0.0)), HIGHEST * sample_rate) + spread
    return xp.maximum(low, 0), xp.minimum(high, sample_rate / 2)


def _float(value: Any) -> Any:
    return namespace(value).asarray(value, np.float32)


def _padded(values: Any, count: int, size: int) -> Any:
    values = _float(values)
    xp = namespace(values)
    if values.shape == (size,):
        return values
    return xp.pad(xp.broadcast_to(values, (count,)), (0, size - count))


def _voice(scalars: dict[str, Any], partials: list[Any], *, level_db: Any, **given: Any) -> Voice:
    multiple, shift, amplitude, phase, decay = partials
    count, period, seed = given.pop("count"), given.pop("period"), given.pop("seed", 0)
    # Without repetition any period does that is longer than every clip.
    period = 1e6 if period is None else namespace(count, period).where(count > 1, period, 1e6)
    floats = {name: _float(value) for name, value in {**scalars, **given, "period": period}.items()}
    return Voice(
        **floats,
        count=namespace(count).asarray(count, np.int32),
        seed=namespace(seed).asarray(seed, np.uint32),
        multiple=multiple.astype(np.int32),
        shift=shift,
        amplitude=amplitude,
        # Kept below half a cycle each way, as fixed-point phases want.
        phase=phase - namespace(phase).round(phase),
        decay=decay,
        level=decibels(level_db),
    )
