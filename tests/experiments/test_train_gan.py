"""From a folder of data to a generator and a discriminator that load, through the command line."""

from __future__ import annotations

import gzip
import json
import struct

import chex
import jax
import numpy as np
import pytest
import soundfile

import nd_jax as nd
from nd_jax.experiments import judge_gan, train_gan
from nd_jax.experiments.configs import emotion_mel_gan, gans, mel_gans, mnist_gans
from nd_jax.networks.audio_cnn import AudioCNN
from nd_jax.networks.lenet import LeNet
from nd_jax.training import cards, gan

_TINY = [
    "--training.steps",
    "2",
    "--training.batch-size",
    "4",
    "--training.log-every",
    "1",
    "--training.save-every",
    "1",
]
_PLAIN = ["--training.penalty", "none", "--training.loss", "hinge", "--training.critic-steps", "1"]
_MNIST = ["--hidden", "2", "--critic-hidden", "2", "--features", "3", *_TINY]
_MEL = ["--widths", "4", "2", "--critic-widths", "2", "4", "--latent", "3", *_TINY]


def _idx(path, values):
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Forty images to train on and thirty to measure by: MNIST's four files."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("t10k", 30)):
        _idx(folder / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        _idx(folder / f"{name}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two takes to measure by, and two to train on, of every digit."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "recordings").mkdir()
    rng = np.random.default_rng(0)
    for digit in range(10):
        for take in (3, 4, 9, 10):
            wave = 0.1 * rng.normal(size=2000 + 200 * digit)
            soundfile.write(folder / "recordings" / f"{digit}_ada_{take}.wav", wave, 8000, subtype="PCM_16")
    return folder


def _network(folder, module, domain):
    variables = module.init(jax.random.key(0), np.zeros((1, *domain.shape), np.float32), train=False)
    network = nd.Network(
        module, variables, domain, labels=tuple("0123456789"), apply_kwargs={"train": False}, card={"name": "judge"}
    )
    return str(network.save(folder))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """An untrained judge of images."""
    module = LeNet(features=(2, 2), hidden=(6, 5), classes=10)
    return _network(tmp_path_factory.mktemp("reader") / "reader", module, nd.domain.Image((28, 28, 1), -1.0, 1.0))


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    """An untrained judge of spoken digits."""
    domain = mel_gans.MelGan("nowhere").domain
    module = AudioCNN(heads=(("digit", 10),), features=(3, 5), kernels=((3, 3),) * 2, strides=((4, 4),) * 2)
    return _network(tmp_path_factory.mktemp("listener") / "listener", module, domain)


def _run(name, folder, out, *more):
    arguments = [name, "--data-dir", str(folder), "--prepared-dir", str(out / "prepared"), "--out", str(out / "run")]
    return train_gan.main([*arguments, *more])


def test_images_become_two_networks_with_cards_and_samples(images, reader, tmp_path, capsys):
    more = ["--judge", reader, "--samples", "20", "--watch", "--training.watch-every", "1", *_MNIST]
    assert _run("dcgan-mnist", images, tmp_path, *more) == 0
    run = tmp_path / "run"
    generator, discriminator = nd.load(run / "generator"), nd.load(run / "discriminator")
    made = generator(np.zeros((2, 100), np.float32))
    chex.assert_shape([made, discriminator(made)], [(2, 28, 28, 1), (2, 1)])
    assert all(generator.card[field] for field in cards.GAN_FIELDS)
    command = generator.card["command"]
    assert command.startswith("python experiments/train_gan.py dcgan-mnist --data-dir DATA --judge")
    assert "prepared" not in command and "--out" not in command
    assert discriminator.card["task"].startswith("Tells real examples from those of its generator")

    told = json.loads((run / "figures.json").read_text())
    assert told["rows"] == generator.card["samples"]["rows"]
    assert {name: row["n"] for name, row in told["rows"].items()} == {"real": 20, "generated": 20, "untrained": 20}
    assert (told["layer"], told["judge"]) == ("relu4", "judge")
    text = (run / "generator" / "README.md").read_text()
    assert "![samples](samples.png)" in text and "| real | generated | untrained |" in text
    assert (run / "generator" / "samples.png").is_file() and not (run / "discriminator" / "samples.png").exists()
    assert {path.name for path in (run / "samples" / "sheets").iterdir()} == {"00000001.png", "00000002.png"}
    assert (run / "samples" / "training.gif").is_file() and (run / "curves.png").is_file()
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2]
    assert {"confident", "rarest_class", "inception_score", "kernel_distance", "sample_spread"} <= set(log[-1])
    assert "inception score" in capsys.readouterr().out

    # The judge's script says of the saved generator what training has said of it.
    arguments = ["--generator", str(run / "generator"), "--data-dir", str(images), "--judge", reader]
    again = tmp_path / "again.json"
    more = ["--out", str(again), "--prepared-dir", str(tmp_path / "prepared"), "--samples", "20"]
    assert judge_gan.main([*arguments, *more]) == 0
    assert json.loads(again.read_text())["rows"] == told["rows"]


def test_a_choice_of_the_digit_is_judged_by_what_is_heard(digits, listener, tmp_path):
    more = ["--judge", listener, "--samples", "20", "--conditioning", "auxiliary", *_PLAIN, *_MEL]
    assert _run("conditional-mel-gan", digits, tmp_path, *more) == 0
    generator = nd.load(tmp_path / "run" / "generator")
    assert generator.input["label"].names == tuple("0123456789")
    made = generator({"z": np.zeros((2, 3), np.float32), "label": np.asarray([0, 9], np.int32)})
    chex.assert_shape(made, (2, 64, 64, 1))
    rows = generator.card["samples"]["rows"]
    assert rows["generated"]["asked"]["of"] == 20 and rows["real"]["n"] == 20


def test_raw_sound_is_judged_through_the_log_mel(digits, listener, tmp_path):
    more = ["--length", "4096", "--dim", "1", "--latent", "3", *_PLAIN, *_TINY]
    assert _run("wavegan", digits, tmp_path, "--judge", listener, "--samples", "20", *more) == 0
    generator = nd.load(tmp_path / "run" / "generator")
    assert generator.output.sample_rate == 8000 and generator.input.law == "uniform"
    chex.assert_shape(generator(np.zeros((2, 3), np.float32)), (2, 4096, 1))
    assert generator.card["samples"]["rows"]["real"]["n"] == 20


def test_an_interrupted_run_goes_on_as_it_was_and_is_measured_then(images, reader, tmp_path, capfd):
    constant = [*_MNIST, "--training.schedule", "constant"]
    assert _run("wgan-mnist", images, tmp_path, "--judge", "", *constant) == 0
    assert not (tmp_path / "run" / "figures.json").exists()
    longer = [*constant, "--training.steps", "3"]
    assert _run("wgan-mnist", images, tmp_path, "--judge", reader, "--samples", "20", *longer) == 0
    assert nd.load(tmp_path / "run" / "generator").card["training"]["steps"] == 3
    assert (tmp_path / "run" / "figures.json").exists()
    capfd.readouterr()
    assert _run("wgan-mnist", images, tmp_path, "--judge", "", *longer, "--hidden", "3") == 1
    error = capfd.readouterr().err
    assert "error: the checkpoint" in error and "has shape (392,) there and (588,) here" in error


def test_the_sources_variants_are_the_sources():
    dcgan, wgan = (recipe("nowhere") for recipe in (mnist_gans.DcganMnistSource, mnist_gans.WganMnistSource))
    for recipe in (dcgan, wgan):
        assert (recipe.hidden, recipe.critic_hidden, recipe.features) == (64, 64, 0)
        assert (recipe.dropout, recipe.images) == (0.3, 48000)
        settings = recipe.training
        assert (settings.batch_size, settings.generator_lr, settings.discriminator_lr) == (256, 1e-4, 1e-4)
        assert (settings.beta1, settings.beta2, settings.ema) == (0.9, 0.999, 0.0)
    assert (dcgan.training.loss, dcgan.training.reuse_fakes) == ("non_saturating", True)
    assert (wgan.training.critic_steps, wgan.training.same_batch, wgan.training.penalty_weight) == (5, True, 10.0)
    assert wgan.critic == {"sigmoid": True}
    full = emotion_mel_gan.EmotionMelGan("nowhere")
    generator, discriminator = full.players()
    counts = []
    for module, shape in ((generator, (1, 512)), (discriminator, (1, 80, 160, 1))):
        blank = np.zeros(shape, np.float32)
        tree = jax.eval_shape(lambda module=module, blank=blank: module.init(jax.random.key(0), blank))["params"]
        counts.append(sum(leaf.size for leaf in jax.tree.leaves(tree)))
    assert counts == [15_863_619, 2_756_929]
    settings = full.training
    assert (settings.loss, settings.unroll, settings.consistency) == ("sigmoid_least_squares", 5, 0.1)


def test_recordings_have_one_peak_and_stand_in_the_middle():
    clips = nd.data.Clips(
        [np.full(4, 100, np.int16), np.arange(10, dtype=np.int16), np.zeros(3, np.int16)], 8000, {}, {}
    )
    waves = gans.centred(clips, 8)
    peak = round(0.9 * 32767)
    np.testing.assert_array_equal(waves[0], [0, 0, peak, peak, peak, peak, 0, 0])
    np.testing.assert_array_equal(waves[1], np.round(np.arange(1, 9) / 8 * 0.9 * 32767))
    assert not waves[2].any()


@pytest.mark.parametrize("key", range(3))
def test_a_moved_log_mel_has_the_floor_where_it_becomes_free(key):
    levels = np.arange(1, 9, dtype=np.float32).reshape(1, 8, 1)
    found = np.asarray(gans.moved(levels, jax.random.key(key), 2))[0, :, 0]
    assert any(
        np.array_equal(
            found, np.concatenate([np.zeros(max(s, 0)), levels[0, max(-s, 0) : 8 - max(s, 0), 0], np.zeros(max(-s, 0))])
        )
        for s in range(-2, 3)
    )


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, more, said",
    [
        ("dcgan-mnist", ["--images", "0"], "there are 0 examples"),
        ("dcgan-mnist", ["--training.batch-size", "3"], "2 devices"),
        ("dcgan-mnist", ["--judge", "nowhere"], "no network at nowhere"),
    ],
)
def test_bad_settings_are_one_sentence(images, tmp_path, capfd, name, more, said):
    assert _run(name, images, tmp_path, "--judge", "", *_MNIST, *more) != 0
    error = capfd.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "run" / "generator").exists()


@pytest.mark.parametrize(
    "more, said",
    [
        (["--hiden", "4"], "hiden"),
        (["--training.loss", "hings"], "'hinge'"),
        (["--training.save-every", "3", "--training.log-every", "2"], "save_every 3 is not a multiple of log_every 2"),
        (["--samples", "0"], "samples must be 2 or more"),
    ],
)
def test_a_flag_that_there_is_not_or_cannot_be_ends_the_program(images, tmp_path, capfd, more, said):
    with pytest.raises(SystemExit) as stopped:
        _run("dcgan-mnist", images, tmp_path, *more)
    assert stopped.value.code == 2
    assert said in " ".join(capfd.readouterr().err.replace("│", " ").split())


def test_a_folder_without_the_data_set_is_named(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    assert _run("mel-gan", tmp_path / "empty", tmp_path, "--judge", "", *_MEL) == 1
    assert capfd.readouterr().err.startswith("error: ")


def test_a_judge_of_another_domain_is_refused(images, listener, tmp_path, capfd):
    assert _run("dcgan-mnist", images, tmp_path, "--judge", listener, *_MNIST) == 1
    assert "cannot judge these examples: it takes log_mel" in capfd.readouterr().err


def test_too_few_examples_to_measure_by_are_refused_before_training(images, reader, tmp_path, capfd):
    assert _run("dcgan-mnist", images, tmp_path, "--judge", reader, "--samples", "19", *_MNIST) == 1
    assert "error: 19 held-out examples are too few to measure by" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fewer_recordings_than_a_batch_are_refused_before_any_is_heard(digits, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(mel_gans, "mels", lambda *_: pytest.fail("recordings were heard"))
    assert _run("mel-gan", digits, tmp_path, "--judge", "", *_MEL, "--training.batch-size", "64") == 1
    assert "there are 20 examples to learn from, and a batch takes 64" in capfd.readouterr().err


def test_images_of_another_size_are_refused(images, tmp_path):
    tiny = gan.Settings(steps=1, batch_size=4)
    recipe = mnist_gans.DcganMnist(images, prepared_dir=tmp_path / "prepared", hidden=2, training=tiny)
    experiment = recipe.experiment()
    wide = gan.GanTask(
        {"image": np.zeros((8, 32, 32, 1), np.uint8)},
        lambda key, example: example["image"] / 255.0,
        nd.domain.Image((32, 32, 1)),
        100,
    )
    with pytest.raises(ValueError, match="makes examples of shape .28, 28, 1., and those of the data have .32, 32, 1."):
        gan.train(experiment.generator, experiment.discriminator, wide, tiny, progress=False)
