"""Classes of noise, clicks and onset trains, silence, and mixtures of two or three sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from nd_jax.data.synthetic.makers import noise, tonal
from nd_jax.data.synthetic.sounds import HIGHEST_HZ, Parameters, Range, SoundClass, hertz, rate, span
from nd_jax.data.synthetic.tones import COMMON, HARMONICS, placed, stack
from nd_jax.data.synthetic.voice import MAX_EVENTS, Voice, namespace

# Two sources at this level or below never pass full scale together; three are brought down further.
_QUIETER = Range(-18.0, -6.1, "dBFS")
_THIRD = 20 * 0.4771213  # dB of a factor 3


def _class(name: str, description: str, build: Any, **parameters: Range) -> SoundClass:
    return SoundClass(name, description, {**COMMON, **parameters}, build)


def _band(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    half = 2 ** (p["octaves"] / 2)
    top = HIGHEST_HZ * sample_rate
    low, high = p["centre"] / half, namespace(p["centre"]).minimum(p["centre"] * half, 1.1 * top)
    return (noise(sample_rate, **placed(p), low=low, high=high, seed=p["seed"]),)


def _coloured(slope: float) -> Any:
    def build(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
        band = {"low": 20.0, "high": 0.49 * sample_rate, "slope": slope}
        return (noise(sample_rate, **placed(p), **band, seed=p["seed"]),)

    return build


def _chuffing(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    modulation = {"am_depth": p["depth"], "am_rate": p["rate"]}
    low, high = p["centre"] / 2, p["centre"] * 2
    return (noise(sample_rate, **placed(p), low=low, high=high, seed=p["seed"], **modulation),)


def _hit(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    band = {"low": p["f_low"], "high": 0.49 * sample_rate, "decay": p["decay"], "attack": 0.002}
    return (noise(sample_rate, **placed(p), **band, seed=p["seed"]),)


def _burst(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    band = {"low": 200.0, "high": 0.49 * sample_rate, "attack": 0.003, "release": 0.003}
    return (noise(sample_rate, **placed(p), **band, seed=p["seed"]),)


def _train(p: Parameters, width: Any) -> dict[str, Any]:
    """As many events of `width` s as begin, at the given rate, within the duration."""
    xp = namespace(p["rate"])
    count = xp.clip(xp.floor(p["duration"] * p["rate"]), 1, MAX_EVENTS)
    return {"onset": p["onset"], "width": width, "period": 1 / p["rate"], "count": count, "level_db": p["level_db"]}


def _click(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (_pulse(p, sample_rate, onset=p["onset"], level_db=p["level_db"], width=_click_width(p, sample_rate)),)


def _clicks(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (_pulse(p, sample_rate, **_train(p, _click_width(p, sample_rate))),)


def _click_width(p: Parameters, sample_rate: int) -> Any:
    # A Hann pulse has fallen by 60 dB at ten cycles per width: none of it may lie above the Nyquist frequency.
    return namespace(p["width_ms"]).maximum(p["width_ms"] / 1000, 20 / sample_rate)


def _pulse(p: Parameters, sample_rate: int, *, width: Any, **more: Any) -> Voice:
    """A Hann pulse: a cosine of 0 Hz under a window that is all attack and release."""
    still = {"start": 1.0, "multiple": (0,), "phase": 0.25, "pitch": np.nan}
    return tonal(sample_rate, **more, **still, width=width, attack=width, release=width)


def _tone_train(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (tonal(sample_rate, **_train(p, 0.5 / p["rate"]), start=p["f0"], attack=0.008, release=0.015),)


def _note_train(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    plan = _train(p, 0.8 / p["rate"])
    return (stack(p, sample_rate, HARMONICS**-1.5, **plan, decay=4 * p["rate"], attack=0.004),)


def _noise_train(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    plan = _train(p, 0.4 / p["rate"])
    band = {"low": p["centre"] / 2, "high": p["centre"] * 2, "attack": 0.004, "release": 0.01}
    return (noise(sample_rate, **plan, **band, seed=p["seed"]),)


def _silence(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (tonal(sample_rate, onset=0.0, width=1.0, level_db=-120.0, start=100.0, count=0),)


def _two_tones(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    second = {**placed(p), "level_db": p["second_level_db"]}
    return (
        tonal(sample_rate, **placed(p), start=p["f0"]),
        tonal(sample_rate, **second, start=p["f0"] * 2 ** p["octaves"]),
    )


def _two_notes(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    # The second note enters at a third of the first and ends with it.
    late = {"onset": p["onset"] + p["duration"] / 3, "width": p["duration"] * 2 / 3, "level_db": p["second_level_db"]}
    amplitude = HARMONICS**-1.5
    return stack(p, sample_rate, amplitude), stack(p, sample_rate, amplitude, "second_f0", **late)


def _tone_in_noise(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    hiss = {**placed(p), "level_db": p["second_level_db"]}
    return (
        tonal(sample_rate, **placed(p), start=p["f0"]),
        noise(sample_rate, **hiss, low=20.0, high=0.49 * sample_rate, slope=-3.0, seed=p["seed"]),
    )


def _tone_after_noise(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    half = p["duration"] / 2
    first = {"onset": p["onset"], "width": half, "level_db": p["level_db"]}
    second = {"onset": p["onset"] + half, "width": half, "level_db": p["second_level_db"]}
    return (
        noise(sample_rate, **first, low=20.0, high=0.49 * sample_rate, seed=p["seed"]),
        tonal(sample_rate, **second, start=p["f0"]),
    )


def _chord(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return tuple(
        stack({**p, "f0": p["f0"] * ratio}, sample_rate, HARMONICS**-1.5, level_db=p["level_db"] - _THIRD)
        for ratio in (1.0, 1.25, 1.5)
    )


_CLICK = {"width_ms": Range(1.2, 5.0, "ms")}
_SECOND = {"level_db": _QUIETER, "second_level_db": _QUIETER}
_WIDTH = Range(0.5, 1.2, "octaves")

NOISES: tuple[SoundClass, ...] = (
    _class("noise_low", "low rumbling noise", _band, centre=hertz(100, 300), octaves=_WIDTH),
    _class(
        "noise_middle",
        "noise of middle frequencies, like rushing water",
        _band,
        centre=hertz(700, 1600),
        octaves=_WIDTH,
    ),
    _class("noise_high", "high hissing noise", _band, centre=hertz(3000, 5500), octaves=_WIDTH),
    _class(
        "noise_narrow",
        "noise in a narrow band, like wind whistling",
        _band,
        centre=hertz(300, 4000),
        octaves=Range(0.1, 0.3, "octaves"),
    ),
    _class("noise_white", "white noise, like a detuned radio", _coloured(0.0)),
    _class("noise_pink", "pink noise, like a waterfall", _coloured(-3.0)),
    _class(
        "noise_pulsing",
        "noise that swells and fades regularly, like a steam engine",
        _chuffing,
        centre=hertz(500, 2500),
        depth=Range(0.8, 1.0, "1"),
        rate=rate(2, 10),
    ),
    _class(
        "noise_hit",
        "a noise that starts suddenly and dies away, like a snare drum or cymbal",
        _hit,
        f_low=hertz(150, 3000),
        decay=Range(6.0, 30.0, "1/s"),
    ),
    _class("noise_burst", "one short burst of noise", _burst, duration=span(0.02, 0.08)),
    _class("click", "a single click", _click, duration=span(0.02, 0.03), **_CLICK),
    _class("clicks_slow", "a few clicks one after another, like a clock", _clicks, rate=rate(1.5, 4), **_CLICK),
    _class("clicks_fast", "rapid clicking, a rattle", _clicks, rate=rate(8, 15), **_CLICK),
    _class("beeps_slow", "slow repeated beeps", _tone_train, f0=hertz(400, 4000), rate=rate(1.5, 4)),
    _class("beeps_fast", "rapid repeated beeps", _tone_train, f0=hertz(400, 4000), rate=rate(7, 14)),
    _class("notes_repeated", "the same plucked note again and again", _note_train, f0=hertz(110, 600), rate=rate(2, 6)),
    _class(
        "noise_bursts_slow",
        "slow repeated noise bursts, like sawing",
        _noise_train,
        centre=hertz(500, 2500),
        rate=rate(1.5, 4),
    ),
    _class(
        "noise_bursts_fast",
        "rapid repeated noise bursts, like a motor",
        _noise_train,
        centre=hertz(500, 2500),
        rate=rate(7, 14),
    ),
    SoundClass("silence", "silence, nothing at all", {}, _silence),
    _class(
        "two_tones",
        "two pure tones at once",
        _two_tones,
        f0=hertz(200, 1500),
        octaves=Range(0.3, 1.6, "octaves"),
        **_SECOND,
    ),
    _class(
        "two_notes",
        "two notes, the second entering while the first sounds on",
        _two_notes,
        f0=hertz(110, 400),
        second_f0=hertz(130, 800),
        **_SECOND,
    ),
    _class("chord", "a major chord of three notes", _chord, f0=hertz(130, 500)),
    _class("tone_in_noise", "a pure tone in the middle of noise", _tone_in_noise, f0=hertz(400, 4000), **_SECOND),
    _class("noise_then_tone", "noise first, then a pure tone", _tone_after_noise, f0=hertz(400, 4000), **_SECOND),
)
