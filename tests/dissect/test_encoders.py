"""Encoders: TF-IDF itself; CLAP and sentence encoders up to the boundary of `transformers`, which is a fake here."""

from __future__ import annotations

import sys
import types

import chex
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio
from nd_jax.dissect.encoders import CLAP_RATE, Clap, SentenceEncoder, TfIdf
from nd_jax.runtime import MissingExtraError


class Tensor:
    """What a tensor of torch is here: an array with `numpy`."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def numpy(self):
        return self.values


class Model:
    def requires_grad_(self, wanted):
        assert not wanted
        return self

    def eval(self):
        return self

    def __call__(self, input_ids, attention_mask):
        # Padding has hidden states too, which must not count.
        hidden = np.stack([input_ids.values, input_ids.values**2], axis=-1).astype(np.float32)
        return types.SimpleNamespace(last_hidden_state=Tensor(hidden + 9 * (attention_mask.values[..., None] == 0)))

    def get_text_features(self, input_ids, attention_mask):
        return Tensor(np.stack([input_ids.values[:, 0], np.ones(len(input_ids.values))], axis=1))

    def get_audio_features(self, waves):
        return types.SimpleNamespace(pooler_output=Tensor([[wave.max(), len(wave) / CLAP_RATE] for wave in waves]))


class Tokenizer:
    def __call__(self, text=None, audio=None, sampling_rate=None, max_length=None, **options):
        if audio is not None:
            assert sampling_rate == CLAP_RATE
            return {"waves": audio}
        rows = [[len(word) for word in each.split()][:max_length] for each in text]
        longest = max(map(len, rows))
        ids = [row + [0] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        return {"input_ids": Tensor(ids), "attention_mask": Tensor(mask)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model, and a `transformers` that loads it."""
    (tmp_path / "config.json").write_text("{}")

    def kind(made):
        def from_pretrained(path, local_files_only):
            assert path == str(tmp_path) and local_files_only
            return made()

        return types.SimpleNamespace(from_pretrained=from_pretrained)

    fake = types.ModuleType("transformers")
    fake.AutoTokenizer = fake.ClapProcessor = kind(Tokenizer)
    fake.AutoModel = fake.ClapModel = kind(Model)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    torch = types.ModuleType("torch")
    torch.Tensor = Tensor  # SciPy asks for it
    monkeypatch.setitem(sys.modules, "torch", torch)
    return tmp_path


def test_tf_idf_finds_the_concepts_in_captions():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'nd_jax[labels]'")
    names = ["dog", "sea_waves", "glass_breaking"]
    captions = ["Two dogs are barking.", "the waves of the sea", "a glass breaks", "zzz"]
    encoder = TfIdf([*captions[:3], *names])
    assert isinstance(encoder, nd.dissect.TextEncoder)
    found = encoder.encode(captions)
    chex.assert_trees_all_close(np.linalg.norm(found, axis=1), np.ones(4, np.float32), rtol=1e-5)
    chex.assert_trees_all_close(encoder.encode(captions[2:3])[0], found[2])
    scores = nd.dissect.db_scores(found, encoder.encode(names), scale=10)
    assert scores[:3].argmax(axis=1).tolist() == [0, 1, 2]
    # Nothing is known of "zzz": it is like no concept more than like another.
    chex.assert_trees_all_close(scores[3], np.full(3, 1 / 3, np.float32), rtol=1e-5)
    with pytest.raises(ValueError, match="needs a list of texts to count, got 'dog'"):
        TfIdf("dog")
    with pytest.raises(ValueError, match="nothing to count in 1 texts"):
        TfIdf([" "])
    for texts in ([], "dog"):
        with pytest.raises(ValueError, match="TF-IDF encodes a list of texts, got"):
            encoder.encode(texts)


def test_sentences_are_means_of_their_tokens(folder):
    encoder = SentenceEncoder(folder, max_tokens=3, batch_size=2)
    found = encoder.encode(["ab abcd", "a", "ab ab ab abcdefgh"])
    expected = np.array([[3.0, 10.0], [1.0, 1.0], [2.0, 4.0]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    chex.assert_trees_all_close(found, expected.astype(np.float32), rtol=1e-6)
    with pytest.raises(ValueError, match="nothing to encode"):
        encoder.encode([])


def test_clap_hears_at_its_own_rate(folder, tmp_path):
    encoder = Clap(folder)
    texts = encoder.encode(["abc d", "a"])
    chex.assert_trees_all_close(texts[0], np.array([3, 1], np.float32) / np.sqrt(np.float32(10)), rtol=1e-6)
    wave = np.full(16000, 0.5, np.float32)
    found = encoder.encode_sounds([wave], 16000)
    # At 48 kHz it is one second still.
    chex.assert_trees_all_close(found[0, 0] / found[0, 1], np.float32(0.5), atol=0.1)
    audio.write(tmp_path / "a.wav", wave, 16000)
    chex.assert_trees_all_close(encoder.encode_sounds([tmp_path / "a.wav"]), found, atol=1e-4)
    with pytest.raises(ValueError, match="files alone, or waves with their sample_rate"):
        encoder.encode_sounds([wave])


@pytest.mark.parametrize("encoder", [SentenceEncoder, Clap])
def test_what_is_missing_is_one_sentence(encoder, folder, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="there is no model at .*nowhere"):
        encoder(tmp_path / "nowhere")
    monkeypatch.setattr(sys.modules["transformers"].AutoTokenizer, "from_pretrained", lambda *a, **k: {}["bert"])
    monkeypatch.setattr(sys.modules["transformers"].ClapProcessor, "from_pretrained", lambda *a, **k: {}["bert"])
    with pytest.raises(ValueError, match="cannot be loaded from .*: 'bert'"):
        encoder(folder)
    for module in ("transformers", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=r"is not installed: pip install 'nd_jax\[encoders\]'"):
            encoder(folder)


def test_tf_idf_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(MissingExtraError, match=r"nd_jax\[labels\]"):
        TfIdf(["dog"])
