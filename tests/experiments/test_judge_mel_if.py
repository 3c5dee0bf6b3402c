"""A log-mel judge hears what a generator of mel-IF makes."""

import chex
import generator_networks
import numpy as np

from nd_jax import audio, domain
from nd_jax.experiments.judge_gan import Judge


def test_a_judge_of_log_mels_hears_mel_if(tmp_path):
    made = domain.MelIF(audio.MelIF(16000, 900, 128))
    judge = Judge.load(generator_networks.classifier(tmp_path), made)
    waves = np.random.default_rng(0).normal(0, 0.1, (18, 900)).astype(np.float32)
    x = np.asarray(made.from_wave(waves))
    found = judge.given(x)
    chex.assert_shape(found, (18, *judge.network.input.shape))
    convert = domain.converter(made, judge.network.input)
    for place in (0, 15, 17):
        chex.assert_trees_all_close(found[place], convert(x[place]), atol=1e-4)
    assert judge.given(x[:1]).shape[0] == 1
