"""From a folder of notes to a small GANSynth, and what its recipes refuse."""

from __future__ import annotations

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from nd_jax.experiments.configs import gansynth as recipes
from nd_jax.training import augment, gan, gansynth

_STAGES = gansynth.Stages(stable=4, fade=4, total=8, batch_sizes=(4,))


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """Two instruments at eight pitches: sines of 60 to 67."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "audio").mkdir()
    lines = ["file,instrument,family,pitch_midi"]
    for instrument, family in (("pipe", "flute"), ("reed", "reed")):
        for pitch in range(60, 68):
            name = f"{instrument}-{pitch:03d}.wav"
            wave = (0.2 if instrument == "pipe" else 0.1) * np.sin(
                2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(4000) / 16000
            )
            soundfile.write(folder / "audio" / name, wave, 16000)
            lines.append(f"{name},{instrument},{family},{pitch}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def recipe(notes, tmp_path_factory):
    """A size that trains in seconds: one block, pictures of 16 x 32."""
    return recipes.GansynthNotes(
        data_dir=notes,
        prepared_dir=tmp_path_factory.mktemp("prepared"),
        lowest=62,
        highest=66,
        samples_long=256,
        n_fft=64,
        frames=16,
        blocks=1,
        latent=3,
        fmap_base=4,
        fmap_max=4,
        semitones=1,
        held_out=0.2,
        stages=_STAGES,
        training=dataclasses.replace(gansynth.SETTINGS, log_every=1, save_every=1),
    )


@pytest.fixture(scope="module")
def experiment(recipe):
    """What the recipe makes of the folder."""
    return recipe.experiment()


def test_notes_are_moved_with_their_labels(recipe):
    recipe = dataclasses.replace(recipe, samples_long=2048, n_fft=512, frames=16)
    experiment = recipe.experiment()
    arrays, task = experiment.task.arrays, experiment.task
    # 60 is further off than a semitone; what is held out is heard at the pitches that can be asked for only.
    assert set(arrays["pitch"]) <= set(range(61, 68)) and set(arrays["pitch"]) & {61, 67}
    assert len(arrays["pitch"]) + len(experiment.held_out["pitch"]) <= 14 and 0 < len(experiment.held_out["pitch"])
    assert set(experiment.held_out["pitch"]) <= set(range(62, 67)) and task.labels == ("D4", "D#4", "E4", "F4", "F#4")
    assert not {tuple(wave) for wave in experiment.held_out["wave"]} & {tuple(wave) for wave in arrays["wave"]}
    prepare = jax.jit(jax.vmap(task.prepare, (0, None)))
    row = int(np.flatnonzero(arrays["pitch"] == 64)[0])
    given = prepare(jax.random.split(jax.random.key(0), 60), {name: values[row] for name, values in arrays.items()})
    chex.assert_shape(given["x"], (60, 16, 256, 2))
    counts = np.bincount(given["label"], minlength=5)
    assert counts[0] == counts[4] == 0 and counts[1:4].min() > 8
    # The shift is what the label says: how often the sound passes zero goes up with it.
    waves = np.asarray(jax.vmap(recipe.domain.to_wave)(given["x"]))[:, 160:1600]
    passes = [np.mean(np.abs(np.diff(np.sign(waves[given["label"] == label])))) for label in (1, 2, 3)]
    chex.assert_trees_all_close(np.log2(np.divide(passes[1:], passes[:-1])), np.full(2, 1 / 12, np.float32), atol=0.02)


def test_pitches_are_asked_for_as_often_as_shifted_notes_have_them(experiment, recipe):
    counts = recipes.shifted_counts(np.array([61, 64, 67]), 62, 66, 1)
    chex.assert_trees_all_close(counts, np.array([1, 1 / 3, 1 / 3, 1 / 3, 1]))
    assert experiment.counts.sum() == pytest.approx(len(experiment.task.arrays["pitch"]))
    drawn = np.zeros(5)
    shift = jax.jit(
        jax.vmap(
            lambda key, pitch: augment.shift_pitch(
                jnp.zeros(8), pitch, key=key, samples=4, semitones=1, lowest=62, highest=66
            )[1]
        )
    )
    pitches = np.repeat([61, 64, 67], 300)
    drawn = np.bincount(shift(jax.random.split(jax.random.key(1), 900), pitches) - 62, minlength=5)
    chex.assert_trees_all_close(drawn / 300, counts, atol=0.12)


def test_it_trains_and_the_networks_say_what_they_are(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, samples_long=32, n_fft=16, frames=8)
    experiment = recipe.experiment()
    trained = recipe.train(
        experiment,
        folder=tmp_path,
        recipe={"stages": recipe.stages, "semitones": recipe.semitones},
        devices=jax.local_devices()[:1],
        progress=False,
    )
    assert (
        isinstance(trained, gan.TrainedGan) and trained.step == 2 and [line["images"] for line in trained.log] == [4, 8]
    )
    assert trained.generator.output == recipe.domain and trained.generator.input["label"].names == recipe.pitches
    assert trained.discriminator.module.deviation > 0
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["stage"] == 0
    assert (
        "deviation" in experiment.card["network"] and "8 frames of 16 samples every 4" in experiment.card["front_end"]
    )


def test_the_official_recipe_has_the_official_sizes(tmp_path):
    recipe = recipes.GansynthNsynth(tmp_path)
    maker, judge = recipe.players()
    assert (maker.latent, maker.blocks, maker.start, len(recipe.pitches)) == (256, 7, (2, 16), 61)
    assert recipe.domain.shape == (128, 1024, 2) and recipe.pitches[0] == "C1" and recipe.stages == gansynth.Stages()
    assert (judge.fmap_base, judge.fmap_max) == (4096, 256) and recipe.training.batch_size == 8
    laptop = recipes.GansynthNotes(tmp_path)
    assert laptop.domain.shape == (64, 512, 2) and len(laptop.pitches) == 37 and laptop.players()[0].start == (2, 16)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lowest": 20}, "pitches go from lowest to highest within 24 ... 84, not from 20 to 84"),
        ({"highest": 40}, "not from 48 to 40"),
        ({"frames": 48}, "6 blocks need frames and bands that 32 divides, not 48 and 512"),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        recipes.GansynthNotes(tmp_path, **changes)
