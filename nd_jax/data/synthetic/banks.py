"""`bank`: many sounds of many classes at once, in a few compiled programs."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.data.arrays import Clips
from nd_jax.data.synthetic.noises import NOISES
from nd_jax.data.synthetic.sounds import MIN_SAMPLE_RATE, MIN_SECONDS, SoundClass, random_bits
from nd_jax.data.synthetic.tones import TONES
from nd_jax.data.synthetic.voice import Events, Voice, events, render
from nd_jax.runtime import nearest

CLASSES: dict[str, SoundClass] = {sound.name: sound for sound in (*TONES, *NOISES)}

_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class Bank:
    """Made sounds and the truth about them; sounds of one class stand together.

    Attributes:
      waves: (n, samples) float32, peak at most 1.
      sample_rate: in Hz.
      class_index: (n,) int32 into `class_names`.
      class_names: the names of the classes in this bank.
      events: time span, band and pitch of every event, fields (n, MAX_EVENTS).
      parameters: what each sound was made from: class name -> parameter -> (per_class,).
    """

    waves: np.ndarray
    sample_rate: int
    class_index: np.ndarray
    class_names: tuple[str, ...]
    events: Events
    parameters: dict[str, dict[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.waves)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """What each class is, in plain words."""
        return tuple(CLASSES[name].description for name in self.class_names)

    def clips(self) -> Clips:
        """As `Clips`; features are the class and the MIDI pitch of the first event (NaN where there is none)."""
        count = np.zeros(len(self.class_names), int)
        files = []
        for index in self.class_index:
            files.append(f"{self.class_names[index]}/{count[index]:04d}")
            count[index] += 1
        features = {"class": self.class_index.astype(np.int64), "pitch": self.events.midi[:, 0]}
        return Clips(list(self.waves), self.sample_rate, features, {"class": self.class_names}, tuple(files))


def bank(
    key: jax.Array,
    *,
    per_class: int,
    sample_rate: int = 16000,
    seconds: float = 2.0,
    classes: Sequence[str] | None = None,
) -> Bank:
    """Makes `per_class` sounds of every class.

    Sound i of a class depends on the key, the name of the class and i alone: the same in a bank of one class or of all,
    in a small bank or a large one.

    Args:
      key: a typed key, `jax.random.key(seed)`.
      per_class: sounds per class.
      sample_rate: in Hz, 8000 or more.
      seconds: length of every sound, 0.5 or more.
      classes: names of `CLASSES`; default all.

    Raises:
      ValueError: unknown class name, or a number out of range.
    """
    names = tuple(CLASSES) if classes is None else tuple(classes)
    _check(names, per_class, sample_rate, seconds)
    samples = round(seconds * sample_rate)
    drawn, labels, voices = [], [], []
    for name in names:
        sound = CLASSES[name]
        bits = _bits(key, np.uint32(zlib.crc32(name.encode())), sound.codes, per_class)
        parameters, found, made = _plan(sound, sample_rate, seconds)(bits)
        drawn.append(jax.device_get(parameters))
        labels.append(jax.device_get(found))
        voices.append(made)
    waves = np.zeros((len(names) * per_class, samples), np.float32)
    for rows, voice in _by_program(voices, per_class):
        _render_into(waves, rows, voice, sample_rate)
    return Bank(
        waves=waves,
        sample_rate=sample_rate,
        class_index=np.repeat(np.arange(len(names), dtype=np.int32), per_class),
        class_names=names,
        events=jax.tree.map(lambda *parts: np.concatenate(parts), *labels),
        parameters=dict(zip(names, drawn, strict=True)),
    )


def _check(names: Sequence[str], per_class: int, sample_rate: int, seconds: float) -> None:
    for name in names:
        if name not in CLASSES:
            raise ValueError(f"unknown sound class {name!r}; {nearest(name, CLASSES)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"classes must be one or more different names, not {list(names)}")
    if per_class < 1:
        raise ValueError(f"per_class must be 1 or more, not {per_class}")
    if sample_rate < MIN_SAMPLE_RATE:
        raise ValueError(f"sample_rate must be {MIN_SAMPLE_RATE} Hz or more, not {sample_rate}")
    if seconds < MIN_SECONDS:
        raise ValueError(f"seconds must be {MIN_SECONDS} or more, not {seconds}")


@functools.partial(jax.jit, static_argnums=3)
def _bits(key: jax.Array, class_number: np.uint32, codes: np.ndarray, count: int) -> jax.Array:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, class_number), jnp.arange(count))
    return jax.vmap(random_bits, (0, None))(keys, codes)


@functools.cache
def _plan(sound: SoundClass, sample_rate: int, seconds: float) -> Any:
    def one(bits: jax.Array) -> Any:
        parameters = sound.place(bits, sample_rate, seconds)
        voices = sound.voices(parameters, sample_rate)
        return parameters, events(voices), voices

    return jax.jit(jax.vmap(one))


def _by_program(voices: Sequence[tuple[Voice, ...]], per_class: int) -> list[tuple[np.ndarray, Voice]]:
    """Groups all voices by their number of partials, with the rows of the bank that they belong to."""
    groups: dict[int, list[tuple[np.ndarray, Voice]]] = {}
    for index, sources in enumerate(voices):
        rows = np.arange(index * per_class, (index + 1) * per_class)
        for voice in jax.device_get(sources):
            groups.setdefault(voice.amplitude.shape[1], []).append((rows, voice))
    return [
        (
            np.concatenate([rows for rows, _ in members]),
            jax.tree.map(lambda *parts: np.concatenate(parts), *[voice for _, voice in members]),
        )
        for members in groups.values()
    ]


def _render_into(waves: np.ndarray, rows: np.ndarray, voice: Voice, sample_rate: int) -> None:
    # Chunks of one fixed size: one program whatever the size of the bank, and the same bits in any company.
    for first in range(0, len(rows), _CHUNK):
        chunk = jax.tree.map(lambda leaf: leaf[first : first + _CHUNK], voice)  # noqa: B023
        filled = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:1].repeat(_CHUNK - len(leaf), 0)]), chunk)
        made = np.asarray(_render(filled, waves.shape[1], sample_rate))
        # A clip with several sources has one row for each; within a chunk they add up too.
        np.add.at(waves, rows[first : first + _CHUNK], made[: len(rows[first : first + _CHUNK])])


@functools.partial(jax.jit, static_argnums=(1, 2))
def _render(voices: Voice, samples: int, sample_rate: int) -> jax.Array:
    return jax.vmap(lambda voice: render(voice, samples, sample_rate))(voices)
