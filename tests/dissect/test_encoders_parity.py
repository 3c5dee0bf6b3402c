"""CLAP and a sentence encoder through the real `transformers`, with tiny weights: the published arithmetic."""

from __future__ import annotations

import json
import shutil

import chex
import numpy as np
import pytest

import nd_jax as nd

for needed in ("torch", "transformers", "tokenizers"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install 'nd_jax[encoders]'")

pytestmark = pytest.mark.filterwarnings("ignore")


def tokenizer(folder, words, kind, **special):
    """A tokenizer of words, stored as Hugging Face does; word n has id n."""
    import tokenizers

    vocabulary = {word: place for place, word in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, special["unk_token"]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    begin, end = special.get("bos_token", special.get("cls_token")), special.get("eos_token", special.get("sep_token"))
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(each, vocabulary[each]) for each in (begin, end)]
    )
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **special}))


@pytest.fixture(scope="module")
def clap(shared, tmp_path_factory):
    """The reference model in a folder that `Clap` loads, and the reference vectors."""
    reference = shared / "reference" / "clap"
    folder = tmp_path_factory.mktemp("clap")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(reference / name, folder / name)
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(4, 99))]
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer(folder, words, "PreTrainedTokenizerFast", **special)
    features = {
        "feature_extractor_type": "ClapFeatureExtractor",
        "feature_size": 32,
        "sampling_rate": 48000,
        "hop_length": 480,
        "fft_window_size": 1024,
        "max_length_s": 1,
        "frequency_min": 50,
        "frequency_max": 14000,
        "truncation": "rand_trunc",
        "padding": "repeatpad",
        "processor_class": "ClapProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    with np.load(reference / "forward.npz") as file:
        return folder, dict(file), words


def test_claps_texts(clap):
    folder, reference, words = clap
    encoder = nd.dissect.Clap(folder, batch_size=3)
    mask = reference["attention_mask"].astype(bool)
    texts = []
    for row, known in zip(reference["input_ids"], mask, strict=True):
        ids = row[known].tolist()
        assert (ids[0], ids[-1]) == (0, 2)
        texts.append(" ".join(words[each] for each in ids[1:-1]))
    chex.assert_trees_all_close(encoder.encode(texts), reference["text_embeds"], atol=1e-4)
    # Beyond what the model has positions for, texts are cut.
    chex.assert_shape(encoder.encode(["w5 " * 300]), (1, 32))


@pytest.mark.parametrize("case", ["case0", "case1"])
def test_claps_sounds(clap, case, monkeypatch):
    folder, reference, _ = clap
    encoder = nd.dissect.Clap(folder)
    import torch

    heard = []

    def processor(audio, sampling_rate, **_):
        heard.extend(audio)
        return {
            "input_features": torch.from_numpy(reference[f"{case}/input_features"]),
            "is_longer": torch.zeros(len(audio), 1, dtype=torch.bool),
        }

    monkeypatch.setattr(encoder, "_processor", processor)
    wave = np.sin(np.arange(8000) / 5).astype(np.float32)
    found = encoder.encode_sounds([wave, 0.5 * wave, wave], 16000)
    assert [each.shape for each in heard] == [(24000,)] * 3
    chex.assert_trees_all_close(found, reference[f"{case}/audio_embeds"], atol=1e-4)
    scores = np.exp(2.3) * nd.dissect.tab_scores(found, reference["text_embeds"])
    chex.assert_trees_all_close(scores, reference[f"{case}/logits_per_audio"], atol=2e-3)


def test_claps_own_front_end(clap):
    """From waves on: a sound that is played again at another rate is the same sound."""
    folder, _, _ = clap
    encoder = nd.dissect.Clap(folder)
    time = np.arange(24000) / 24000
    slow = np.sin(2 * np.pi * 440 * time).astype(np.float32) * np.hanning(24000).astype(np.float32)
    found = encoder.encode_sounds([slow, slow[::-1].copy()], 24000)
    twice = encoder.encode_sounds([nd.audio.resample(slow, 24000, 48000)], 48000)
    chex.assert_shape(found, (2, 32))
    assert found[0] @ twice[0] > 0.999 and not np.allclose(found[0], found[1], atol=1e-4)
    # Of what is longer than the model hears the beginning counts, and not a part by chance.
    longer = np.concatenate([nd.audio.resample(slow, 24000, 48000), np.random.default_rng(0).normal(size=96000)])
    chex.assert_trees_all_close(encoder.encode_sounds([longer], 48000), twice, atol=1e-5)


def test_a_sentence_encoder(tmp_path):
    import torch
    import transformers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "barks", "rain"]
    tokenizer(
        tmp_path,
        words,
        "PreTrainedTokenizerFast",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
    )
    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    ).eval()
    model.save_pretrained(tmp_path)
    found = nd.dissect.SentenceEncoder(tmp_path, batch_size=2).encode(["a dog barks", "rain", "a dog"])
    for row, ids in zip(found, ([2, 4, 5, 6, 3], [2, 7, 3], [2, 4, 5, 3]), strict=True):
        with torch.no_grad():
            mean = model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0).numpy()
        chex.assert_trees_all_close(row, mean / np.linalg.norm(mean), atol=1e-5)
