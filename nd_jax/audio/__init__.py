"""Sound in numbers: spectra, mel filter banks, log-mel and mel-IF with the way back, Kaldi features, sound files.

Everything that computes is a pure JAX function over (..., samples); only `files` touches the disk.
"""

from nd_jax.audio.fbank import Fbank
from nd_jax.audio.files import (
    POLICIES,
    READABLE_SUFFIXES,
    AudioFileError,
    FolderSounds,
    fit,
    info,
    read,
    read_folder,
    read_native,
    resample,
    write,
)
from nd_jax.audio.griffin_lim import griffin_lim, mel_griffin_lim, mel_to_linear
from nd_jax.audio.kaldi import KALDI_WINDOWS, kaldi_fbank, kaldi_mel_banks, kaldi_mfcc
from nd_jax.audio.loudness import Levelled, fade, limit_peaks, loudness, normalize_loudness
from nd_jax.audio.mel import (
    LogMel,
    amplitude_to_db,
    dct_matrix,
    hz_to_mel,
    mel_filter_bank,
    mel_frequencies,
    mel_spectrogram,
    mel_to_hz,
    mfcc,
    power_to_db,
    spectrogram_db,
)
from nd_jax.audio.mel_if import MelIF
from nd_jax.audio.resampling import resample_fft
from nd_jax.audio.stft import STFT, WINDOWS, istft, stft, window

__all__ = [
    "KALDI_WINDOWS",
    "POLICIES",
    "READABLE_SUFFIXES",
    "STFT",
    "WINDOWS",
    "AudioFileError",
    "Fbank",
    "FolderSounds",
    "Levelled",
    "LogMel",
    "MelIF",
    "amplitude_to_db",
    "dct_matrix",
    "fade",
    "fit",
    "griffin_lim",
    "hz_to_mel",
    "info",
    "istft",
    "kaldi_fbank",
    "kaldi_mel_banks",
    "kaldi_mfcc",
    "limit_peaks",
    "loudness",
    "mel_filter_bank",
    "mel_frequencies",
    "mel_griffin_lim",
    "mel_spectrogram",
    "mel_to_hz",
    "mel_to_linear",
    "mfcc",
    "normalize_loudness",
    "power_to_db",
    "read",
    "read_folder",
    "read_native",
    "resample",
    "resample_fft",
    "spectrogram_db",
    "stft",
    "window",
    "write",
]
