"""Classes of pitched and gliding sounds: tones, harmonic stacks, chirps, modulations, strings, bells, vowels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nd_jax.data.synthetic.makers import tonal
from nd_jax.data.synthetic.sounds import LEVEL, Parameters, Range, SoundClass, hertz, random_phases, rate, span
from nd_jax.data.synthetic.voice import MANY, Voice, namespace

HARMONICS = np.arange(1, MANY + 1, dtype=np.float32)
COMMON = {"duration": span(0.4, 0.95), "level_db": LEVEL}


def placed(p: Parameters) -> dict[str, Any]:
    """When and how loud, for `tonal` and `noise`."""
    return {"onset": p["onset"], "width": p["duration"], "level_db": p["level_db"]}


def _class(name: str, description: str, build: Any, **parameters: Range) -> SoundClass:
    return SoundClass(name, description, {**COMMON, **parameters}, build)


def _tone(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (tonal(sample_rate, **placed(p), start=p["f0"]),)


def stack(p: Parameters, sample_rate: int, amplitude: Any, f0: str = "f0", **more: Any) -> Voice:
    """Harmonics of f0 with amplitudes (MANY,) and random phases."""
    phase = random_phases(p, MANY)
    return tonal(
        sample_rate,
        **{**placed(p), "start": p[f0], "multiple": HARMONICS, "amplitude": amplitude, "phase": phase, **more},
    )


_ODD = HARMONICS % 2
_TIMBRES: Mapping[str, tuple[str, np.ndarray]] = {
    "harmonic_bright": ("a bright steady note with many strong overtones", HARMONICS**-0.5),
    "harmonic_dark": ("a dull, mellow steady note with weak overtones", HARMONICS**-2.0),
    "harmonic_odd": ("a hollow note with odd overtones only, like a clarinet", _ODD * HARMONICS**-1.5),
    "harmonic_few": ("a soft note of four harmonics, like a flute organ", (HARMONICS <= 4) / HARMONICS),
    "missing_fundamental": (
        "a note whose fundamental and second harmonic are missing, yet its pitch is heard",
        (HARMONICS >= 3) / HARMONICS,
    ),
}


def _timbre(amplitude: Any) -> Any:
    return lambda p, sample_rate: (stack(p, sample_rate, amplitude),)


# Waveforms with the phases that give their shape: all harmonics are sines.
_SHAPES: Mapping[str, tuple[str, np.ndarray]] = {
    "square": ("a buzzing, hollow square wave, like an old video game", _ODD / HARMONICS),
    "sawtooth": ("a buzzing, bright sawtooth wave, like a synthesizer", 1 / HARMONICS),
    "triangle": ("a soft triangle wave", _ODD * (2 - HARMONICS % 4) / HARMONICS**2),
    "pulse_train": ("a thin, nasal buzz with all harmonics equally strong", np.ones(MANY)),
}


def _shape(amplitude: Any, phase: float) -> Any:
    return lambda p, sample_rate: (stack(p, sample_rate, amplitude, phase=phase),)


def _sweep(up: bool, exponential: bool) -> Any:
    def build(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
        low, high = p["f_low"], p["f_low"] * 2 ** p["octaves"]
        start, end = (low, high) if up else (high, low)
        return (tonal(sample_rate, **placed(p), start=start, end=end, curve=float(exponential), pitch=np.nan),)

    return build


def _bird(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    period = 1 / p["rate"]
    xp = namespace(p["rate"])
    count = xp.floor(p["duration"] * p["rate"])
    sound = tonal(
        sample_rate,
        onset=p["onset"],
        width=0.6 * period,
        level_db=p["level_db"],
        period=period,
        count=xp.clip(count, 1, 32),
        start=p["f_low"] * 2 ** p["octaves"],
        end=p["f_low"],
        curve=1.0,
        pitch=np.nan,
    )
    return (sound,)


def _glide(up: bool) -> Any:
    def build(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
        low, high = p["f0"], p["f0"] * 2 ** (p["semitones"] / 12)
        start, end = (low, high) if up else (high, low)
        more = {"start": start, "end": end, "curve": 1.0, "moving": (0.3, 0.7), "pitch": np.nan}
        return (stack(p, sample_rate, HARMONICS**-1.0 * (HARMONICS <= 12), **more),)

    return build


def _amplitude_modulated(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (tonal(sample_rate, **placed(p), start=p["f0"], am_depth=p["depth"], am_rate=p["rate"]),)


def _frequency_modulated(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    swing = {"deviation": p["f0"] * p["depth"], "wobble": p["rate"]}
    return (tonal(sample_rate, **placed(p), start=p["f0"], **swing),)


def _vibrato(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    deviation = p["f0"] * (2 ** (p["semitones"] / 12) - 1)
    return (stack(p, sample_rate, HARMONICS**-1.0 * (HARMONICS <= 12), deviation=deviation, wobble=p["rate"]),)


def _tremolo(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (stack(p, sample_rate, HARMONICS**-1.0, am_depth=p["depth"], am_rate=p["rate"]),)


def _swell(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    return (stack(p, sample_rate, HARMONICS**-1.0, attack=p["attack"], release=0.05),)


def _plucked(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
    # An ideal string plucked at a fraction of its length, with a little stiffness (Fletcher and Rossing, The Physics of
    # Musical Instruments, ch. 2); higher partials die sooner.
    amplitude = namespace(p["pluck_point"]).sin(np.pi * HARMONICS * p["pluck_point"]) / HARMONICS
    stretch = namespace(p["stiffness"]).sqrt(1 + p["stiffness"] * HARMONICS**2) - 1
    decay = p["decay"] * (1 + 0.15 * HARMONICS)
    more = {"shift": HARMONICS * p["f0"] * stretch, "decay": decay, "attack": 0.003, "release": 0.03}
    return (stack(p, sample_rate, amplitude, **more),)


# Partials relative to the prime: church bell (Rossing, Science of Percussion Instruments, ch. 11), free bar (ch. 5).
_BELL = (0.5, 1.0, 1.183, 1.506, 2.0, 2.514, 2.662, 3.011, 4.166, 5.433, 6.796, 8.215)
_BAR = (1.0, 2.756, 5.404, 8.933)


def _struck(ratios: tuple[float, ...], brightness: float) -> Any:
    ratio = np.asarray(ratios)

    def build(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
        sound = tonal(
            sample_rate,
            **placed(p),
            start=p["f0"],
            multiple=(0,),
            shift=p["f0"] * ratio,
            amplitude=ratio**-brightness,
            phase=random_phases(p, len(ratios)),
            decay=p["decay"] * ratio**0.7,
            attack=0.002,
            release=0.03,
        )
        return (sound,)

    return build


def _vowel(formants: tuple[float, ...]) -> Any:
    def build(p: Parameters, sample_rate: int) -> tuple[Voice, ...]:
        frequency = HARMONICS * p["f0"]
        # Two-pole resonances on a glottal source that falls by 12 dB per octave, radiated with +6 dB per octave.
        xp = namespace(frequency)
        envelope = xp.ones_like(frequency)
        for formant in formants:
            centre, bandwidth = formant * p["tract"], 60 + 0.05 * formant
            distance = (centre**2 - frequency**2) ** 2 + (bandwidth * frequency) ** 2
            envelope = envelope * centre**2 / xp.sqrt(distance)
        swing = {"deviation": 0.01 * p["f0"], "wobble": 5.0, "attack": 0.04, "release": 0.06}
        return (stack(p, sample_rate, envelope / HARMONICS, **swing),)

    return build


_NOTE = hertz(110, 880)
_DECAYING = {"duration": span(0.5, 0.95)}
_AM = {"f0": hertz(300, 4000), "depth": Range(0.7, 1.0, "1")}
_VOICED = {"f0": hertz(90, 260), "tract": Range(0.9, 1.2, "1")}

TONES: tuple[SoundClass, ...] = (
    _class("tone_low", "a low pure tone, a deep hum", _tone, f0=hertz(80, 300)),
    _class("tone_middle", "a pure tone of middle pitch, a plain beep", _tone, f0=hertz(300, 1500)),
    _class("tone_high", "a high pure tone, a whistle or thin beep", _tone, f0=hertz(1500, 6500)),
    *(_class(name, text, _timbre(amplitude), f0=_NOTE) for name, (text, amplitude) in _TIMBRES.items()),
    *(
        _class(name, text, _shape(amplitude, 0.25 if name == "pulse_train" else 0.0), f0=_NOTE)
        for name, (text, amplitude) in _SHAPES.items()
    ),
    *(
        _class(
            f"chirp_{'up' if up else 'down'}_{'exponential' if exponential else 'linear'}",
            f"a pure tone that {'rises' if up else 'falls'} steadily in {'octaves' if exponential else 'hertz'}, "
            f"a sweep {'up' if up else 'down'}",
            _sweep(up, exponential),
            f_low=hertz(150, 1000),
            octaves=Range(1.0, 2.7, "octaves"),
        )
        for exponential in (False, True)
        for up in (True, False)
    ),
    _class(
        "chirps_repeated",
        "short falling whistles again and again, like a bird",
        _bird,
        f_low=hertz(1200, 2400),
        octaves=Range(0.3, 0.7, "octaves"),
        rate=rate(2.5, 8),
    ),
    *(
        _class(
            f"glide_{'up' if up else 'down'}",
            f"a note that slides {'up' if up else 'down'} to another note and stays there",
            _glide(up),
            f0=hertz(130, 500),
            semitones=Range(3.0, 12.0, "semitones"),
        )
        for up in (True, False)
    ),
    _class("am_slow", "a pure tone that slowly gets louder and softer", _amplitude_modulated, **_AM, rate=rate(2, 6)),
    _class("am_middle", "a fluttering pure tone", _amplitude_modulated, **_AM, rate=rate(8, 20)),
    _class("am_fast", "a rough, harsh, beating tone", _amplitude_modulated, **_AM, rate=rate(30, 80)),
    _class(
        "fm_slow",
        "a tone that wanders slowly up and down, like a siren",
        _frequency_modulated,
        f0=hertz(500, 2000),
        depth=Range(0.2, 0.4, "1"),
        rate=rate(0.8, 2.5),
    ),
    _class(
        "fm_middle",
        "a warbling tone, like an alarm",
        _frequency_modulated,
        f0=hertz(500, 2500),
        depth=Range(0.1, 0.25, "1"),
        rate=rate(5, 14),
    ),
    _class(
        "fm_fast",
        "a metallic, robotic tone with sidebands",
        _frequency_modulated,
        f0=hertz(600, 2500),
        depth=Range(0.1, 0.25, "1"),
        rate=rate(35, 110),
    ),
    _class(
        "vibrato",
        "a sung or bowed note with vibrato",
        _vibrato,
        f0=hertz(150, 700),
        semitones=Range(0.3, 1.0, "semitones"),
        rate=rate(4, 8),
    ),
    _class(
        "tremolo",
        "a note that trembles in loudness",
        _tremolo,
        f0=hertz(110, 700),
        depth=Range(0.5, 0.95, "1"),
        rate=rate(4, 10),
    ),
    _class("swell", "a note that fades in slowly", _swell, f0=_NOTE, attack=span(0.15, 0.35), **_DECAYING),
    _class(
        "plucked_string",
        "a plucked string, like a guitar or harp",
        _plucked,
        f0=hertz(90, 700),
        decay=Range(1.5, 4.0, "1/s"),
        pluck_point=Range(0.12, 0.4, "1"),
        stiffness=Range(0.0, 2e-4, "1"),
        **_DECAYING,
    ),
    _class(
        "bell",
        "a struck bell with a long metallic ring",
        _struck(_BELL, 0.8),
        f0=hertz(250, 900),
        decay=Range(1.0, 3.0, "1/s"),
        **_DECAYING,
    ),
    _class(
        "struck_bar",
        "a struck wooden or metal bar, like a xylophone or glockenspiel",
        _struck(_BAR, 1.0),
        f0=hertz(300, 1400),
        decay=Range(4.0, 12.0, "1/s"),
        **_DECAYING,
    ),
    _class("vowel_a", "a voice singing ah", _vowel((730, 1090, 2440)), **_VOICED),
    _class("vowel_i", "a voice singing ee", _vowel((270, 2290, 3010)), **_VOICED),
    _class("vowel_u", "a voice singing oo", _vowel((300, 870, 2240)), **_VOICED),
)
