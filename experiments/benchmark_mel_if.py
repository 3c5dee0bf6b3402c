"""What mel-IF pictures lose: sounds there and back, measured, and side by side on a page.

    python experiments/benchmark_mel_if.py                               # 24 made notes, no data needed
    python experiments/benchmark_mel_if.py --data-dir notes --count 0    # all held-out instrument notes

For every picture it prints, over the sounds:
  LSD: the log-spectral distance in dB, the mean over frames of the root mean square over bins of the difference of two
    log spectra (Hann window of 2048 samples, hop 512), where everything 60 dB or more below a sound's loudest cell
    counts as that loud; frames that are so quiet throughout are left out;
  heard: the mean difference in dB, its sign dropped, over the cells of the sound above that floor;
  cents: by how much the pitch that nd_jax.report.sounds.pitch reads moves, median and 95th percentile without sign,
    octaves not counted; sounds where it reads none in the original are left out;
  octave, none: of how many sounds it then reads another octave, or no pitch;
  ms: for one sound there, and back.
The last 1536 samples, where the way back fades, are not measured. Beside them stands the log-mel of our classifiers,
whose phases Griffin-Lim has to find.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

import nd_jax as nd
from nd_jax import audio
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.sounds import pitch
from nd_jax.runtime import require, script

_FLOOR_DB = 60.0
_FADES = 1536
_BATCH = 8
_HEAD = ("picture", "shape", "LSD", "heard", "cents", "95 %", "octave", "none", "ms there", "ms back")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which sounds, how many, and where the page goes."""

    data_dir: pathlib.Path | None = None
    """A folder of notes; by default notes are made."""
    data_set: Literal["instrument_notes", "nsynth", "audio_folder"] = "instrument_notes"
    """How to read data_dir."""
    split: str = "test"
    """Which part of the data set."""
    count: int = 24
    """At most so many sounds, evenly spread; 0 for all."""
    samples: int = 64000
    """Length of every sound."""
    sample_rate: int = 16000
    """In Hz."""
    n_fft: int = 2048
    """Frame size of the pictures; the low resolution has half."""
    shown: int = 6
    """So many sounds are on the page."""
    out: pathlib.Path = pathlib.Path("out/mel_if")
    """The folder to write; other files in it stay."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a picture does to some sounds: one row of the table, and the sounds that came back."""

    cells: tuple[str, ...]
    made: np.ndarray


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    if settings.count < 0 or settings.shown < 0:
        raise ValueError(f"count and shown must not be negative, got {settings.count} and {settings.shown}")
    waves, names = _sounds(settings)
    pictures = transforms(settings)
    print(_line(_HEAD))
    found = {}
    for name, transform in pictures.items():
        found[name] = measure(name, transform, waves, settings.sample_rate)
        print(_line(found[name].cells), flush=True)
    return _page(settings, pictures, waves, names, found)


def _line(cells: Sequence[str]) -> str:
    """A row of the table: Markdown that can be read as it stands."""
    widths = (39, 14, 7, 7, 5, 5, 9, 4, 8, 7)
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def transforms(settings: Settings) -> dict[str, Any]:
    """The pictures that are compared, by name."""
    whole, half = settings.n_fft, settings.n_fft // 2
    size = functools.partial(audio.MelIF, settings.sample_rate, settings.samples)
    return {
        "mel-IF": size(whole),
        "mel-IF, half the bands": size(whole, mel_downscale=2),
        "mel-IF, a quarter of the bands": size(whole, mel_downscale=4),
        "mel-IF, low resolution": size(half),
        "mel-IF, low resolution, half the frames": size(half, hop_length=half // 2),
        "linear IF": size(whole, kind="linear"),
        "linear IF, low resolution": size(half, kind="linear"),
        "phase": size(whole, kind="phase"),
        "log-mel, 128 bands, Griffin-Lim": audio.LogMel(settings.sample_rate, whole, whole // 4, 128),
    }


def measure(name: str, transform: Any, waves: np.ndarray, sample_rate: int) -> Measured:
    """Sends sounds (n, samples) through a picture and back."""
    there, back = jax.jit(transform.forward), jax.jit(transform.inverse)
    pictures, first = _timed(there, waves)
    made, second = _timed(back, pictures)
    made = np.stack([audio.fit(wave, waves.shape[1]) for wave in made])
    shape = " x ".join(map(str, pictures.shape[1:]))
    end = waves.shape[1] - _FADES
    spectral = np.asarray([_distances(*pair) for pair in zip(waves[:, :end], made[:, :end], strict=True)])
    before, after = (
        [pitch(nd.domain.Sound(wave[:end], sample_rate), low=28.0) for wave in each] for each in (waves, made)
    )
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if old is not None]
    moved = np.asarray([1200 * np.log2(new / old) for old, new in pairs if new is not None])
    cents = np.abs((moved + 600) % 1200 - 600)
    said = [f"{np.percentile(cents, share):.1f}" if cents.size else "-" for share in (50, 95)]
    said += [f"{np.sum(np.abs(moved) > 600)} of {len(pairs)}", f"{len(pairs) - len(moved)}"]
    lsd, heard = np.nanmean(spectral, axis=0)
    times = (f"{1000 * seconds / len(waves):.0f}" for seconds in (first, second))
    return Measured((name, shape, f"{lsd:.2f} dB", f"{heard:.2f} dB", *said, *times), made)


def _timed(function: Callable[[Any], Any], given: np.ndarray) -> tuple[np.ndarray, float]:
    """Its results for a batch at a time, and the seconds that it takes, without compilation."""
    size = min(_BATCH, len(given))
    jax.block_until_ready(function(given[:size]))
    parts, seconds = [], 0.0
    for start in range(0, len(given), size):
        index = np.arange(start, start + size) % len(given)
        begun = time.perf_counter()
        part = np.asarray(function(given[index]))
        seconds += time.perf_counter() - begun
        parts.append(part[: len(given) - start])
    return np.concatenate(parts), seconds


def _distances(wave: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """LSD, and the mean difference of the heard cells, in dB; NaN for silence."""
    spectra = audio.stft(np.stack([wave, made]), n_fft=2048, hop_length=512, center=False)
    levels = 20 * np.log10(np.maximum(np.abs(np.asarray(spectra)), 1e-9))
    floor = levels[0].max() - _FLOOR_DB
    heard = levels[0] > floor
    frames = heard.any(axis=0)
    if levels[0].max() < -100 or not frames.any():
        return float("nan"), float("nan")
    apart = np.abs(np.subtract(*np.maximum(levels, floor)))
    return float(np.sqrt(np.mean(apart[:, frames] ** 2, axis=0)).mean()), float(apart[heard].mean())


def _sounds(settings: Settings) -> tuple[np.ndarray, list[str]]:
    if settings.data_dir is None:
        count = settings.count or 24
        midi = np.linspace(28, 88, count).round()
        return _notes(midi, settings), [f"made, MIDI {number:.0f}" for number in midi]
    clips = nd.data.load(
        settings.data_set, settings.split, manual_dir=settings.data_dir, sample_rate=settings.sample_rate
    )
    if not len(clips):
        raise ValueError(f"there are no sounds in the split {settings.split!r}")
    count = min(settings.count or len(clips), len(clips))
    chosen = clips.select(np.unique(np.linspace(0, len(clips) - 1, count).round().astype(int)))
    return chosen.fixed(settings.samples), [pathlib.Path(file).stem for file in chosen.files]


def _notes(midi: np.ndarray, settings: Settings) -> np.ndarray:
    """Plucked strings: partials up to 0.45 of the rate that die the sooner the higher they are."""
    seconds = np.arange(settings.samples) / settings.sample_rate
    notes = []
    for number in midi:
        hertz = 440.0 * 2 ** ((number - 69) / 12)
        partials = np.arange(1, max(int(0.45 * settings.sample_rate / hertz), 1) + 1)[:40]
        waves = (
            np.exp(-(0.8 + 0.15 * n) * seconds) * np.sin(2 * np.pi * n * hertz * seconds + n * n) / n for n in partials
        )
        wave = sum(waves) * np.minimum(seconds / 0.005, 1.0)
        notes.append(0.25 * wave / np.abs(wave).max())
    return np.stack(notes).astype(np.float32)


def _page(
    settings: Settings, pictures: dict[str, Any], waves: np.ndarray, names: list[str], found: dict[str, Measured]
) -> pathlib.Path:
    page = Leaflet(settings.out, "Mel-IF there and back", __doc__.split("\n\n")[0])
    page.table(_HEAD, [each.cells for each in found.values()])
    domain = nd.domain.MelIF(pictures["mel-IF"])
    if settings.shown:
        middle = len(waves) // 2
        words = f"{names[middle]} as mel-IF: the level, the instantaneous frequency, and both in one picture"
        page.figure("mel_if.png", _channels(domain, np.asarray(domain.from_wave(waves[middle]))), words, words)
    for place in np.unique(np.linspace(0, len(waves) - 1, min(settings.shown, len(waves))).round().astype(int)):
        page.heading(names[place])
        heard = np.stack([waves[place], *(each.made[place] for each in found.values())])
        page.tiles(
            f"note{place:03d}",
            np.asarray(domain.from_wave(heard)),
            domain,
            titles=["as it was", *found],
            made=[nd.domain.Sound(wave, settings.sample_rate) for wave in heard],
        )
    return page.finish()


def _channels(domain: nd.domain.MelIF, x: np.ndarray) -> Any:
    """A matplotlib Figure of the two channels apart and together, with axes in seconds and Hz."""
    require("matplotlib", "report")
    figure = require("matplotlib.figure", "report").Figure(figsize=(11, 3.4), dpi=110, layout="constrained")
    level, turning = domain.pictures(x)
    titles = ("level (dBFS)", "instantaneous frequency (π a frame)", "both: brightness and hue")
    for place, (picture, title) in enumerate(zip((level, turning, domain.picture(x)), titles, strict=True), start=1):
        axes = figure.add_subplot(1, 3, place)
        limits = {} if np.ndim(picture.values) == 3 else {"vmin": picture.low, "vmax": picture.high}
        colours = "twilight" if picture is turning else "magma"
        mesh = axes.pcolormesh(
            picture.x.values, picture.y.values, picture.values, shading="nearest", cmap=colours, **limits
        )
        top = domain.sample_rate / 4
        axes.set(title=title, xlabel="seconds", ylabel="Hz" if place == 1 else "", ylim=(0, top))
        if limits:
            figure.colorbar(mesh, ax=axes)
    return figure


if __name__ == "__main__":
    sys.exit(main())
