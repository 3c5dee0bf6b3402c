"""The script that explains a folder of sounds: its page, its figures, its memory, its errors."""

from __future__ import annotations

import json

import chex
import numpy as np
import PIL.Image
import pytest

import nd_jax as nd
from nd_jax.experiments import explain, explain_inputs


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two sounds that a generator makes, as files, and one that is none."""
    folder = tmp_path_factory.mktemp("recordings")
    maker = nd.load("conditional_mel_gan")
    made = nd.generators.make(maker, nd.generators.inputs(maker, 0, 2, labels=["3", "7"]))
    for name, x in zip("ab", made, strict=True):
        sound = maker.output.sound(x)
        nd.audio.write(folder / f"{name}.wav", sound.wave, sound.sample_rate, peak="scale")
    (folder / "broken.wav").write_bytes(b"no sound")
    return folder


def run(folder, out, *more):
    return explain.main(
        ["--sounds", str(folder), "--out", str(out), "--masks", "16", "--steps", "4", "--bands", "3", *more]
    )


def test_page_figures_and_maps(recordings, tmp_path, capsys, monkeypatch):
    methods = ["occlusion", "mask", "integrated_gradients", "rise", "grad_cam"]
    assert run(recordings, tmp_path, "--methods", *methods) == 0
    told = json.loads((tmp_path / "figures.json").read_text())
    assert [sound["name"] for sound in told["sounds"]] == ["a.wav", "b.wav"]
    assert list(told["methods"]) == methods
    assert all(0 <= row["deletion"]["value"] <= 1 for row in told["methods"].values())
    assert "left out" in capsys.readouterr().err
    page = (tmp_path / "index.html").read_text()
    assert page.count("<audio") == 2 * (1 + 2 * len(methods)) and "extremal mask: the rest" in page
    error = told["methods"]["integrated_gradients"]["completeness_error"]
    assert 0 <= error < 0.1 and page.count("completeness error") == 2
    files = sorted((tmp_path / "maps").glob("*.npz"))
    assert len(files) == 2
    with np.load(files[0]) as stored:
        network = nd.load("spoken_digits")
        assert stored["occlusion/map"].shape == network.input.shape
        chex.assert_trees_all_close(stored["occlusion/kept"] + stored["occlusion/removed"], stored["x"], atol=1e-6)
        assert str(stored["rise/method"]).startswith("RISE, p = 0.")
        kept = np.argmax(np.asarray(network(stored["mask/kept"][None]))[0])
        assert kept == np.argmax(stored["mask/kept_says"])

    # Once more: nothing is done twice; another sound or setting is another file.
    def done_twice(*_, **__):
        raise AssertionError("a map was made again")

    monkeypatch.setattr(explain, "attribution", done_twice)
    assert run(recordings, tmp_path, "--methods", *methods) == 0
    with pytest.raises(AssertionError, match="made again"):
        run(recordings, tmp_path, "--methods", *methods, "--baseline", "mean")


def test_longer_sounds_are_windows_and_shorter_ones_are_padded(tmp_path, capsys, monkeypatch):
    """A sound of 2.5 windows is three, the last ends with it; of what is silent nothing is explained."""
    network = nd.load("spoken_digits")
    rate, length = network.input.sample_rate, network.input.samples
    folder = tmp_path / "sounds"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(size=5 * length // 2) * 0.1
    noise[length : 3 * length // 2] = 0
    nd.audio.write(folder / "long.wav", noise, rate, bits=32)
    nd.audio.write(folder / "pause.wav", np.concatenate([np.zeros(length), noise[:length]]), rate, bits=32)
    nd.audio.write(folder / "short.wav", noise[: rate // 2], rate, bits=32)
    assert run(folder, tmp_path / "out", "--methods", "saliency", "--count", "4") == 0
    told = json.loads((tmp_path / "out" / "figures.json").read_text())["sounds"]
    first, last = length / rate, len(noise) / rate
    assert [each["name"] for each in told] == [
        f"long, 0.00 to {first:.2f} s",
        f"long, {first:.2f} to {2 * first:.2f} s",
        f"long, {last - first:.2f} to {last:.2f} s",
        f"pause, {first:.2f} to {2 * first:.2f} s",
    ]
    assert [each["file"] for each in told] == ["long.wav"] * 3 + ["pause.wav"]
    err = capsys.readouterr().err
    assert f"left out pause, 0.00 to {first:.2f} s: silent" in err
    assert "4 windows of 2 sounds; 1 more are left out: --count has them" in err
    page = (tmp_path / "out" / "index.html").read_text()
    assert "4 windows of 2 sounds. The network hears 1.01 s at a time" in page and f"of a sound of {last:.2f} s" in page
    with np.load(next((tmp_path / "out" / "maps").glob(f"long_{last - first:.2f}_to*.npz"))) as stored:
        expected = np.asarray(network.input.from_wave(nd.audio.read(folder / "long.wav")[-length:]))
        chex.assert_trees_all_close(stored["x"], expected, atol=1e-3)

    # The fifth is new, the others are known.
    made, attribution = [], explain.attribution
    monkeypatch.setattr(explain, "attribution", lambda *given: made.append(given[1]) or attribution(*given))
    assert run(folder, tmp_path / "out", "--methods", "saliency") == 0
    assert len(made) == 1
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"0.50 s long, followed by silence up to {first:.2f} s" in page

    (folder / "long.wav").unlink()
    (folder / "short.wav").unlink()
    nd.audio.write(folder / "pause.wav", np.zeros(length), rate)
    assert run(folder, tmp_path / "out", "--methods", "saliency") == 1
    assert "are silent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("samples", "starts"), [(1, [0]), (100, [0]), (104, [0]), (105, [0, 5]), (200, [0, 100]), (301, [0, 100, 200, 201])]
)
def test_windows_of_a_sound(samples, starts):
    assert explain_inputs.window_starts(samples, 100, 500) == starts


def test_a_unit_in_place_of_a_class_and_all_units_of_a_layer(recordings, tmp_path):
    more = ["--unit", "block2/relu:5", "--units", "block2/relu", "--methods", "saliency", "--count", "1"]
    assert run(recordings, tmp_path, *more) == 0
    told = json.loads((tmp_path / "figures.json").read_text())
    network = nd.load("spoken_digits")
    with np.load(next((tmp_path / "maps").glob("*.npz"))) as stored:
        x = stored["x"]
        assert str(stored["label"]) == "block2/relu:5"
        mean = np.asarray(nd.taps.read(network, x[None], "block2/relu")["block2/relu"])[0, ..., 5].mean()
        chex.assert_trees_all_close(stored["said"], mean[None], rtol=1e-5)
    chex.assert_trees_all_close(told["sounds"][0]["score"], float(mean), rtol=1e-5)
    assert "activation by the marked part alone" in (tmp_path / "index.html").read_text()
    page = (tmp_path / "units" / "000" / "index.html").read_text()
    assert page.count('class="tile"') == 64 and "../../index.html" in page
    assert "units/000/index.html" in (tmp_path / "index.html").read_text()
    with np.load(tmp_path / "units" / "000" / "maps.npz") as stored:
        maps = nd.attribute.unit_maps(network, x, "block2/relu")
        chex.assert_trees_all_close(stored["values"], maps.values, atol=1e-5)
        titles = [f"block2/relu:{unit}<" for unit in maps.units[maps.order]]
    places = [page.index(title) for title in titles]
    assert places == sorted(places), "the strongest first"


def test_pictures(tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 13:16] = 255
    PIL.Image.fromarray(picture).save(folder / "one.png")
    np.save(folder / "two.npy", np.stack([picture / 255, picture.T / 255]).astype(np.float32))
    (folder / "broken.png").write_bytes(b"no picture")
    more = ["--network", "mnist", "--pictures", str(folder), "--out", str(tmp_path / "out"), "--units", "conv1"]
    assert explain.main([*more, "--methods", "occlusion"]) == 0
    told = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [each["name"] for each in told["sounds"]] == ["one.png", "two.npy 0", "two.npy 1"]
    with np.load(next((tmp_path / "out" / "maps").glob("one-*.npz"))) as stored:
        network = nd.load("mnist")
        assert stored["x"].max() == network.input.high and stored["x"].min() == network.input.low
        chex.assert_shape(stored["occlusion/map"], (28, 28, 1))
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<audio" not in page and "3 pictures" in page


@pytest.mark.parametrize(
    ("file", "shape", "low", "high"),
    [
        ("quantus_lenet_mnist/lenet_mnist_torch.pt", (28, 28, 1), 0, 1),
        ("quantus_lenet_mnist/lenet_mnist_torch.npz", (28, 28, 1), 0, 1),
        ("quantus_lenet_mnist/lenet_mnist_weights.npz", (28, 28, 1), 0, 255),
        ("captum_cifar10/cifar_torchvision.pt", (32, 32, 3), -1, 1),
        ("neural_dissection/DCGAN_mnist-gan-discriminator.pt", (28, 28, 1), -1, 1),
    ],
)
def test_a_file_of_weights_is_what_it_holds(shared, file, shape, low, high):
    found = explain_inputs.open_network(str(shared / "data" / "weights" / file), None, None).input
    assert (found.shape, found.low, found.high) == (shape, low, high)


@pytest.fixture
def digits(tmp_path):
    """A folder with a picture in it, and a LeNet of MNIST with weights by chance."""
    (tmp_path / "digits").mkdir()
    PIL.Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)).save(tmp_path / "digits" / "one.png")
    rng = np.random.default_rng(0)
    shapes = {"conv_1": (2, 1, 5, 5), "conv_2": (3, 2, 5, 5), "fc_1": (6, 48), "fc_2": (5, 6), "fc_3": (10, 5)}
    state = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    state |= {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "lenet.npz", **state)
    np.savez(tmp_path / "dense.npz", **{"fc.weight": np.zeros((2, 2), np.float32)})
    return tmp_path


def test_a_lenet_of_mnist_is_explained(digits):
    given = ["--network", str(digits / "lenet.npz"), "--pictures", str(digits / "digits"), "--out", str(digits / "out")]
    assert explain.main([*given, "--methods", "saliency"]) == 0
    told = json.loads((digits / "out" / "figures.json").read_text())
    assert told["sounds"][0]["explained"] in "0123456789"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--network", "dense.npz"], "holds none of the networks that are known"),
        (["--network", "lenet.npz", "--kind", "cifar10"], "is a LeNet, but none of CIFAR-10: it takes 1 channels"),
        (["--network", "dcgan_mnist_discriminator"], "no classes: say what is explained by --unit output:0"),
    ],
)
def test_one_sentence_of_weights(digits, capsys, monkeypatch, more, message):
    monkeypatch.chdir(digits)
    assert explain.main([*more, "--pictures", "digits", "--out", "out"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said
    assert not (digits / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--window", "29"], "a window of 29 is larger than the input, which has 28 steps"),
        (["--window", "4", "--stride", "6"], "stride 6 is larger than the window of 4 along the axis 'row'"),
        (["--stride", "0"], "stride must be 1 or more, got 0"),
        (["--sounds", "."], "its folder is --pictures"),
        ([], "has no pictures that can be read"),
        (["--layer", "dense1", "--methods", "grad_cam"], "no positions"),
        (["--baseline", "7"], "inputs, -1 to 1, and 7 does not"),
        (["--baseline", "-1.5"], "inputs, -1 to 1, and -1.5 does not"),
        (["--time", "0.2"], "time is of sounds, and this network takes pictures: leave it out"),
        (["--bands", "4", "--methods", "saliency"], "bands is of sounds"),
        (["--low", "9"], "low is of sounds"),
    ],
)
def test_one_sentence_of_pictures(tmp_path, capsys, more, message):
    (tmp_path / "empty").mkdir()
    given = ["--network", "mnist", "--pictures", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    assert explain.main([*given, *more]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said


def test_black_is_the_lowest_value(digits):
    given = ["--network", "mnist", "--pictures", str(digits / "digits"), "--out", str(digits / "out")]
    assert explain.main([*given, "--methods", "saliency", "--baseline", "-1"]) == 0
    with np.load(next((digits / "out" / "maps").glob("*.npz"))) as stored:
        kept, removed, x = (stored[name] for name in ("saliency/kept", "saliency/removed", "x"))
        chex.assert_trees_all_close(np.maximum(kept, removed), x, atol=1e-6)
        assert kept.min() == removed.min() == -1


@pytest.mark.parametrize("values", [np.nan, np.inf, 3.0])
def test_an_array_of_other_values_is_one_message(digits, capsys, values):
    (digits / "arrays").mkdir()
    np.save(digits / "arrays" / "one.npy", np.full((28, 28), values, np.float32))
    given = ["--network", "mnist", "--pictures", str(digits / "arrays"), "--out", str(digits / "out")]
    assert explain.main([*given, "--methods", "saliency"]) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    why = "values of this network's pictures lie between -1 and 1" if values == 3 else "784 of its 784 values are no"
    assert said.startswith("error: ") and f"one.npy: {why}" in said


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_place_of_the_folder(digits, capsys, below):
    (digits / "out").write_text("mine")
    given = ["--network", "mnist", "--pictures", str(digits / "digits"), "--out", str(digits / "out" / below)]
    assert explain.main(given) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said == f"error: out is a folder, and {digits / 'out'} is a file"


def test_one_of_several_outputs():
    network, aim, _ = explain.checked(explain.Settings(network="instrument_notes", part="family"))
    x = np.asarray(network.input.silence())
    found = aim(x)
    assert found.label == network.labels["family"][found.number]
    probabilities = explain.says(network, x[None], found, "family")
    assert probabilities.shape == (1, 10) and probabilities.argmax() == found.number
    chosen = explain.attribution(network, x, found, "saliency", explain.Settings())
    chex.assert_trees_all_close(chosen.scores, np.asarray(network(x[None])["family"])[0, found.number][None], rtol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--target", "eleven"], "no unit 'eleven'"),
        (["--network", "mnist"], "this network sees: its folder is --pictures"),
        (["--network", "conditional_mel_gan"], "for networks that hear or see"),
        (["--network", "conditional_mel_gan_discriminator"], "for networks that hear or see"),
        (["--count", "0"], "count must be 1 or more"),
        (["--sounds", "no_such_folder"], "is not a folder"),
        (["--baseline", "silent", "--methods", "saliency"], "unknown baseline 'silent'"),
        (["--part", "pitch"], "pitch"),
        (["--network", "instrument_notes"], "say which by part=, one of 'family', 'pitch'"),
        (["--unit", "block2/relu"], "a unit is LAYER:NUMBER, such as block1/conv:0, not 'block2/relu'"),
        (["--unit", "block2/relu:64"], "has units 0 to 63, and not 64"),
        (["--unit", "block2/relu:6", "--target", "3"], "in place of a class"),
        (["--units", "digit"], "no positions to lay over"),
        (["--pictures", "no_such_folder"], "this network hears"),
        (["--time", "2"], "larger than the input, whose time ends at"),
        (["--high", "9000"], "half the sample rate, 4000 Hz, and these go from 0 to 9000 Hz"),
        (["--baseline", "7"], "inputs, 0 to 1, and 7 does not"),
        (["--baseline", "nan"], "inputs, 0 to 1, and nan does not"),
        (["--window", "4"], "window is of pictures, and this network takes sounds: leave it out"),
        (["--stride", "4", "--methods", "saliency"], "stride is of pictures"),
        (["--bands", "100000"], "bands must be at most 64, the steps of the frequency axis, got 100000"),
        (["--baseline", "noise"], "blur or a number, and not 'noise'"),
    ],
)
def test_one_sentence(recordings, tmp_path, capsys, more, message):
    assert run(recordings, tmp_path, *more) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said
    assert not (tmp_path / "index.html").exists()
