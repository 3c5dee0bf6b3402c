"""Changes of a recording that keep it a possible sound (and of an image, an image), for training classifiers.

Every function takes one example (no batch axis), draws all its randomness from `key` and can be jitted and vmapped.
What a function does to the label is part of it: `shift_pitch` returns the pitch that the changed sound really has.
Frequency is never flipped and time never reversed: the result would not be a sound of the same kind.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_NEPER = 0.1 * 2.302585092994046  # natural logarithm of the power per dB


def resample(wave: jax.Array, ratio: jax.Array | float, start: jax.Array | float, samples: int) -> jax.Array:
    """Reads `wave` at the positions start + ratio * n: a tape played faster (ratio > 1) or slower.

    Catmull-Rom interpolation; positions outside of the recording read as silence. There is no low-pass filter before a
    ratio above 1, so keep to less than about half an octave: what folds over is the top of the spectrum only.

    Args:
      wave: (length,) recording.
      ratio: speed; pitch and formants move by 12 log2(ratio) semitones, the duration by 1 / ratio.
      start: position in `wave` of the first sample, in samples; negative values begin with silence.
      samples: length of the result.

    Returns:
      (samples,) float32.
    """
    positions = start + ratio * jnp.arange(samples, dtype=jnp.float32)
    base = jnp.floor(positions)
    t = positions - base
    index = base.astype(jnp.int32)
    length = wave.shape[0]

    def at(offset: int) -> jax.Array:
        place = index + offset
        inside = (place >= 0) & (place < length)
        return jnp.where(inside, wave[jnp.clip(place, 0, length - 1)], 0).astype(jnp.float32)

    before, left, right, after = at(-1), at(0), at(1), at(2)
    return left + 0.5 * t * (
        right - before + t * (2 * before - 5 * left + 4 * right - after + t * (3 * (left - right) + after - before))
    )


def shift_pitch(
    wave: jax.Array,
    pitch: jax.Array,
    *,
    key: jax.Array,
    samples: int,
    semitones: int = 4,
    cents: float = 15.0,
    lowest: int = 24,
    highest: int = 84,
    early: float = 0.0,
    late: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Moves a note by whole semitones, and its label with it, by resampling.

    Args:
      wave: (length,) recording of one note.
      pitch: its MIDI number, a scalar integer.
      key: randomness.
      samples: length of the result.
      semitones: largest shift; shifts that would leave lowest ... highest are not drawn.
      cents: additional detuning of at most this many hundredths of a semitone, too little to change the label.
      lowest: of the range of labels, MIDI number.
      highest: of the range of labels, MIDI number.
      early: the note begins at most so many samples after the start of the result, with silence before it.
      late: or at most so many samples before it, so that the attack is cut.

    Returns:
      The note (samples,) and its new MIDI number.
    """
    shift_key, cents_key, start_key = jax.random.split(key, 3)
    low = jnp.maximum(-semitones, lowest - pitch)
    high = jnp.minimum(semitones, highest - pitch)
    shift = jax.random.randint(shift_key, (), low, high + 1)
    detune = jax.random.uniform(cents_key, (), minval=-cents, maxval=cents) / 100
    start = jax.random.uniform(start_key, (), minval=-early, maxval=late)
    moved = resample(wave, jnp.exp2((shift + detune) / 12), start, samples)
    return moved, pitch + shift


def gain(wave: jax.Array, *, key: jax.Array, low_db: float, high_db: float) -> jax.Array:
    """Scales a sound, any shape, by a level drawn uniformly between low_db and high_db."""
    level = jax.random.uniform(key, (), minval=low_db, maxval=high_db)
    return wave * 10 ** (level / 20)


def noise(wave: jax.Array, *, key: jax.Array, low_db: float, high_db: float) -> jax.Array:
    """Adds white noise of a level (dB relative to full scale, RMS) drawn uniformly between low_db and high_db."""
    level_key, noise_key = jax.random.split(key)
    level = jax.random.uniform(level_key, (), minval=low_db, maxval=high_db)
    return wave + 10 ** (level / 20) * jax.random.normal(noise_key, wave.shape)


def place(wave: jax.Array, length: jax.Array, *, key: jax.Array, samples: int, speed: float = 1.0) -> jax.Array:
    """Puts a recording somewhere into `samples` samples at a random speed (pitch, formants and tempo move together).

    One in twelve begins exactly at the start of the result and one in twelve ends at its end, as padded sounds do.

    Args:
      wave: (longest,) recording, zeros after its own end.
      length: number of samples that are sound, a scalar integer.
      key: randomness.
      samples: length of the result; a recording that is longer than this loses its beginning or its end.
      speed: the speed is drawn between 1 / speed and speed, uniform in log.

    Returns:
      (samples,) float32.
    """
    speed_key, start_key = jax.random.split(key)
    ratio = speed ** jax.random.uniform(speed_key, (), minval=-1.0, maxval=1.0)
    room = samples - length / ratio
    offset = jnp.clip(jax.random.uniform(start_key, (), minval=-0.1, maxval=1.1), 0.0, 1.0) * room
    return resample(wave, ratio, -offset * ratio, samples)


def centre(wave: jax.Array, length: jax.Array, *, samples: int) -> jax.Array:
    """Puts a recording into the middle of `samples` samples, or cuts both of its ends; nothing random.

    Args:
      wave: (longest,) recording.
      length: number of samples that are sound, a scalar integer.
      samples: length of the result.

    Returns:
      (samples,) of the recording's type.
    """
    index = jnp.arange(samples) - (samples - length) // 2
    inside = (index >= 0) & (index < length)
    return jnp.where(inside, wave[jnp.clip(index, 0, wave.shape[0] - 1)], 0)


def crop(levels: jax.Array, length: jax.Array, *, key: jax.Array, frames: int, fill: float) -> jax.Array:
    """Cuts `frames` frames from a spectrogram, or puts a shorter one somewhere among them.

    As in `place`, one in twelve results begins exactly where the sound does and one in twelve ends with it.

    Args:
      levels: (bands, longest).
      length: number of frames that are sound, a scalar integer; none of the others is used.
      key: randomness.
      frames: number of frames of the result.
      fill: the value around a sound that is shorter than the result, the floor of a log-mel.

    Returns:
      (bands, frames) of the spectrogram's type.
    """
    where = jnp.clip(jax.random.uniform(key, (), minval=-0.1, maxval=1.1), 0.0, 1.0)
    index = jnp.arange(frames) - jnp.round(where * (frames - length)).astype(jnp.int32)
    inside = ((index >= 0) & (index < length))[None]
    return jnp.where(inside, levels[:, jnp.clip(index, 0, levels.shape[1] - 1)], jnp.asarray(fill, levels.dtype))


def together(levels: jax.Array, other: jax.Array) -> jax.Array:
    """Two sounds at once: the levels, in dB, of the sum of both powers, any shape.

    What the sum of two unrelated sounds has on average; their interference is left out.
    """
    return jnp.logaddexp(levels * _NEPER, other * _NEPER) / _NEPER


def mix(levels: jax.Array, other: jax.Array, ratio: jax.Array) -> jax.Array:
    """Two sounds so that `ratio` of what is heard is the first (between-class learning, Tokozume et al. 2018, eq. 2).

    The louder sound is weakened by the difference of the loudest frames' levels, so that the ratio is one of loudness,
    and the sum has the power of its parts.

    Args:
      levels: (bands, frames) in dB.
      other: the second sound, likewise.
      ratio: 0 ... 1, scalar; the weight of the first sound's label, 1 - ratio is that of the second.

    Returns:
      (bands, frames) in dB.
    """

    def loudest(sound: jax.Array) -> jax.Array:
        return jnp.max(jax.nn.logsumexp(sound * _NEPER, axis=0)) / _NEPER

    ratio = jnp.clip(ratio, 1e-3, 1.0 - 1e-3)
    weight = 1.0 / (1.0 + 10 ** ((loudest(levels) - loudest(other)) / 20) * (1.0 - ratio) / ratio)
    size = weight**2 + (1.0 - weight) ** 2
    first, second = (10.0 * jnp.log10(share**2 / size) for share in (weight, 1.0 - weight))
    return together(levels + first, other + second)


def equalize(levels: jax.Array, *, key: jax.Array, decibels: float, knots: int = 6) -> jax.Array:
    """Another microphone: adds one smooth curve over frequency, in dB, to all frames.

    Args:
      levels: (bands, frames) in dB.
      key: randomness.
      decibels: the curve's standard deviation at its `knots` equally spaced support points.
      knots: number of support points; linear between them.
    """
    bands = levels.shape[0]
    points = decibels * jax.random.normal(key, (knots,))
    curve = jnp.interp(jnp.linspace(0.0, knots - 1.0, bands), jnp.arange(knots, dtype=jnp.float32), points)
    return levels + curve[:, None]


def warp(levels: jax.Array, *, key: jax.Array, time: float = 1.0, frequency: float = 1.0) -> jax.Array:
    """Stretches a spectrogram along time about a random frame and, slightly, along the band axis (another vocal tract).

    Args:
      levels: (bands, frames) in dB.
      key: randomness.
      time: the stretch is drawn between 1 / time and time, uniform in log.
      frequency: likewise for the bands, about band 0; the bands that are read beyond the last repeat it.

    Returns:
      (bands, frames), linearly interpolated.
    """
    time_key, centre_key, frequency_key = jax.random.split(key, 3)
    bands, frames = levels.shape

    def read(rows: jax.Array, positions: jax.Array) -> jax.Array:
        positions = jnp.clip(positions, 0.0, rows.shape[0] - 1.0)
        left = jnp.minimum(positions.astype(jnp.int32), rows.shape[0] - 2)
        part = (positions - left)[:, None]
        return rows[left] * (1 - part) + rows[left + 1] * part

    stretch = time ** jax.random.uniform(time_key, (), minval=-1.0, maxval=1.0)
    centre = jax.random.uniform(centre_key, (), maxval=frames - 1.0)
    levels = read(levels.T, centre + (jnp.arange(frames) - centre) / stretch).T
    scale = frequency ** jax.random.uniform(frequency_key, (), minval=-1.0, maxval=1.0)
    return read(levels, jnp.arange(bands) / scale)


def mask(levels: jax.Array, *, key: jax.Array, bands: int, frames: int, fill: float) -> jax.Array:
    """Hides one range of at most `bands` bands and one of at most `frames` frames (SpecAugment, Park et al. 2019).

    Args:
      levels: (all bands, all frames).
      key: randomness.
      bands: largest width in bands; 0 for none.
      frames: largest width in frames; 0 for none.
      fill: the value of what is hidden, the floor of a log-mel.
    """

    def hidden(key: jax.Array, size: int, widest: int) -> jax.Array:
        width_key, start_key = jax.random.split(key)
        width = jax.random.randint(width_key, (), 0, widest + 1)
        start = jax.random.randint(start_key, (), 0, size - width + 1)
        index = jnp.arange(size)
        return (index >= start) & (index < start + width)

    band_key, frame_key = jax.random.split(key)
    rows = hidden(band_key, levels.shape[0], bands)[:, None]
    columns = hidden(frame_key, levels.shape[1], frames)[None, :]
    return jnp.where(rows | columns, fill, levels)


def affine(
    image: jax.Array,
    *,
    key: jax.Array,
    shift: float = 0.0,
    scale: float = 1.0,
    rotate: float = 0.0,
    shear: float = 0.0,
    fill: float = 0.0,
) -> jax.Array:
    """Moves, resizes, turns and slants an image around its middle.

    Args:
      image: (height, width, channels).
      key: randomness.
      shift: largest movement along each axis, in pixels.
      scale: the size changes by a factor between 1 / scale and scale, uniform in log.
      rotate: largest angle, in degrees, to either side.
      shear: largest slant to either side: every row is moved by so many columns more than the one below it.
      fill: the value around the image.

    Returns:
      (height, width, channels) float32, bilinearly interpolated.
    """
    height, width, channels = image.shape
    draws = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
    angle, factor, slant = jnp.deg2rad(rotate * draws[0]), scale ** draws[1], shear * draws[2]
    row = (jnp.arange(height) - (height - 1) / 2)[:, None] / factor
    column = (jnp.arange(width) - (width - 1) / 2)[None, :] / factor
    column = column + slant * row
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    rows = cosine * row + sine * column + (height - 1) / 2 + shift * draws[3]
    columns = cosine * column - sine * row + (width - 1) / 2 + shift * draws[4]
    planes = [
        jax.scipy.ndimage.map_coordinates(image[..., channel], [rows, columns], order=1, cval=fill)
        for channel in range(channels)
    ]
    return jnp.stack(planes, axis=-1).astype(jnp.float32)


def harmonic_note(
    pitch: jax.Array, *, key: jax.Array, samples: int, sample_rate: int, table: int = 2048, cents: float = 15.0
) -> jax.Array:
    """A procedural note of known pitch: a random timbre that darkens as it decays.

    Two band-limited wavetables (harmonics k with random levels around k ** -slope, even ones weak at random, random
    phases) are crossfaded over time; onset, attack, decay, vibrato and detuning are random. Peak level 0.25.

    Args:
      pitch: MIDI number, scalar.
      key: randomness.
      samples: length of the result.
      sample_rate: in Hz.
      table: length of a wavetable.
      cents: largest detuning.

    Returns:
      (samples,) float32.
    """
    keys = jax.random.split(key, 12)

    def uniform(index: int, low: float, high: float) -> jax.Array:
        return jax.random.uniform(keys[index], (), minval=low, maxval=high)

    frequency = 440.0 * jnp.exp2((pitch - 69 + uniform(0, -cents, cents) / 100) / 12)
    harmonic = jnp.arange(table // 2 + 1, dtype=jnp.float32)
    audible = (harmonic >= 1) & (harmonic * frequency < 0.48 * sample_rate)
    slope = uniform(1, 0.3, 2.2)
    colour = 6.0 * jax.random.normal(keys[2], harmonic.shape)
    even = jnp.where(harmonic % 2 == 0, uniform(3, -1.0, 1.0), 0.0)
    levels = -20.0 * slope * jnp.log10(jnp.maximum(harmonic, 1.0)) + colour + 30.0 * jnp.minimum(even, 0.0)
    phases = jax.random.uniform(keys[4], harmonic.shape, maxval=2 * jnp.pi)

    def wavetable(darker: jax.Array | float) -> jax.Array:
        decibels = levels - darker * jnp.log2(jnp.maximum(harmonic, 1.0))
        spectrum = jnp.where(audible, 10 ** (decibels / 20), 0.0) * jnp.exp(1j * phases)
        return jnp.fft.irfft(spectrum) * table

    time = jnp.arange(samples, dtype=jnp.float32) / sample_rate
    onset = uniform(5, -0.3, 0.3)
    since = jnp.maximum(time - onset, 0.0)
    vibrato = uniform(6, 0.0, 20.0) / 1200 * jnp.log(2.0)
    rate = uniform(7, 3.0, 7.0)
    cycles = frequency * (time - vibrato * jnp.cos(2 * jnp.pi * rate * time) / (2 * jnp.pi * rate))
    position = jnp.mod(cycles, 1.0) * table
    left = position.astype(jnp.int32) % table
    part = position - jnp.floor(position)

    def play(values: jax.Array) -> jax.Array:
        return values[left] * (1 - part) + values[(left + 1) % table] * part

    fade = jnp.exp(-since / uniform(8, 0.2, 2.0))
    tone = play(wavetable(0.0)) * fade + play(wavetable(uniform(9, 2.0, 9.0))) * (1 - fade)
    decay = jnp.exp(-since / jnp.exp(uniform(10, -1.5, 2.5)))
    attack = jnp.minimum(since / uniform(11, 0.003, 0.1), 1.0)
    tone = tone * attack * decay
    return 0.25 * tone / jnp.maximum(jnp.max(jnp.abs(tone)), 1e-6)
