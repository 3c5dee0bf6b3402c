"""The atlas of a generator: what it makes is drawn and played, with its latent, its pitches and random samples."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import audio, domain, generators, report
from nd_jax.networks import gansynth
from nd_jax.report import page, recipe
from nd_jax.report.generated import pitches
from nd_jax.visualize import at_classes

LAYER = "block2/conv1"
PITCHES = ("C4", "E4", "G4", "B4")
MADE = domain.MelIF(audio.MelIF(sample_rate=8000, samples=560, n_fft=32, frames=128))


def network(names=PITCHES, output=MADE):
    module = gansynth.Generator(latent=6, classes=len(names), blocks=2, start=(64, 8), fmap_base=16, fmap_max=4)
    variables = module.init(jax.random.key(3), {"z": jnp.zeros((1, 6)), "label": jnp.zeros(1, int)})
    taken = domain.Parts({"z": domain.Latent(6), "label": domain.Label(names)})
    return nd.Network(module, variables, input=taken, output=output, card={"name": "tiny notes"})


@pytest.fixture(scope="module")
def generator():
    return network()


@pytest.fixture(scope="module")
def found(generator):
    objective = nd.objectives.channel(LAYER, range(2))
    return at_classes(
        generator, objective, ("C4", "G4", "B4"), key=jax.random.key(0), steps=6, snapshots=3, progress=False
    )


@pytest.fixture(scope="module")
def index(generator, found, tmp_path_factory):
    """The page of what was found, beside random samples."""
    samples = nd.dissect.samples(generator, layers=[LAYER], count=8, progress=False)
    folder = tmp_path_factory.mktemp("pages") / "page"
    return report.atlas(found, folder, exemplars=samples, weights=False, progress=False)


def read(index):
    """The index of a page, and the details of its first layer."""
    text = index.read_text()
    told = json.loads(text.split('id="index">')[1].split("</script>")[0])
    path = index.parent / told["base"] / f"{told['layers'][0]['slug']}.js"
    data = path.read_text()
    return told, json.loads(data[data.index(",") + 1 : data.rindex(")")]), path.with_suffix("")


def test_each_unit_shows_what_is_made_of_its_best_latent(generator, found, index):
    told, details, folder = read(index)
    assert (told["made"], told["picture"]["x"]["unit"], told["picture"]["y"]["unit"]) == ("pitch", "s", "Hz")
    assert "asked for in" in told["about"] and "of 6 sounds" in told["about"] and told["about"].startswith("6 inputs")
    entry = details["units"]["1"]
    best = int(np.argmax(found.scores[1]))
    np.testing.assert_allclose(entry["z"], found.inputs["z"][1, best], atol=0.006)
    assert entry["asked"] == ("C4", "G4", "B4")[best] and abs(entry["latent"] - 50) < 10
    rows = entry["classes"]
    assert [one["name"] for one in rows] == ["C4", "G4", "B4"] and [one["midi"] for one in rows] == [60, 67, 71]
    np.testing.assert_allclose([one["score"] for one in rows], found.scores[1], rtol=1e-5)
    assert rows[best]["rank"] == 0 and sorted(one["rank"] for one in rows) == [0, 1, 2]
    for suffix in ("", ".2", ".3"):
        assert (folder / f"1{suffix}.png").is_file() and (folder / f"1{suffix}.wav").is_file()
    assert entry["natural"] and details["clips"]
    drawn = nd.report.pictures.png(MADE.picture(generators.make(generator, at(found.inputs, 1, best))[0]))
    assert (folder / "1.png").read_bytes() == drawn
    stored = np.load(folder / "1.npz")
    assert stored["input/z"].shape == (3, 6) and stored["input/label"].tolist() == [0, 2, 3]


def at(inputs, unit, place):
    return jax.tree.map(lambda leaf: leaf[unit, place][None], inputs)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (360, "light")])
def test_a_browser_shows_the_pitch_curve_and_plays_every_pitch(driver, opened, index, found, width, theme):
    with opened(driver, index) as page:
        page.size(width, 740)
        page.prefer(theme)
        page.open(f"#/{LAYER}/1")
        names = page.until("(() => [...document.querySelectorAll('.reached .x')].map(n => n.textContent))()")
        assert names == ["C4", "G4", "B4"]
        tops = page.run(
            "return [...document.querySelectorAll('.reached .dot')].map(n => n.getBoundingClientRect().top)"
        )
        assert np.argsort(tops)[0] == np.argmax(found.scores[1]) and len(set(tops)) == 3
        assert page.run("return document.querySelector('.reached .best').title").startswith(
            ("C4", "G4", "B4")[int(np.argmax(found.scores[1]))]
        )
        assert "6 numbers" in page.run("return document.querySelector('.latent').innerText")
        assert page.run("return document.querySelectorAll('.naturals.each .plot img').length") == 3
        assert page.run("return document.documentElement.scrollWidth") <= width
        page.run("[...document.querySelectorAll('.naturals.each button')].at(-1).click()")
        page.until("(document.querySelector('#player').currentSrc || '').endsWith('.wav')")


def test_the_source_of_a_unit_makes_it_again(generator, found, tmp_path):
    folder = generator.save(tmp_path / "generator")
    (source,) = recipe.sources(found, [1], str(folder))
    assert "nd.visualize.at_classes(" in source and "[0, 2, 3]" in source
    scope: dict = {}
    exec(source, scope)
    np.testing.assert_array_equal(scope["result"].inputs["z"][0], found.inputs["z"][1])


def test_a_page_of_one_class_and_of_classes_that_are_no_pitches(tmp_path):
    maker = network(("0", "1", "2", "3"))
    assert pitches(maker) == {} and pitches(network()) == {0: 60, 1: 64, 2: 67, 3: 71}
    one = nd.visualize_batch(
        maker, nd.objectives.channel(LAYER, [0]), key=jax.random.key(0), steps=1, snapshots=0, progress=False
    )
    told, details, _ = read(report.atlas(one, tmp_path / "page", weights=False, progress=False))
    assert told["made"] == "class" and details["units"]["0"]["asked"] == "0"
    assert "pitch heard" not in told["about"]
    shown = report.html_for(one)
    assert "<audio" in shown and "Hz" in shown


def test_only_pages_of_generators_carry_its_panels(result, tmp_path):
    text = report.atlas(result.select([0]), tmp_path / "page", weights=False, progress=False).read_text()
    assert "function latentPicture" not in text
    assert sum(len(page.asset(f"latent.{kind}").encode()) for kind in ("js", "css")) < 7_000


def test_a_generator_that_is_not_at_hand_has_no_page(found, tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        report.atlas(dataclasses.replace(found, network=None), tmp_path / "page", progress=False)
