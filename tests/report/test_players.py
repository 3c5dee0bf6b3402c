"""The page of samples: its files, and the page in a real headless Chromium, looked at, listened to, stepped through."""

from __future__ import annotations

import io
import json
import os
import re
import wave

import numpy as np
import pytest
from PIL import Image as Pillow

import nd_jax as nd
from nd_jax.domain import Image, Latent, Waveform
from nd_jax.report import pictures
from nd_jax.report.players import forget, players, steps

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"
GROUPS = ["zero", "one", HOSTILE, "zero", "one", HOSTILE]


def outputs_of(domain, waves, step):
    """Six log-mels, one of them silent, that differ from step to step."""
    made = np.array(domain.from_wave(np.roll(waves[:6], step, axis=0)))
    made[5] = 0
    return made


@pytest.fixture(scope="module")
def folder(domain, waves, tmp_path_factory):
    """A page of three steps."""
    place = tmp_path_factory.mktemp("samples")
    for step in (500, 1000, 1500):
        players(
            outputs_of(domain, waves, step // 500),
            domain,
            place,
            groups=GROUPS,
            facts=[{"seed": 3, "number": number} for number in range(6)],
            step=step,
            title=f"Small {HOSTILE}",
            about="The same six latents.",
        )
    return place


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --------------------------------------------------------------------------------------------------------- files


def test_every_step_has_its_pictures_and_sounds(folder, domain, waves):
    assert steps(folder) == [500, 1000, 1500]
    listed = json.loads((folder / "samples.json").read_text())
    assert [one["group"] for one in listed["samples"]] == GROUPS
    assert [(one["seed"], one["number"]) for one in listed["samples"]] == [(3, number) for number in range(6)]
    for one in listed["steps"]:
        place = folder / "steps" / f"{one['step']:08d}"
        made = outputs_of(domain, waves, one["step"] // 500)
        for index, sound in enumerate(one["sounds"]):
            with Pillow.open(place / f"{index:03d}.png") as image:
                shown = np.asarray(image.convert("RGB"))
            assert (shown == pictures.pixels(domain.picture(made[index]))).all()
            assert sound["silent"] == (index == 5)
            if sound["silent"]:
                assert not (place / f"{index:03d}.wav").exists()
            else:
                with wave.open(str(place / f"{index:03d}.wav")) as file:
                    assert file.getnframes() / file.getframerate() == pytest.approx(sound["seconds"])
    assert not list(folder.rglob(".*"))


def test_sounds_are_brought_to_one_loudness(folder):
    from nd_jax.audio import loudness

    heard = []
    for path in sorted((folder / "steps" / "00000500").glob("*.wav")):
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        heard.append(float(loudness(samples.astype(np.float32), 8000)))
    assert len(heard) == 5
    assert np.ptp(heard) < 3
    assert np.median(heard) == pytest.approx(-20, abs=1.5)


def test_the_same_call_writes_the_same_files(folder, domain, waves, tmp_path):
    for step in (500, 1000, 1500, 1000):
        given = {"groups": GROUPS, "facts": [{"seed": 3, "number": number} for number in range(6)]}
        players(
            outputs_of(domain, waves, step // 500),
            domain,
            tmp_path,
            step=step,
            title=f"Small {HOSTILE}",
            about="The same six latents.",
            **given,
        )
    assert tree(tmp_path) == tree(folder)


def test_steps_of_other_samples_leave_the_page(tmp_path):
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 6, 6, 1))
    for step in (1, 2):
        players(noise, Image((6, 6, 1), -1, 1), tmp_path, step=step)
    players(noise[:2], Image((6, 6, 1), -1, 1), tmp_path, step=3)
    assert steps(tmp_path) == [3]
    players(noise[:2], Image((6, 6, 1), -1, 1), tmp_path, step=4)
    forget(tmp_path, 3)
    assert steps(tmp_path) == [3]


def test_a_step_is_complete_or_not_there(tmp_path, monkeypatch):
    """A process killed in the middle of a step leaves the page of the steps before, and a draft that goes away."""

    def full(*_):
        raise OSError(28, "the disk is full")

    noise = np.random.default_rng(0).uniform(-1, 1, (3, 6, 6, 1))
    domain = Image((6, 6, 1), -1, 1)
    players(noise, domain, tmp_path, step=1)
    before = tree(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="full"):
            players(noise, domain, tmp_path, step=2)
    assert tree(tmp_path) == before
    (tmp_path / "steps" / ".00000002.draft").mkdir()
    (tmp_path / "steps" / ".00000002.draft" / "000.png").write_bytes(b"half")
    players(noise, domain, tmp_path, step=2)
    assert steps(tmp_path) == [1, 2]
    assert not list(tmp_path.rglob(".*"))


def test_what_cannot_be_shown_is_one_sentence(tmp_path):
    noise = np.zeros((2, 6, 6, 1))
    with pytest.raises(ValueError, match="1 titles for 2 samples"):
        players(noise, Image((6, 6, 1)), tmp_path, titles=["a"])
    with pytest.raises(ValueError, match="'latent' cannot be drawn"):
        players(np.zeros((2, 4)), Latent(4), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_script_and_style_ask_for_nothing():
    from nd_jax.report import page

    for name in ("samples.js", "samples.css"):
        assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttpRequest|innerHTML|eval\(", page.asset(name)), name


# --------------------------------------------------------------------------------------------------------- browser


@pytest.fixture
def page(driver, opened, folder):
    with opened(driver, folder / "index.html") as found:
        found.open()
        found.until("document.body.dataset.step === '1500'")
        yield found
        found.run("localStorage.clear()")


BROWSER = pytest.mark.browser
SOURCES = "return [...document.querySelectorAll('.sample img')].map(i => i.getAttribute('src'))"


@BROWSER
def test_players_have_sounds_of_the_right_length(page, folder):
    files = page.run("return [...document.querySelectorAll('.play:enabled')].map(b => b.dataset.sound)")
    assert files == [f"00001500/{index:03d}.wav" for index in (0, 3, 1, 4, 2)], "one class after the other"
    seconds = page.driver.execute_async_script(
        "const done = arguments[1];"
        "Promise.all(arguments[0].map(f => new Promise((yes) => { const a = document.createElement('audio');"
        "a.onloadedmetadata = () => yes(a.duration); a.onerror = () => yes('error'); a.src = 'steps/' + f; })))"
        ".then(done)",
        files,
    )
    listed = json.loads((folder / "samples.json").read_text())["steps"][-1]["sounds"]
    assert seconds == pytest.approx([listed[int(file[-7:-4])]["seconds"] for file in files], abs=0.01)
    assert "silent" in page.run("return document.querySelector('[data-sample=\"5\"] .player').innerText")
    assert page.run("return document.querySelector('[data-sample=\"5\"] .play').disabled")


@BROWSER
def test_playing_moves_a_playhead_and_stops_the_other(page):
    play = "document.querySelector('[data-sample=\"{}\"] .play')"
    page.run(play.format(0) + ".click()")
    page.until("document.getElementById('player').currentTime > 0.05")
    page.until("parseFloat(document.querySelector('[data-sample=\"0\"] .plot .head').style.left) > 5")
    page.until("parseFloat(document.querySelector('[data-sample=\"0\"] .wave .head').style.left) > 5")
    assert page.run(f"return {play.format(0)}.textContent") == "Stop"
    page.run(play.format(1) + ".click()")
    page.until(f"{play.format(0)}.textContent === 'Play' && {play.format(1)}.textContent === 'Stop'")
    assert page.run("return document.querySelectorAll('audio').length") == 1


@BROWSER
def test_axes_scale_and_classes_are_named(page):
    text = page.run("return document.querySelector('main').innerText")
    for words in (
        "Hz, mel scale",
        "−80 dB",
        "0 dB",
        "The same six latents.",
        "−20 LUFS",
        "Griffin-Lim",
        "zero",
        "gain",
    ):
        assert words in text, words
    labels = page.run(
        "return [...document.querySelectorAll('[data-sample=\"0\"] .yaxis span')].map(n => n.textContent)"
    )
    assert {"1k", "2k"} <= set(labels)
    times = page.run("return [...document.querySelectorAll('[data-sample=\"0\"] .xaxis span')].map(n => n.textContent)")
    assert times[0] == "0" and len(times) >= 3
    assert page.run("return document.querySelector('[data-sample=\"0\"] .wave').getAttribute('aria-label')").startswith(
        "waveform, peak −"
    )


@BROWSER
def test_the_slider_goes_through_the_steps(page):
    def seen():
        found = page.run("return document.querySelector('[data-sample=\"0\"] img')").screenshot_as_png
        return np.asarray(Pillow.open(io.BytesIO(found)).convert("L")).astype(int)

    page.until("[...document.querySelectorAll('.sample img')].every(i => i.complete && i.naturalWidth === 32)")
    last = seen()
    assert {source.split("/")[1] for source in page.run(SOURCES)} == {"00001500"}
    page.run("const s = document.getElementById('step'); s.value = 0; s.dispatchEvent(new Event('input'))")
    page.until("document.body.dataset.step === '500'")
    assert {source.split("/")[1] for source in page.run(SOURCES)} == {"00000500"}
    assert np.abs(seen() - last).mean() > 2, "another step, another picture"
    assert page.run("return location.hash") == "#/500"
    assert "500 (1 of 3)" in page.run("return document.querySelector('.told').textContent")
    page.key("]")
    page.until("document.body.dataset.step === '1000'")
    page.open("#/500")
    page.until("document.body.dataset.step === '500'")
    assert page.run("return document.getElementById('step').value") == "0"


@BROWSER
def test_a_sound_that_plays_goes_on_with_the_next_step(page):
    page.run("document.querySelector('[data-sample=\"0\"] .play').click()")
    page.until("document.getElementById('player').currentTime > 0.02")
    page.key("[")
    page.until("document.getElementById('player').src.endsWith('00001000/000.wav')")


@BROWSER
def test_keyboard_only(page):
    page.key("\ue014")
    at = "document.activeElement.closest('.sample')?.dataset.sample"
    page.until(f"{at} === '0'")
    page.key("\ue014")
    page.until(f"{at} === '3'")
    page.key(" ")
    page.until("document.getElementById('player').src.endsWith('00001500/003.wav')")
    page.key("[")
    page.until("document.body.dataset.step === '1000'")
    page.until(f"{at} === '3'")
    page.key("?")
    page.until("document.getElementById('help').checkVisibility()")
    page.key("\ue00c")
    page.until("!document.getElementById('help').checkVisibility()")
    before = page.run("return getComputedStyle(document.body).backgroundColor")
    page.key("t")
    page.until(f"getComputedStyle(document.body).backgroundColor !== {json.dumps(before)}")


@BROWSER
def test_one_class_alone(page):
    choose = "const s = document.querySelector('select'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))"
    page.run(choose, "one")
    page.until("document.querySelectorAll('.sample').length === 2")
    page.run(choose, HOSTILE)
    page.until("document.querySelectorAll('.sample').length === 2")
    assert page.run("return document.querySelectorAll('main img[onerror]').length") == 0
    assert "pwned" not in page.run("return document.title").replace("document.title='pwned'", "")


@BROWSER
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_width_and_names(page, theme):
    page.size(360, 740)
    page.prefer(theme)
    page.open()
    page.until("document.querySelectorAll('.sample').length === 6")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    unnamed = page.run(
        "return [...document.querySelectorAll('button, a, input, select, img')].filter(n => !("
        "n.getAttribute('aria-label') || n.textContent.trim() || n.getAttribute('alt') || n.closest('label'))).length"
    )
    assert unnamed == 0


@BROWSER
def test_images_are_shown_without_players(driver, opened, tmp_path):
    noise = np.random.default_rng(0).uniform(-1, 1, (4, 6, 6, 1))
    index = players(noise, Image((6, 6, 1), -1, 1), tmp_path, title="Digits")
    with opened(driver, index) as found:
        found.open()
        found.until("document.querySelectorAll('.sample img').length === 4")
        found.until("[...document.querySelectorAll('.sample img')].every(i => i.naturalWidth === 6)")
        assert found.run("return document.querySelectorAll('.play, #step').length") == 0


@BROWSER
def test_a_step_that_is_gone_says_so(driver, browsed, tmp_path):
    waves = 0.3 * np.sin(np.arange(2 * 2048).reshape(2, 2048, 1)).astype(np.float32)
    for step in (1, 2):
        index = nd.report.players(waves, Waveform(2048, 8000), tmp_path, step=step)
    for path in (tmp_path / "steps" / "00000001").iterdir():
        path.unlink()
    found = browsed(driver, index).open()
    found.until("document.querySelectorAll('.sample').length === 2")
    found.key("[")
    found.until("document.querySelector('.board').innerText.includes('Step 1 cannot be read')")
