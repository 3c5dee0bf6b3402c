"""Sound in numbers: spectra, mel filter banks, log-mel with the way back, Griffin-Lim, Kaldi features, sound files.

Everything that computes is a pure JAX function over (..., samples); only `files` touches the disk.
"""

from nd_jax.audio.griffin_lim import griffin_lim
from nd_jax.audio.mel import (
    LogMel,
    amplitude_to_db,
    dct_matrix,
    hz_to_mel,
    mel_filter_bank,
    mel_frequencies,
    mel_spectrogram,
    mel_to_hz,
    mel_to_linear,
    mfcc,
    power_to_db,
    spectrogram_db,
)
from nd_jax.audio.stft import STFT, WINDOWS, istft, stft, window

__all__ = [
    "STFT",
    "WINDOWS",
    "LogMel",
    "amplitude_to_db",
    "dct_matrix",
    "griffin_lim",
    "hz_to_mel",
    "istft",
    "mel_filter_bank",
    "mel_frequencies",
    "mel_spectrogram",
    "mel_to_hz",
    "mel_to_linear",
    "mfcc",
    "power_to_db",
    "spectrogram_db",
    "stft",
    "window",
]
