"""How well, and how fast, `nd_jax.audio.LogMel.inverse` turns log-mel spectrograms back into sound.

    python experiments/benchmark_inverse.py                        # procedural sounds, no data needed, about 2 minutes
    python experiments/benchmark_inverse.py --data-dir FOLDER      # the sound files of a folder (at most --sounds)

For every front end it prints, for several numbers of rounds:
  convergence: || |STFT(y)| - M || / || M ||, the mean over sounds, where y is the sound made and M the magnitudes that
    belong to its bands: |STFT(y)| with every mel band brought to its target level;
  log-mel error: mean |forward(inverse(forward(x))) - forward(x)| in dB over the cells above the floor + 20 dB;
  spectrum error: || |STFT(y)| - |STFT(x)| || / || |STFT(x)| ||, what the mel bands do not tell included;
  seconds for the whole batch, without compilation.
"""

from __future__ import annotations

import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import audio, runtime

FRONT_ENDS = {
    "16 kHz, 128 mels (notes)": (audio.LogMel(16000, 2048, 512, 128, f_max=8000.0), 63),
    "8 kHz, 64 mels (speech)": (audio.LogMel(8000, 512, 128, 64), 63),
}


def procedural_sounds(key: jax.Array, count: int, samples: int, sample_rate: int) -> np.ndarray:
    """Decaying harmonic tones, vibrato, chirps and bursts of noise in turn: (count, samples) float32, peak 0.25."""
    time_axis = np.arange(samples) / sample_rate
    sounds = []
    for index, seed in enumerate(jax.random.split(key, count)):
        pitch, colour, start = (float(value) for value in jax.random.uniform(seed, (3,)))
        hertz = 80.0 * 2 ** (3 * pitch)
        envelope = np.exp(-3 * colour * time_axis) * (time_axis >= 0.2 * start)
        kind = index % 4
        vibrato = 0.02 * hertz * np.sin(2 * np.pi * 5 * time_axis) if kind == 1 else 0.0
        glide = hertz * (time_axis * 2) if kind == 2 else 0.0
        phase = 2 * np.pi * np.cumsum(hertz + vibrato + glide) / sample_rate
        orders = [order for order in range(1, 11) if order * hertz < 0.2 * sample_rate]
        sound = sum(np.sin(order * phase) / order ** (1 + colour) for order in orders)
        if kind == 3:
            sound = np.asarray(jax.random.normal(seed, (samples,))) * (np.sin(2 * np.pi * 3 * time_axis) > 0)
        sound = sound * envelope
        sounds.append(0.25 * sound / np.abs(sound).max())
    return np.stack(sounds).astype(np.float32)


def measure(transform: audio.LogMel, sounds: np.ndarray, n_iter: int) -> tuple[float, float, float, float]:
    """Convergence, log-mel error in dB, spectrum error, and seconds."""
    levels = transform.forward(sounds)
    jax.block_until_ready(transform.inverse(levels, n_iter=n_iter))
    start = time.perf_counter()
    made = jax.block_until_ready(transform.inverse(levels, n_iter=n_iter))
    seconds = time.perf_counter() - start

    def magnitudes(wave: np.ndarray | jax.Array) -> jax.Array:
        return jnp.abs(audio.stft(wave, n_fft=transform.n_fft, hop_length=transform.hop_length))

    def distance(found: jax.Array, wanted: jax.Array) -> float:
        norm = jnp.sqrt(jnp.sum(jnp.square(wanted), (-2, -1)))
        return float(jnp.mean(jnp.sqrt(jnp.sum(jnp.square(found - wanted), (-2, -1))) / norm))

    found = magnitudes(made)
    bands = jnp.einsum("mb,nbt->nmt", transform.filters, jnp.square(transform.gain * found))
    ratio = 10.0 ** (levels / 10) / jnp.maximum(bands, 1e-12)
    share = transform.filters / np.maximum(transform.filters.sum(axis=0), 1e-12)
    wanted = found * jnp.sqrt(jnp.einsum("mb,nmt->nbt", share, ratio))
    heard = levels > transform.floor_db + 20
    error = float(jnp.mean(jnp.abs(transform.forward(made) - levels)[heard]))
    return distance(found, wanted), error, distance(found, magnitudes(sounds)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=pathlib.Path, help="a folder of WAV, FLAC or OGG files")
    parser.add_argument("--sounds", type=int, default=32)
    parser.add_argument("--rounds", type=int, nargs="+", default=[8, 16, 32, 64])
    arguments = parser.parse_args()
    runtime.enable_compilation_cache()

    print(f"{'front end':26} {'rounds':>6} {'convergence':>11} {'log-mel dB':>10} {'spectrum':>8} {'s / sound':>9}")
    for name, (transform, frames) in FRONT_ENDS.items():
        samples = transform.num_samples(frames)
        if arguments.data_dir is None:
            sounds = procedural_sounds(jax.random.key(0), arguments.sounds, samples, transform.sample_rate)
        else:
            suffixes = audio.READABLE_SUFFIXES
            paths = sorted(path for path in arguments.data_dir.rglob("*") if path.suffix.lower() in suffixes)
            chosen = np.random.default_rng(0).permutation(len(paths))[: arguments.sounds]
            found = audio.read_folder(
                arguments.data_dir,
                transform.sample_rate,
                length=samples,
                paths=[paths[index].relative_to(arguments.data_dir) for index in chosen],
            )
            sounds = np.stack(found.waves)
        for n_iter in arguments.rounds:
            convergence, error, spectrum, seconds = measure(transform, sounds, n_iter)
            print(
                f"{name:26} {n_iter:6d} {convergence:11.3f} {error:10.2f} {spectrum:8.3f} {seconds / len(sounds):9.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
