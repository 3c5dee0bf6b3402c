"""One command from a network and pictures to adversarial examples, blends, figures, an animation and a page."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image as Pillow
import PIL.ImageDraw as Draw
import PIL.ImageFont as Font
import pytest

import nd_jax as nd
from nd_jax.data.builders.mnist import read_idx
from nd_jax.experiments import adversarial
from nd_jax.visualize.adversarial import probabilities

FAST = ("--steps", "24", "--class-steps", "12", "--budgets", "0.02", "0.06", "0.2")


def digit(text, path):
    """A digit as MNIST has them, light on black, about 20 of 28 pixels high; drawn large and made smaller."""
    import matplotlib

    font = Font.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 196)
    image = Pillow.new("L", (280, 280))
    Draw.Draw(image).text((140, 140), text, fill=255, font=font, anchor="mm", stroke_width=6, stroke_fill=255)
    image.save(path)
    return str(path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return [digit(text, folder / f"drawn {text}.png") for text in "37"]


def test_the_shipped_classifier_on_drawn_digits(digits, tmp_path, capsys):
    out = tmp_path / "page"
    assert adversarial.main(["--network", "mnist", "--images", *digits, "--out", str(out), *FAST]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"open {out / 'index.html'}"
    told = json.loads((out / "figures.json").read_text())
    assert told["network"] == "mnist" and told["pictures"] == 2 and told["norm"] == "l2"
    assert [row["picture"] for row in told["rows"]] == ["drawn 3", "drawn 7"]
    assert [row["source"] for row in told["rows"]] == ["3", "7"]
    for row in told["rows"]:
        assert row["flipped"] and row["target"] != row["source"]
        assert 0.005 < row["rms"] <= row["budget"] * 1.0001 <= 0.2001
        # Its direction counts: noise of that length leaves the answer.
        assert row["noise_keeps_source"] > 0.9
        assert set(row["blends"]) == {"free pixels", "robust"}
    with Pillow.open(out / "adversarial.gif") as gif:
        assert gif.n_frames > 5
    for name in ("adversarial.png", "blending.png"):
        with Pillow.open(out / name) as picture:
            assert min(picture.size) > 400
    page = (out / "index.html").read_text()
    assert "drawn 3" in page and 'src="adversarial.gif"' in page and "<script" not in page


def test_a_file_of_weights_and_a_named_target(tmp_path):
    draw = np.random.default_rng(0)
    shapes = {
        "features.0": (4, 3, 3, 3),
        "features.3": (5, 4, 3, 3),
        "classifier.0": (6, 5 * 4),
        "classifier.3": (3, 6),
    }
    state = {f"{name}.weight": 0.4 * draw.standard_normal(shape) for name, shape in shapes.items()}
    state |= {f"{name}.bias": np.zeros(shape[0]) for name, shape in shapes.items()}
    np.savez(tmp_path / "tiny.npz", **{name: array.astype(np.float32) for name, array in state.items()})
    (tmp_path / "names.txt").write_text("cat\ndog\n<fox>\n")
    pixels = draw.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "photo.png")
    settings = adversarial.Settings(
        network=str(tmp_path / "tiny.npz"), labels=tmp_path / "names.txt", size=16, images=(tmp_path / "photo.png",)
    )
    network = adversarial.load(settings)
    given = adversarial.pictures(network, settings)
    assert given.inputs.shape == (1, 16, 16, 3) and 0 <= given.inputs.min() < given.inputs.max() <= 1
    says = int(probabilities(network, given.inputs)[0].argmax())
    target = next(number for number in range(3) if number != says)
    arguments = ["--network", settings.network, "--labels", str(settings.labels), "--size", "16", "--norm", "linf"]
    arguments += [
        "--images",
        str(settings.images[0]),
        "--target",
        network.labels[target],
        "--out",
        str(tmp_path / "out"),
    ]
    assert adversarial.main([*arguments, *FAST]) == 0
    row = json.loads((tmp_path / "out" / "figures.json").read_text())["rows"][0]
    assert (row["source"], row["target"]) == (network.labels[says], network.labels[target])
    assert row["linf"] <= 0.2001
    assert "<fox>" not in (tmp_path / "out" / "index.html").read_text()


def test_pictures_are_cut_to_the_middle_and_keep_their_values(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20], wide[:, :10] = (255, 128, 0), 77
    Pillow.fromarray(wide).save(tmp_path / "wide.png")
    colour = adversarial.read_picture(tmp_path / "wide.png", nd.domain.Image((10, 10, 3), -1.0, 1.0))
    np.testing.assert_allclose(colour, np.broadcast_to([1.0, 2 * 128 / 255 - 1, -1.0], (10, 10, 3)), atol=1e-6)
    grey = adversarial.read_picture(tmp_path / "wide.png", nd.domain.Image((5, 5, 1)))
    assert grey.shape == (5, 5, 1) and 0.4 < grey.mean() < 0.7
    with pytest.raises(ValueError, match="1 or 3 channels"):
        adversarial.read_picture(tmp_path / "wide.png", nd.domain.Image((5, 5, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there are no pictures: pass --images FILE"),
        (["--images", "none.png"], "none.png"),
        (["--network", "spoken_digits", "--images", "none.png"], "takes log_mel inputs and no images"),
        (["--network", "none.pth", "--images", "none.png"], "no weights file at none.pth"),
        (["--data-dir", ".", "--examples", "0"], "examples must be 1 or more"),
    ],
)
def test_what_cannot_work_is_one_line(arguments, message, tmp_path, capsys):
    assert adversarial.main([*arguments, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and said.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_an_unknown_class_is_one_line(digits, tmp_path, capsys):
    assert adversarial.main(["--images", digits[0], "--target", "11", "--out", str(tmp_path / "out")]) == 1
    assert "no class '11'" in capsys.readouterr().err


def test_real_digits(shared, monkeypatch):
    folder = shared / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip("no MNIST in the shared folder")
    network = nd.load("mnist")
    images = read_idx(folder / "t10k-images-idx3-ubyte.gz", axes=3)[:100, ..., None]
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz", axes=1)[:100].astype(np.int64)
    data = nd.data.Images(images, {"label": labels}, {"label": tuple("0123456789")})
    # The whole set takes long to prepare; what is read from it is tested with the builders.
    monkeypatch.setattr(nd.data, "load", lambda *arguments, **options: data)
    settings = adversarial.Settings(data_dir=folder, examples=12)
    given = adversarial.pictures(network, settings)
    says = probabilities(network, given.inputs).argmax(axis=1)
    assert [name[0] for name in given.names] == [str(number) for number in says]
    assert sorted(says[:10]) == list(range(10)), "the classes take turns"
    for number, x in zip(says[:10], given.inputs[:10], strict=True):
        if (labels == number).sum() > 2:
            assert np.abs(given.natural[int(number)] - x).max() > 0, "a class is blended in by another real picture"
