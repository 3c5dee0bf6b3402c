"""Table 2 of AND on ESC-10: a last layer that is known, what is told of it, and where AND's own way has no answer."""

from __future__ import annotations

import csv
import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import nd_jax as nd
from nd_jax.audio import LogMel as Transform
from nd_jax.data import Clips
from nd_jax.dissect import CONCEPT_SETS, FUNCTIONS, ConceptSet, RankReorder
from nd_jax.domain import LogMel
from nd_jax.experiments import reproduce, reproduce_s3, reproduce_s3_page, reproduce_s3_rows, reproduce_s3_ways

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'nd_jax[labels]'")

RATE = 4000
CLASSES = nd.data.BUILDERS["esc10"].features["category"]
OWN = ConceptSet("ESC-10", CLASSES, tuple(range(10)))
TONES = np.geomspace(150, 1700, 10)


class Bands(nn.Module):
    """The mean level of each band, and a unit for each class."""

    classes: int = 10

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.classes)(x[..., 0].mean(axis=2))


def tone(number, seed):
    """0.4 s of a class's tone at some level, in a little noise."""
    draw = np.random.default_rng([number, seed])
    time = np.arange(1600) / RATE
    return (draw.uniform(0.1, 0.4) * np.sin(2 * np.pi * TONES[number] * time) + 1e-3 * draw.normal(size=1600)).astype(
        np.float32
    )


def encode(texts):
    return nd.dissect.TfIdf(texts)


@pytest.fixture(scope="module")
def network():
    """A classifier whose weights are the tones that it tells apart."""
    nd.networks.register("test_reproduce_bands", Bands)
    domain = LogMel(Transform(sample_rate=RATE, n_fft=256, hop_length=64, n_mels=24, f_min=60.0), frames=24)
    heard = np.stack([tone(number, 0)[: domain.samples] for number in range(10)])
    levels = np.asarray(jax.vmap(domain.from_wave)(jnp.asarray(heard)))[..., 0].mean(axis=2)
    kernel = (levels - levels.mean(axis=0)).T
    variables = {"params": {"Dense_0": {"kernel": kernel, "bias": -0.5 * (levels * kernel.T).sum(axis=1)}}}
    return nd.Network(Bands(), variables, input=domain, labels=CLASSES, card={"name": "tones <b>"})


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two folds of two clips a class."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "audio").mkdir()
    with open(folder / "esc10.csv", "w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["filename", "fold", "category", "freesound_id", "take"])
        for number, name in enumerate(CLASSES):
            for fold in (1, 5):
                for take in "AB":
                    file = f"{fold}-{number}-{take}.wav"
                    wave = tone(number, 10 * fold + ord(take))
                    soundfile.write(folder / "audio" / file, wave, RATE, subtype="PCM_16")
                    rows.writerow([file, fold, name, number, take])
    return folder


@pytest.fixture(scope="module")
def command(network, sounds, tmp_path_factory):
    """The command, the folder that it writes, and what it wrote there."""
    folder = tmp_path_factory.mktemp("reproduced")
    held_out = "".join(
        f"5-{number}-{take}.wav,a <i>{name}</i>\n" for number, name in enumerate(CLASSES) for take in "AB"
    )
    (folder / "own.csv").write_text(f"file,caption\n{held_out}")
    words = ["s3", "--network", str(network.save(folder / "network")), "--data-dir", str(sounds), "--no-progress"]
    words += ["--windows", "2", "--captions", str(folder / "own.csv"), "--out", str(folder / "out")]
    words += ["--prepared-dir", str(folder / "prepared")]
    assert reproduce.main(words) == 0
    return words, folder / "out", json.loads((folder / "out" / "figures.json").read_text())


@pytest.fixture(scope="module")
def probing(network):
    """Twenty clips a class, as what the published numbers of top clips are meant for."""
    domain = network.input
    category = np.tile(np.arange(10), 20)
    waves = [tone(number, clip) for clip, number in enumerate(category)]
    heard = jax.vmap(domain.from_wave)(jnp.asarray(np.stack(waves)[:, : domain.samples]))
    names = tuple(f"{clip}.wav" for clip in range(200))
    told = nd.dissect.Captions(names, (("a sound",),) * 200, {})
    clips = Clips(waves, RATE, {}, {}, names)
    fold = np.arange(200) // 40 + 1
    return reproduce_s3_rows.Probing(np.asarray(network(heard)), CLASSES, names, CLASSES, category, fold, clips, told)


@pytest.mark.parametrize("concepts", [OWN, CONCEPT_SETS["esc50"]], ids=lambda each: each.name)
def test_a_last_layer_that_is_known_is_named_right(probing, concepts):
    """Captions that name the class: every function must find every unit, from both sets."""
    row = reproduce_s3_rows.database_rows(probing, concepts, np.arange(200), "TF-IDF", encode)[0]
    told = reproduce_s3_rows.scored_row(row, probing, concepts, encode)
    assert set(told["functions"]) == set(FUNCTIONS)
    for function, found in told["functions"].items():
        # A cosine knows no size: a concept that is hardly there, but where another is, is as alike ("clock_alarm").
        if function != "cosine" or concepts is OWN:
            assert found["top1"]["value"] == found["top5"]["value"] == 1, function
            assert found["top1"]["low"] == pytest.approx(0.7225, abs=1e-3) and found["cosine"]["low"] == 1
    # The same units, each called by its neighbour's class, are all named wrong.
    moved = reproduce_s3_rows.dataclasses.replace(probing, labels=(*CLASSES[1:], CLASSES[0]))
    wrong = reproduce_s3_rows.scored_row(row, moved, concepts, None)["functions"]["cosine_cubed"]
    assert wrong["top1"]["value"] == 0 and wrong["cosine"] is None and wrong["units"] == 10


def test_what_the_page_tells(command):
    _, out, found = command
    told = found["protocol"]
    assert (told["units"], told["clips"], told["held_out"]) == (10, 40, {"fold": 5, "clips": 20})
    assert [(table["probing"], table["of"], table["clips"]) for table in told["tables"]] == [
        ("all clips", 10, 40),
        ("all clips", 50, 40),
        ("held-out clips", 10, 20),
        ("held-out clips", 50, 20),
    ]
    named, measured, described, own = told["tables"][2]["rows"]
    assert named["functions"]["cosine_cubed"]["top1"]["value"] == 1
    # Captions of one's own that half of the clips have.
    assert [table["rows"][-1]["clips"] for table in told["tables"]] == [20, 20, 20, 20]
    assert own["captions"] == "own.csv" and own["functions"]["cosine_cubed"]["top1"]["value"] == 1
    # Measured captions name no class, but say where one is like another: the tones have pitches.
    assert described["functions"]["soft_wpmi"]["top1"]["value"] > measured["functions"]["soft_wpmi"]["top1"]["value"]
    page = (out / "index.html").read_text()
    assert "tones &lt;b&gt; on ESC-10" in page and "tones <b>" not in page
    assert "Left out here: TAB needs CLAP" in page and "DB from captions" not in page
    assert "100 / 100; 1.00" in page and "AND: AST, ESC-50" in page and "2 / 10; 0.24" in page
    tables = (out / "tables.md").read_text()
    assert "## tones &lt;b&gt; on ESC-10" in tables and "| DB, the class's name, TF-IDF | 40 | 100 / 100" in tables


def test_again_it_measures_nothing(command, monkeypatch):
    words, out, found = command

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(nd.dissect, "acoustic_captions", never)
    before = sorted((path, path.stat().st_mtime_ns) for path in (out / "record" / "activations").rglob("*"))
    assert reproduce.main(words) == 0
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (out / "record" / "activations").rglob("*"))
    assert json.loads((out / "figures.json").read_text()) == found


def test_ands_way_beside_ours(probing):
    found = reproduce_s3_ways.published_ways(probing, OWN, encode)
    every, few = found["all clips"], found["strongest"]
    assert every["soft_wpmi"]["published"]["undecided"] == 10 and every["soft_wpmi"]["ours"]["top1"]["value"] == 1
    for function in ("cosine", "cosine_cubed", "wpmi"):
        assert every[function]["published"]["top1"] == every[function]["ours"]["top1"]
    # Five clips that agree: no number, zeros, or the same for all.
    for function in ("cosine", "cosine_cubed", "rank_reorder", "soft_wpmi"):
        assert few[function]["published"]["undecided"] == 10, function
    assert few["wpmi"]["published"]["top1"]["value"] == few["rank_reorder"]["ours"]["top1"]["value"] == 1


def test_the_published_functions_of_one_unit():
    generator = np.random.default_rng(0)
    u = generator.normal(size=120).astype(np.float32)
    v = generator.dirichlet(np.full(6, 0.3), 120).astype(np.float32)

    orders = np.stack([generator.permutation(6) for _ in range(5)])

    class Told:
        """Draws what is told."""

        left = list(orders)

        def permutation(self, _):
            return self.left.pop(0)

    functions = ["cosine", "cosine_cubed", "wpmi", RankReorder(order="argsort")]
    ours = nd.dissect.similarity(u[:, None], v, functions, permutations=orders[None])
    for function, expected in ours.items():
        found = reproduce_s3_ways.published(function, u, v, Told())
        chex.assert_trees_all_close(found, expected[0], rtol=1e-4, atol=1e-6)
    assert not reproduce_s3_ways.published("soft_wpmi", u, v, Told()).any()
    assert np.isnan(reproduce_s3_ways.published("rank_reorder", u[:5], v[:5], Told())).all()


def test_captions_may_be_wrong(probing):
    found = reproduce_s3_ways.wrong_captions(probing, OWN, encode)
    shares = [each["top1"]["cosine_cubed"]["mean"] for each in found]
    # A quarter wrong is hardly seen; names that are drawn find nothing.
    assert shares[0] == 1 and shares[1] > 0.9 and shares[-1] < 0.35


class Clap:
    """Hears how loud each tone is; a text is a class."""

    def __init__(self):
        self.heard = 0

    def encode(self, texts):
        return np.stack([np.eye(10)[CLASSES.index(text.replace(" ", "_"))] for text in texts])

    def encode_sounds(self, waves, sample_rate):
        self.heard += len(waves)
        angle = 2 * np.pi * TONES[:, None] * np.arange(1600) / sample_rate
        return np.stack([np.abs(np.exp(1j * angle) @ wave) for wave in waves])


def test_tab_hears_every_clip_once(probing, tmp_path):
    clap, kept = Clap(), tmp_path / "clap.npz"
    (tmp_path / "model").mkdir()
    few = reproduce_s3_rows.dataclasses.replace(probing, clips=probing.clips.select(np.arange(40)))
    asked = (OWN, np.arange(40), clap, tmp_path / "model", kept)
    row = reproduce_s3_rows.tab_row(few, *asked)
    told = reproduce_s3_rows.scored_row(row, probing, OWN, None)
    assert row.scores.shape == (40, 10) and told["functions"]["cosine_cubed"]["top1"]["value"] == 1
    again = reproduce_s3_rows.tab_row(few, *asked)
    chex.assert_trees_all_equal(again.scores, row.scores)
    assert clap.heard == 40
    # Another model hears them anew.
    (tmp_path / "model" / "config.json").write_text("{}")
    reproduce_s3_rows.tab_row(few, *asked)
    assert clap.heard == 80


class Model:
    """Answers with the class whose name stands in the first caption."""

    model = "m"

    def ask_all(self, prompts, progress):
        self.prompts = prompts
        told = [prompt.split("Description:")[-1] for prompt in prompts]
        return [f"Answer: {next((name for name in CLASSES if name in text), 'nothing')}, dog" for text in told]


def test_icl_is_asked_for_five_names_of_the_strongest_clips(probing, tmp_path):
    (tmp_path / "own.json").write_text(
        json.dumps({name: CLASSES[probing.category[row]] for row, name in enumerate(probing.names)})
    )
    model = Model()
    row = reproduce_s3_rows.icl_row(probing, OWN, np.arange(200), model, encode, tmp_path / "own.json")
    told = reproduce_s3_rows.scored_row(row, probing, OWN, encode)
    assert told["functions"]["reply"]["top1"]["value"] == 1 and "the 5 concepts" in model.prompts[0]
    assert model.prompts[3].count(CLASSES[3]) == 1 + 5
    assert told["captions"] == "own.json, of the 5 strongest clips"


def test_one_sentence(command, sounds, tmp_path, capsys):
    words, _, _ = command
    nameless = nd.Network(
        Bands(),
        {"params": {"Dense_0": {"kernel": np.zeros((24, 10)), "bias": np.zeros(10)}}},
        input=nd.load(words[2]).input,
    )
    place = str(nameless.save(tmp_path / "nameless"))
    other = nd.Network(Bands(), nameless.variables, input=nameless.input, labels=tuple("abcdefghij"))
    other = str(other.save(tmp_path / "other"))
    for more, message in (
        ([], "give --data-dir with ESC-10, --released"),
        ([*words[1:], "--endpoint", "http://localhost:1/v1"], "ICL needs both"),
        ([*words[1:], "--held-out", "3"], "no clip is of fold 3; there are [1, 5]"),
        ([*words[1:], "--windows", "0"], "windows must be 1 or more, got 0"),
        ([*words[1:], "--network", place], "must be a classifier of sounds with one output whose classes have names"),
        ([*words[1:], "--network", other], "is one of ESC-10's: dog, rain"),
        ([*words[1:], "--captions", str(tmp_path / "none.csv")], "there is no file of captions at"),
        ([*words[1:], "--clap", str(tmp_path / "none")], "there is no model at"),
        (["--released", str(tmp_path / "none")], "there is no folder of AND's files"),
    ):
        assert reproduce.main(["s3", *more]) == 1
        error = capsys.readouterr().err.strip()
        assert message in error and error.count("\n") == 0, error
    assert reproduce.main(["s5"]) == 2 and "there is no study 's5' to reproduce" in capsys.readouterr().err
    assert reproduce.main(["--help"]) == 0 and "s3" in capsys.readouterr().out


def test_a_language_model_that_gives_no_answer(command, monkeypatch, capsys):
    def fails(*_, **__):
        raise nd.dissect.LanguageModelError("'m' gave no answer in 5 tries")

    monkeypatch.setattr(nd.dissect.LanguageModel, "ask_all", fails)
    assert reproduce.main([*command[0], "--endpoint", "http://localhost:1/v1", "--model", "m"]) == 1
    assert capsys.readouterr().err.strip() == "error: ICL: 'm' gave no answer in 5 tries; what was answered is kept"


def test_text_in_tables_is_text():
    table = reproduce_s3_page.Table("a | <b>", "", ("x|y",), (("<script>",),), "two\nlines")
    assert (
        reproduce_s3_page.markdown(table) == "## a \\| &lt;b&gt;\n\n| x\\|y |\n|---|\n| &lt;script&gt; |\n\ntwo lines"
    )


def test_sounds_of_16_bits_are_read_at_full_scale():
    heard = reproduce_s3.Heard(np.int16([[16384, -32768]]))
    chex.assert_trees_all_equal(heard[np.array([0])], np.float32([[0.5, -1]]))
