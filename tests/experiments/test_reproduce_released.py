"""Files in the form of AND's own: read without PyTorch, scored, labelled again."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile

import chex
import numpy as np
import pytest

from nd_jax.experiments import reproduce, reproduce_released
from nd_jax.experiments.reproduce_released_scores import as_released, relabelled, scored, truth_of

CLASSES = ("dog", "sea_waves", "siren", "clapping", "train", "wind")
FUNCTIONS = ("cos-similarity", "cos_similarity_cubed", "rank_reorder", "wpmi", "soft_wpmi")
FILES = tuple(f"{number}-{chr(97 + number % 26)}.wav" for number in range(30))


class Spelling:
    """Counts letters."""

    def encode(self, texts):
        return np.array([[text.count(chr(97 + letter)) + 0.1 for letter in range(26)] for text in texts])


def save(path, values):
    """What `torch.save` writes of a float32 matrix on a GPU."""
    rows, columns = values.shape

    def text(word):
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def whole(*numbers):
        return b"".join(b"J" + struct.pack("<i", number) for number in numbers)

    storage = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cuda:0") + whole(values.size)
    told = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + whole(0) + whole(rows, columns) + b"\x86"
    )
    told += whole(columns, 1) + b"\x86\x89ccollections\nOrderedDict\n)RtR."
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", told)
        file.writestr("archive/data/0", np.float32(values).tobytes())


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """What AND's code writes of a network with 6 classes on 30 clips; unit 1 of the last layer hears dogs."""
    folder = tmp_path_factory.mktemp("AND")
    generator = np.random.default_rng(0)
    category = np.arange(30) % 6
    truth = np.eye(6, dtype=np.float32)[category]
    last = truth + 0.1 * generator.normal(size=(30, 6)).astype(np.float32)
    last[:, 1] = truth[:, 0] + 0.1 * generator.normal(size=30)
    hidden = truth[:, :3] + 0.1 * generator.normal(size=(30, 3)).astype(np.float32)
    order = [FILES[row] for row in np.random.default_rng(1).permutation(30)]
    place = [FILES.index(name) for name in order]
    saved = folder / "saved_activations" / "ast-esc50_esc50_esc50"
    save(saved / "target_esc50_ast-esc50_fc.pt", last[place])
    save(saved / "target_esc50_ast-esc50_layer10_attention_output.pt", hidden[place])
    save(saved / "target_esc50_ast-esc50_layer2_output_max.pt", hidden[place])
    save(saved / "audio_esc50.pt", (truth @ np.eye(6, 9) + 0.01)[place])
    shuffled = (3, 0, 5, 2, 1, 4)
    save(saved / "text_esc50.pt", np.eye(6, 9)[list(shuffled)])
    (folder / "data").mkdir()
    (folder / "data" / "esc50.txt").write_text("\n".join(CLASSES[place] for place in shuffled))
    (folder / "classes").mkdir()
    (folder / "classes" / "esc50.txt").write_text("\n".join(f"{CLASSES[place]}\t{place}" for place in shuffled))
    samples = {
        f"fc#{unit}": {
            "highly_label": [CLASSES[category[FILES.index(order[row])]] for row in ranked],
            "highly_filename": [order[row] for row in ranked],
            "highly_activation_values": [float(last[place][row, unit]) for row in ranked],
        }
        for unit in range(6)
        for ranked in [np.argsort(-last[place][:, unit])]
    }
    (folder / "samples").mkdir()
    (folder / "samples" / "ast-esc50_esc50_esc50.json").write_text(json.dumps(samples))
    captions = {name: f"the sound of {CLASSES[category[row]].replace('_', ' ')}" for row, name in enumerate(FILES)}
    (folder / "salmon_esc50.json").write_text(json.dumps(captions))
    (folder / "prediction").mkdir()
    predicted = {
        f"fc#{unit}": {
            function: {
                "gt": CLASSES[unit],
                "prediction": [CLASSES[(unit + shift) % 6] for shift in range(5)]
                if function != "soft_wpmi"
                else list(CLASSES[:5]),
            }
            for function in FUNCTIONS
        }
        for unit in range(6)
    }
    predicted["layer10_attention_output#0"] = {"wpmi": {"gt": None, "prediction": ["dog", "siren"]}}
    (folder / "prediction" / "tab-ast-esc50-top5.json").write_text(json.dumps(predicted))
    replies = [
        {"response": f'The class is "{name}".', "target_layer": "fc", "neuron_id": unit, "neuron_label": CLASSES[unit]}
        for unit, name in enumerate(("a dog", "waves", "siren", "nothing", "train", "wind"))
    ]
    (folder / "prediction" / "ast-esc50_esc50_esc50_5_1.json").write_text(json.dumps(replies))
    (folder / "prediction" / "ast-esc50-5.json").write_text(json.dumps({"fc#0": ["dog"], "layer3_output#2": ["wind"]}))
    (folder / "summaries.json").write_text(json.dumps([{"summary": "loud", "neuron_id": 0}]))
    (folder / "broken.json").write_bytes(b'["caf\xe9"]')
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("")
    (folder / "esc50_other.pt").write_bytes(pickle.dumps([1]))
    save(saved / "target_esc50_ast-esc50_layer3_output.pt", np.full((2, 2), np.nan))
    return folder


def test_everything_is_found_and_the_rest_is_listed(released):
    found = reproduce_released.read(released)
    layers = found.activations[("ast-esc50", "esc50")]
    assert list(layers) == ["layer2_output_max", "layer3_output", "layer10_attention_output", "fc"]
    assert reproduce_released.tensor(layers["fc"]).shape == (30, 6)
    assert [(each.method, each.target, len(each.units)) for each in found.predictions] == [
        ("", "ast-esc50", 2),
        ("ICL", "ast-esc50", 6),
        ("TAB", "ast-esc50", 7),
    ]
    assert set(found.concepts) == set(found.classes) == set(found.captions) == {"esc50"}
    assert "neither a list of concepts" in found.skipped["caf\N{REPLACEMENT CHARACTER}.txt"]
    assert found.unused == {"summaries.json": "a list, of another part of AND"}
    assert "not text in UTF-8" in found.skipped["broken.json"]
    assert found.skipped["esc50_other.pt"] == "its name is none of target_*.pt, audio_*.pt and text_*.pt"


def test_predictions_are_scored_as_they_are(released):
    found = {(each.method, each.function): each for each in scored(reproduce_released.read(released), Spelling())}
    assert [found["TAB", function].found.top1 for function in ("cosine", "wpmi")] == [1, 1]
    zero = found["TAB", "soft_wpmi"].found
    assert zero.top1 == pytest.approx(1 / 6) and zero.top5 == pytest.approx(5 / 6) and zero.units == 6
    assert 1 / 6 < zero.cosine < 1
    # Of six replies five are the class in other words; "nothing" is the class with the nearest spelling.
    assert found["ICL", "reply"].found.top1 >= 5 / 6 and found["ICL", "reply"].asked == 1
    # The older file does not know the classes.
    assert found["", "cosine_cubed"].found is None


def test_activations_are_labelled_again(released, tmp_path):
    files, reasons = reproduce_released.read(released), {}
    again = list(relabelled(files, lambda _: Spelling(), reasons))
    assert [(each.method, each.layer) for each in again] == [
        (method, layer) for method in ("TAB", "DB") for layer in ("layer2_output_max", "layer10_attention_output", "fc")
    ]
    for each in again:
        # By the embeddings and by the captions: unit 1 hears dogs.
        first = [each.labels.names("cosine_cubed", unit)[0] for unit in range(len(each.labels.top["wpmi"]))]
        expected = list(CLASSES[:3]) if each.layer != "fc" else ["dog", "dog", *CLASSES[2:]]
        assert first == expected, (each.method, each.layer)
    tab = again[2]
    assert tab.truth == CLASSES and tab.agreement["cosine_cubed"] == (5, 6) and again[1].agreement["wpmi"] == (1, 1)
    assert tab.labels.last_layer(tab.truth)["cosine_cubed"].top1 == pytest.approx(5 / 6)
    assert set(reasons) == {"TAB of ast-esc50, layer3_output", "DB of ast-esc50, layer3_output"}
    assert "is not finite" in reasons["DB of ast-esc50, layer3_output"]
    # In AND's own form they are read again.
    told = as_released(again, "TAB", "ast-esc50")
    (tmp_path / "tab-ast-esc50-top5.json").write_text(json.dumps(told))
    (units,) = reproduce_released.read(tmp_path).predictions
    assert units.units[-1].truth == "wind" and units.units[-1].names["wpmi"][0] == "wind"


def test_samples_alone_hold_the_last_layer(released, tmp_path):
    for name in ("samples", "data"):
        (tmp_path / name).mkdir()
    for name in ("samples/ast-esc50_esc50_esc50.json", "data/esc50.txt", "salmon_esc50.json"):
        (tmp_path / name).write_bytes((released / name).read_bytes())
    reasons = {}
    (found,) = relabelled(reproduce_released.read(tmp_path), lambda _: Spelling(), reasons)
    assert (found.method, found.layer) == ("DB", "fc") and found.labels.names("cosine_cubed", 4)[0] == "train"
    assert "no audio_esc50.pt" in reasons["TAB of ast-esc50"] and found.truth is None


def test_classes_that_are_numbered_from_one(tmp_path):
    (tmp_path / "gtzan.txt").write_text("blues\t1\nclassical\t2\n")
    (tmp_path / "db-beats-gtzan-top5.json").write_text(json.dumps({"fc#0": ["blues"], "fc#1": ["blues"]}))
    files = reproduce_released.read(tmp_path)
    known, where = truth_of(files, "beats-gtzan", 2)
    assert known == {0: "blues", 1: "classical"} and "begin at 1" in where
    (found,) = scored(files)
    assert found.found.top1 == 0.5 and "moved by one" in found.note
    assert truth_of(files, "beats-gtzan", 3) == ({}, "")


def test_the_command(released, tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'nd_jax[labels]'")
    assert reproduce.main(["s3", "--released", str(released), "--out", str(tmp_path), "--no-progress"]) == 0
    assert "index.html" in capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    assert "96 / 100; 0.79" in page and "not text in UTF-8" in page
    told = json.loads((tmp_path / "labels" / "tab-ast-esc50-top5.json").read_text())
    assert told["fc#2"]["wpmi"]["gt"] == "siren" and told["layer10_attention_output#0"]["wpmi"]["gt"] is None
    figures = json.loads((tmp_path / "figures.json").read_text())["released"]
    assert figures["again"][2]["functions"]["cosine_cubed"]["found"]["top1"]["right"] == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fc.json", {"fc": {"wpmi": {"gt": "a", "prediction": ["a"]}}}, "no activations, predictions or samples"),
        ("p.json", {"fc#a": ["dog"]}, "'fc#a' is not a layer and a unit"),
        ("p.json", {"fc#0": {"wpmi": {"gt": "a", "prediction": "a"}}}, "'fc#0' has no list of names"),
        (
            "p.json",
            {"fc#0": {"wpmi": {"gt": "a", "prediction": ["a"]}, "rank_reorder": {"gt": "b", "prediction": ["a"]}}},
            r"'fc#0' stands for \['a', 'b'\]",
        ),
        ("s.json", {"fc#0": {"highly_filename": ["a"], "highly_activation_values": []}}, "as many highly_activation"),
        ("s.json", [{"response": 3}], "a reply must have a target_layer"),
        ("c.txt", "dog\t1\nrain\t1", "a number stands for two classes"),
        ("c.txt", "dog\ndog", "neither a list of concepts"),
        ("target_esc50_a_fc.pt", "nothing", "not a PyTorch file"),
    ],
)
def test_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    if name.endswith(".pt"):
        with pytest.raises(ValueError, match=message):
            reproduce_released.tensor(tmp_path / name)
        return
    with pytest.raises(ValueError, match=message) as caught:
        reproduce_released.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tensor_must_be_one_matrix(tmp_path):
    save(tmp_path / "a.pt", np.ones((2, 3)))
    chex.assert_trees_all_equal(reproduce_released.tensor(tmp_path / "a.pt"), np.ones((2, 3), np.float32))
    save(tmp_path / "b.pt", np.ones((0, 3)))
    with pytest.raises(ValueError, match=r"must hold one matrix, .* holds a tensor \(0, 3\)"):
        reproduce_released.tensor(tmp_path / "b.pt")
    with pytest.raises(ValueError, match="there is no folder of AND's files at"):
        reproduce_released.read(tmp_path / "none")


def test_torch_writes_the_same(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'nd_jax[bench]'")
    values = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    torch.save(values.T, tmp_path / "a.pt")
    chex.assert_trees_all_equal(reproduce_released.tensor(tmp_path / "a.pt"), values.T.numpy())
