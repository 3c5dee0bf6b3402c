"""Encoders of texts and sounds: TF-IDF, which needs no download, and CLAP and sentence encoders from local folders.

`transformers` runs the latter two (extra "encoders"); nothing is ever downloaded.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nd_jax import audio
from nd_jax.runtime import require

CLAP_RATE = 48_000
_CLAP_TOKENS = 77


class TfIdf:
    """Counts of pieces of words, weighted by how rare they are (scikit-learn's `TfidfVectorizer`).

    It knows no meaning, only spelling: "dogs" is like "dog", "hound" is not.

    Args:
      texts: what is weighted: all captions and all concept names. Other texts are encoded by the pieces that occur in
        these; a text with none of them is like no other text.
      **options: of `TfidfVectorizer`; by default pieces of 3 to 5 letters within words.

    Raises:
      ValueError: no texts, or none with a word in it.
      nd_jax.runtime.MissingExtraError: scikit-learn is not installed.
    """

    def __init__(self, texts: Sequence[str], **options: Any) -> None:
        """Counts the texts."""
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"TF-IDF needs a list of texts to count, got {texts!r}")
        vectorizer = require("sklearn.feature_extraction.text", "labels").TfidfVectorizer
        settings = {"analyzer": "char_wb", "ngram_range": (3, 5), "dtype": np.float32, **options}
        self._vectorizer = vectorizer(**settings)
        try:
            self._vectorizer.fit([_plain(text) for text in texts])
        except ValueError as error:
            raise ValueError(f"TF-IDF finds nothing to count in {len(texts)} texts: {error}") from None

    def encode(self, texts: list[str]) -> np.ndarray:
        """(n, d) float32 of norm 1; the last column is 1 for texts of which nothing is known.

        Raises:
          ValueError: no texts, or one that is not in a list.
        """
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"TF-IDF encodes a list of texts, got {texts!r}")
        counts = self._vectorizer.transform([_plain(text) for text in texts]).toarray()
        unknown = ~counts.any(axis=1)
        return np.concatenate([counts, unknown[:, None].astype(np.float32)], axis=1)


class SentenceEncoder:
    """A sentence encoder such as all-MiniLM-L12-v2: the mean of the last hidden states of a text's tokens, of norm 1.

    Args:
      folder: of the model as Hugging Face stores it (config.json, weights, tokenizer).
      max_tokens: what is longer is cut, as sentence-transformers does with this model; at most what the model takes.
      batch_size: texts at a time.

    Raises:
      ValueError: no such folder, or no model in it that `transformers` can load.
      nd_jax.runtime.MissingExtraError: transformers or torch is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, max_tokens: int = 128, batch_size: int = 32) -> None:
        """Loads the model."""
        self._tokenizer = _loaded("AutoTokenizer", folder)
        self._model = _loaded("AutoModel", folder).requires_grad_(False).eval()
        self._max_tokens, self._batch_size = _longest(self._model, max_tokens), batch_size

    def encode(self, texts: list[str]) -> np.ndarray:
        """(n, d) float32 of norm 1."""

        def batch(part: list[str]) -> np.ndarray:
            tokens = self._tokenizer(
                part, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
            )
            hidden = self._model(**tokens).last_hidden_state.numpy()
            counted = tokens["attention_mask"].numpy()[..., None].astype(np.float32)
            return (hidden * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)

        return _in_batches(batch, list(texts), self._batch_size)


class Clap:
    """LAION-CLAP: sounds and texts in one space, as TAB needs them.

    Args:
      folder: of the model as Hugging Face stores it, such as a copy of laion/clap-htsat-unfused.
      batch_size: texts or sounds at a time.

    Raises:
      ValueError: no such folder, or no CLAP in it that `transformers` can load.
      nd_jax.runtime.MissingExtraError: transformers or torch is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, batch_size: int = 16) -> None:
        """Loads the model."""
        self._processor = _loaded("ClapProcessor", folder)
        self._model = _loaded("ClapModel", folder).requires_grad_(False).eval()
        self._max_tokens, self._batch_size = _longest(self._model, _CLAP_TOKENS), batch_size

    def encode(self, texts: list[str]) -> np.ndarray:
        """(n, d) float32 of norm 1, of texts of at most 77 tokens; what is longer is cut."""

        def batch(part: list[str]) -> np.ndarray:
            inputs = self._processor(
                text=part, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
            )
            return _features(self._model.get_text_features(**inputs))

        return _in_batches(batch, list(texts), self._batch_size)

    def encode_sounds(self, sounds: Sequence[Any], sample_rate: int | None = None) -> np.ndarray:
        """(n, d) float32 of norm 1, of sound files, or of waves (samples,) at `sample_rate`.

        Sounds are brought to 48 kHz and rounded to 16 bits, as the model was trained. Of what is longer than the model
        hears (10 s as a rule) the beginning counts: `transformers` would take a part of it by chance.
        """
        files = all(isinstance(each, (str, os.PathLike)) for each in sounds)
        if files == (sample_rate is not None):
            raise ValueError("give sound files alone, or waves with their sample_rate")

        longest = getattr(getattr(self._processor, "feature_extractor", None), "nb_max_samples", None)

        def batch(part: list[Any]) -> np.ndarray:
            waves = [_at_clap_rate(*(audio.read_native(each) if files else (each, sample_rate))) for each in part]
            waves = [wave[:longest] for wave in waves]
            inputs = self._processor(audio=waves, sampling_rate=CLAP_RATE, return_tensors="pt")
            return _features(self._model.get_audio_features(**inputs))

        return _in_batches(batch, list(sounds), self._batch_size)


def _plain(text: str) -> str:
    return text.replace("_", " ")


def _at_clap_rate(wave: Any, sample_rate: int) -> np.ndarray:
    samples = audio.resample(np.asarray(wave, np.float32), sample_rate, CLAP_RATE)
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16).astype(np.float32) / 32767


def _longest(model: Any, tokens: int) -> int:
    """So many tokens, or as many as the model has positions for; RoBERTa's begin two further on."""
    config = getattr(model, "config", None)
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    return tokens if positions is None else max(min(tokens, positions - 2), 1)


def _features(found: Any) -> np.ndarray:
    """Tensors, or as transformers 5 gives them, an output that holds them."""
    return getattr(found, "pooler_output", found).numpy()


def _in_batches(encode: Any, items: list[Any], size: int) -> np.ndarray:
    if not items:
        raise ValueError("there is nothing to encode")
    rows = np.concatenate([encode(items[start : start + size]) for start in range(0, len(items), size)])
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _loaded(kind: str, folder: str | os.PathLike[str]) -> Any:
    path = pathlib.Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise ValueError(f"there is no model at {path}: give a folder with config.json, weights and tokenizer")
    require("torch", "encoders")
    transformers = require("transformers", "encoders")
    try:
        return getattr(transformers, kind).from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{kind} cannot be loaded from {path}: {first}") from None
