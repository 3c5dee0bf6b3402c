"""Classes maximised from one command: complete pages, figures, and no lane done twice."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import PIL.Image as Pillow
import pytest
from generator_networks import NAMES, classifier, generator, invented

import nd_jax as nd
from nd_jax import audio, domain, generators
from nd_jax.experiments import maximize_class
from nd_jax.networks import gansynth
from nd_jax.report.sounds import at_playback_level


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return ["--network", classifier(folder), "--generator", generator(folder)]


@pytest.fixture
def lanes(monkeypatch):
    """The seeds and conditions of the lanes that were optimised."""
    done, real = [], nd.visualize.maximize_classes

    def counted(*arguments, **settings):
        if settings["condition"] == "free" and len(done) == 2 and counted.stop:
            raise KeyboardInterrupt
        done.append((settings["condition"], list(settings["seeds"])))
        return real(*arguments, **settings)

    counted.stop = False
    monkeypatch.setattr(nd.visualize, "maximize_classes", counted)
    return done, counted


def test_a_run_that_was_stopped_goes_on_and_grows(networks, tmp_path, lanes, capsys):
    done, stopper = lanes
    out = tmp_path / "page"
    arguments = [*networks, "--steps", "4", "--together", "2", "--shown", "1", "--out", str(out)]
    stopper.stop = True
    assert maximize_class.main([*arguments, "--seeds", "1"]) == 130
    assert done == [("target", [0, 1]), ("another", [0, 1])]
    stopper.stop = False
    assert maximize_class.main([*arguments, "--seeds", "3"]) == 0
    assert done[2:] == [("target", [2, 3]), ("another", [2, 3]), ("free", [0, 1]), ("free", [2, 3])]
    assert capsys.readouterr().out.splitlines()[-1] == f"open {out / 'index.html'}"

    told = json.loads((out / "figures.json").read_text())
    for name in ("target", "another", "free"):
        each = told["conditions"][name]
        assert each["lanes"] == 9 and set(each["classes"]) == set(NAMES)
        assert each["classes"]["mid"]["after"]["share"]["of"] == 3
        assert list(each["share_by_step"]) == ["0", "1", "2", "4"]
        assert 0 <= each["after"]["low"] <= each["after"]["probability"] <= each["after"]["high"] <= 1
    page = (out / "index.html").read_text()
    assert "asked for another class" in page and "<audio" in page and 'href="trajectories/index.html"' in page
    for name in [part.split('"')[0] for part in page.split('src="')[1:]]:
        assert (out / name).is_file(), name
    with Pillow.open(out / "files/class-0.gif") as gif:
        assert gif.n_frames == 4
    assert sorted(path.name for path in (out / "trajectories/steps").iterdir()) == [
        f"{step:08d}" for step in (0, 1, 2, 4)
    ]

    # The same again: nothing is optimised. Another loss in the same folder: refused.
    assert maximize_class.main([*arguments, "--seeds", "3"]) == 0 and len(done) == 6
    assert maximize_class.main([*arguments, "--seeds", "3", "--l2", "1"]) == 1
    assert "holds a run with another project (True, not False)" in capsys.readouterr().err


def test_what_is_kept_is_what_the_call_finds(networks, tmp_path):
    settings = maximize_class.Settings(
        network=networks[1], generator=networks[3], conditions=("another",), seeds=3, together=2, steps=4, out=tmp_path
    )
    maximize_class.run(settings)
    kept = [np.load(path) for path in sorted(tmp_path.glob("results/another/*.npz"))]
    z = np.concatenate([part["z"] for part in kept])[:9]
    found = nd.visualize.maximize_classes(
        nd.load(networks[1]),
        nd.load(networks[3]),
        key=maximize_class.jax.random.key(0),
        seeds=3,
        condition="another",
        steps=4,
        progress=False,
    )
    np.testing.assert_allclose(found.parameters["z"], z, atol=1e-6)
    np.testing.assert_array_equal(found.parameters["label"], np.concatenate([part["label"] for part in kept])[:9])


def test_senseless_settings_end_in_one_sentence(networks, tmp_path, capsys):
    for more, words in (
        (["--seeds", "0"], "seeds must be 1 or more"),
        (["--conditions", "nne"], "unknown condition 'nne'; did you mean 'none'"),
        (["--classes", "lw"], "no class 'lw'; did you mean 'low'"),
    ):
        assert maximize_class.main([*networks, "--out", str(tmp_path), *more]) == 1
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_mel_if_generator_is_heard_itself(networks, tmp_path):
    module = gansynth.Generator(latent=5, classes=3, blocks=2, start=(64, 16), fmap_base=8, fmap_max=4)
    given = {"z": jnp.zeros((1, 5)), "label": jnp.zeros(1, int)}
    made = domain.MelIF(audio.MelIF(sample_rate=16000, samples=1024, n_fft=64, frames=128))
    taken = domain.Parts({"z": domain.Latent(5), "label": domain.Label(NAMES)})
    maker = nd.Network(module, invented(module, given, 0), input=taken, output=made)
    folder = str(maker.save(tmp_path / "generator"))
    settings = maximize_class.Settings(
        network=networks[1],
        generator=folder,
        classes=("low",),
        conditions=("another",),
        seeds=1,
        shown=1,
        steps=2,
        out=tmp_path / "page",
    )
    maximize_class.run(settings)
    told = json.loads((tmp_path / "page/figures.json").read_text())
    # Latents keep their length without being asked.
    assert told["settings"]["project"] is True and "heard" not in told["conditions"]["another"]
    page = (tmp_path / "page/index.html").read_text()
    assert "what the generator itself made" in page and "Griffin" not in page
    kept = np.load(next((tmp_path / "page/results/another").glob("*.npz")))
    assert kept["free_z"].shape == (3, 1, 5) and np.any(kept["free_z"][0] != kept["free_z"][-1])
    z, label = kept["free_z"][-1, 0], int(kept["free_label"][-1, 0].argmax())
    z = z * np.sqrt(5) / np.linalg.norm(z)
    wave = made.sound(generators.make(maker, {"z": z[None], "label": np.asarray([label])})[0])
    ready = at_playback_level(wave)
    written = (tmp_path / "page/files/class-0-001.wav").read_bytes()
    assert np.abs(np.frombuffer(written[44:], "<i2") / 32767.0 - ready.sound.wave).max() < 2e-3
    assert (tmp_path / "page/trajectories/steps/00000001").is_dir()
