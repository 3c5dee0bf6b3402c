"""A generator of notes is judged by its pitches and heard on a page, beside real notes."""

from __future__ import annotations

import json

import chex
import generator_networks
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import nd_jax as nd
from nd_jax import audio, domain, generators, metrics
from nd_jax.experiments import judge_gan, judge_notes, judge_notes_table, listen_gan
from nd_jax.experiments.configs import gansynth as recipes
from nd_jax.experiments.configs.instrument_notes import PITCHES
from nd_jax.training import cards, gan

_KINDS = ("pipe", "reed", "horn", "bell", "lute", "harp", "fife", "oboe")
_SIZES = {"lowest": 62, "highest": 66, "samples_long": 1024, "n_fft": 256, "frames": 16, "blocks": 1}
_NOTES = {"semitones": 1, "cents": 5.0, "early": 0.0, "gain": 4.0, "held_out": 0.6, "split_seed": 0}


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """Eight instruments at seven pitches: harmonic notes of 61 to 67, a tenth of a second long."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "audio").mkdir()
    lines = ["file,instrument,family,pitch_midi"]
    for number, instrument in enumerate(_KINDS):
        for pitch in range(61, 68):
            phase = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(1600) / 16000
            wave = 0.1 * sum(np.sin(k * phase) / (1 + number * k) for k in range(1, 4))
            soundfile.write(folder / "audio" / f"{instrument}-{pitch}.wav", wave, 16000)
            lines.append(f"{instrument}-{pitch}.wav,{instrument},flute,{pitch}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A classifier with two heads, of random weights, that calls itself notes_judge."""
    heard = domain.LogMel(audio.LogMel(sample_rate=16000, n_fft=256, hop_length=128, n_mels=16), frames=10)
    config = {"heads": [["pitch", 61], ["family", 2]], "features": [6], "kernels": [[3, 3]], "strides": [[2, 2]]}
    module = nd.networks.build("audio_cnn", config)
    network = nd.Network(
        module,
        generator_networks.invented(module, jnp.zeros((1, *heard.shape)), 3),
        input=heard,
        labels={"pitch": PITCHES, "family": ("reed", "flute")},
        apply_kwargs={"train": False},
        card={"name": "notes_judge"},
    )
    return str(network.save(tmp_path_factory.mktemp("judge") / "judge"))


@pytest.fixture(scope="module")
def generator(notes, tmp_path_factory):
    """The folder of an untrained GANSynth with the card of its recipe."""
    recipe = recipes.GansynthNotes(notes, latent=3, fmap_base=4, fmap_max=4, **_SIZES, **_NOTES)
    module, _ = recipe.players()
    pitch = domain.Label(recipe.pitches)
    given = {"z": jnp.zeros((1, 3)), "label": jnp.zeros(1, int)}
    network = nd.Network(
        module,
        generator_networks.invented(module, given, 0),
        input=domain.Parts({"z": domain.Latent(3), "label": pitch}),
        output=recipe.domain,
        apply_kwargs={"train": False},
        card={"name": "notes_gansynth", "notes": _NOTES, "limits": "tiny"},
    )
    return str(network.save(tmp_path_factory.mktemp("generator") / "generator"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def figures(notes, judge, generator, prepared, tmp_path_factory):
    """What the command line writes."""
    out = tmp_path_factory.mktemp("figures") / "figures.json"
    arguments = ["--generator", generator, "--data-dir", str(notes), "--prepared-dir", str(prepared)]
    more = ["--judge", f"{judge}:pitch", "--samples", "16", "--out", str(out)]
    assert judge_gan.main([*arguments, *more]) == 0
    return json.loads(out.read_text())


def test_real_notes_are_right_and_random_ones_are_not(figures):
    rows = figures["notes"]["rows"]
    for name in ("held_out", "unheard"):
        assert rows[name]["f0"]["right"]["right"] == rows[name]["n"], name
        assert abs(rows[name]["f0"]["median_cents"]) < 10
    assert rows["generated"]["n"] == 16 and rows["generated"]["f0"]["right"]["value"] < 0.5
    assert 20 <= rows["held_out"]["n"] <= 40 and 0 < rows["unheard"]["n"] < 40
    low, high = rows["generated"]["entropy_interval"]
    assert low < rows["generated"]["entropy"] < high
    goal = figures["notes"]["bar"]
    assert goal["pitches"] == 5 and goal["f0"] > 50 and goal["met"] is False


def test_the_halves_are_of_one_size_and_do_not_overlap(figures, notes, prepared):
    rows, sets = figures["rows"], figures["notes"]["sets"]
    assert rows["real"]["n"] == rows["generated"]["n"] == rows["untrained"]["n"]
    # Notes of 61 and 67 are shifted into the range, so they are among those that training knows.
    total = sets["known"] + sets["held_out"]
    assert sets["reference"] == min(sets["known"], total // 2) and rows["real"]["n"] == total - sets["reference"]
    assert total == figures["notes"]["rows"]["held_out"]["n"] + sets["known"] and 40 <= total <= 56
    assert rows["real"]["ndb"]["k"] <= 20
    assert rows["real"]["kernel_distance"] < rows["generated"]["kernel_distance"]


def test_pitches_are_asked_for_evenly_and_the_first_are_kept(figures, generator, judge):
    each, first = figures["notes"]["each"], figures["notes"]["first"]
    assert each["pitch"] == ["D4", "D#4", "E4", "F4", "F#4"] and each["of"] == [4, 3, 3, 3, 3]
    for name in ("classifier", "f0"):
        assert sum(each[name]) == figures["notes"]["rows"]["generated"][name]["right"]["right"]
    # What the test of a shipped generator does: the first two of every pitch, made and heard again.
    network = nd.load(generator)
    x = generators.make(network, generators.inputs(network, judge_gan.SEED, first["n"]))
    heard = judge_gan.Judge.load(f"{judge}:pitch", network.output).hear(x)
    assert first["n"] == 10
    assert metrics.prediction_entropy(heard.probabilities) == pytest.approx(first["entropy"], rel=1e-4)


def test_the_table_and_its_words_hold_every_figure(figures):
    text = judge_notes_table.table(figures)
    head, ruler, *lines = text.splitlines()
    assert head == "|  | real | real, new to the judge | generated | untrained |"
    assert {line.count("|") for line in (head, ruler, *lines)} == {6}
    for words in (
        "within 50 cents",
        "an octave off",
        "entropy",
        "inception",
        "MMD²",
        "NDB",
        "coverage",
        "two notes of",
    ):
        assert any(words in line for line in lines), words
    words = judge_notes_table.explained(figures)
    assert words == figures["explained"] and "16 notes of seed 0" in words and "notes_judge:pitch" in words
    assert f"({figures['notes']['sets']['reference']}, from training)" in words


def test_the_card_shows_the_table_and_how_it_was_measured(figures, tmp_path):
    card = dict.fromkeys(cards.GAN_FIELDS, "x") | {"samples": figures, "table": judge_notes_table.table(figures)}
    page = cards.write_card(card, tmp_path).read_text()
    assert card["table"] in page and figures["explained"] in page and "Heard or seen" not in page


def test_the_page_has_every_pitch_with_a_real_note(notes, judge, generator, prepared, figures, tmp_path, capsys):
    places = ["--generator", generator, "--data-dir", str(notes), "--prepared-dir", str(prepared)]
    assert listen_gan.main([*places, "--judge", f"{judge}:pitch", "--latents", "2", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert str(tmp_path / "index.html") in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert page.count('<div class="tile">') == 15 and page.count("<b>real: ") == 5 and "(held out)" in page
    assert page.count("<h2>") == 5 and "D4, 293.7 Hz" in page and "F#4, latent 1" in page
    assert page.count("judge: ") == 15 and page.count("Praat: ") == 15 and "Limits: tiny." in page
    assert "5 of the 5 real" in page or "(5 of the 5 real)" in page


def test_a_recipe_comes_from_the_generator(generator, notes):
    recipe = recipes.recipe_of(nd.load(generator), data_dir=notes, training=gan.Settings(batch_size=1))
    assert (recipe.lowest, recipe.highest, recipe.frames, recipe.held_out, recipe.semitones) == (62, 66, 16, 0.6, 1)
    assert recipe.domain == nd.load(generator).output
    assert {name: recipe.experiment().card["notes"][name] for name in _NOTES} == _NOTES


def test_octaves_and_missing_pitches_are_said_in_words():
    assert listen_gan._praat(880.0, 1210.0) == "Praat: 880.0 Hz, +1 octave"
    assert listen_gan._praat(110.0, -2400.0) == "Praat: 110.0 Hz, −2 octaves"
    assert listen_gan._praat(441.0, 3.9) == "Praat: 441.0 Hz, +4 cents"
    assert listen_gan._praat(float("nan"), float("nan")) == "Praat: no pitch"


def test_the_bar_counts_from_the_best_real_row():
    def row(classifier, f0):
        return {name: {"right": {"value": value}} for name, value in (("classifier", classifier), ("f0", f0))}

    rows = {"held_out": row(1.0, 0.97), "unheard": row(0.98, 0.98), "generated": row(0.96, 0.93)}
    varied = {"features": {"ratio": 0.8}, "levels": {"ratio": 0.6}}
    assert judge_notes.bar(rows, varied, 37) == {
        "pitches": 37,
        "classifier": 4.0,
        "f0": 5.0,
        "variety": 0.6,
        "met": True,
    }
    assert not judge_notes.bar({**rows, "generated": row(0.96, 0.92)}, varied, 37)["met"]
    assert not judge_notes.bar(rows, {**varied, "levels": {"ratio": 0.49}}, 37)["met"]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("", "cannot judge: the network has the outputs family, pitch: name the one that judges"),
        (":pich", "it has no output 'pich'; did you mean 'pitch'"),
        (":family", "knows no class 'D4'"),
    ],
)
def test_heads_that_do_not_fit_are_one_sentence(notes, judge, generator, prepared, capsys, head, said):
    places = ["--generator", generator, "--data-dir", str(notes), "--prepared-dir", str(prepared)]
    assert judge_gan.main([*places, "--judge", judge + head, "--samples", "20"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_what_is_no_pitch_is_said():
    with pytest.raises(ValueError, match="'seven' is no pitch; there are C1 to C6"):
        judge_notes.midi_numbers(["C4", "seven"])
    with pytest.raises(ValueError, match="must follow each other"):
        judge_notes.midi_numbers(["C4", "D4", "E4"])
    chex.assert_trees_all_equal(judge_notes.midi_numbers(["B3", "C4", "C#4"]), np.array([59, 60, 61]))


def test_a_generator_of_something_else_has_no_page(tmp_path, notes, capsys):
    other = generator_networks.generator(tmp_path)
    assert listen_gan.main(["--generator", other, "--data-dir", str(notes)]) == 1
    assert "makes no notes as mel-IF pictures, but log_mel" in capsys.readouterr().err
