"""The atlas in a real headless Chromium: opened from the disk, looked at, listened to, typed into."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest

from nd_jax import report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(result, exemplars, tmp_path_factory):
    """The same atlas as a folder, as a single file, and as a sweep that still runs."""
    base = tmp_path_factory.mktemp("pages")
    folder = report.atlas(result, base / "folder", exemplars=exemplars, title="Small", progress=False)
    single = report.atlas(result, base / "single", exemplars=exemplars, title="Small", single_file=True, progress=False)
    running = report.atlas(
        result.select(range(4)),
        base / "running",
        title="Small",
        planned={"one": 12, "two": 4},
        seconds_left=170.0,
        command="make demo",
        progress=False,
    )
    return {"folder": folder, "single": single, "running": running}


def plain_image_result():
    """A result on images, written down rather than optimised."""
    import flax.linen as nn

    import nd_jax as nd
    from nd_jax.domain import Image

    class Dense(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(3, name="units")(x.reshape(len(x), -1))

    module, domain = Dense(), Image((12, 10, 1))
    variables = {"params": {"units": {"kernel": np.zeros((120, 3), np.float32), "bias": np.zeros(3, np.float32)}}}
    return nd.Visualization(
        network=nd.Network(module, variables, input=domain),
        domain=domain,
        labels=("units:0", "units:1", "units:2"),
        layers=("units",) * 3,
        units=np.arange(3),
        replicates=np.zeros(3, int),
        inputs=np.random.default_rng(0).uniform(size=(3, 12, 10, 1)).astype(np.float32),
        parameters=np.zeros((3, 1)),
        scores=np.ones(3, np.float32),
        history=np.zeros((0, 3)),
        snapshots=None,
        snapshot_steps=(),
        steps_done=np.zeros(3, int),
        status=("ok",) * 3,
        manifest={},
    )


@pytest.fixture(params=["folder", "single"])
def atlas(request, driver, pages, opened):
    with opened(driver, pages[request.param]) as page:
        yield page


@pytest.fixture
def page(driver, pages, opened):
    with opened(driver, pages["folder"]) as page:
        yield page


def test_the_network_shows_its_layers(atlas):
    atlas.open()
    assert atlas.run("return [...document.querySelectorAll('.layers h2')].map(n => n.textContent)") == ["one", "output"]
    atlas.until("[...document.querySelectorAll('.mosaic img')].every(i => i.complete && i.naturalWidth > 0)")
    assert "Telling bells from noise" in atlas.run("return document.querySelector('.lead').textContent")
    assert "12" in atlas.run("return document.querySelector('.three').innerText")


def test_a_unit_has_a_link_a_picture_axes_and_natural_sounds(atlas):
    atlas.open("#/one/5")
    assert atlas.run("return document.querySelector('h1').textContent") == "one unit 5"
    atlas.until("document.querySelector('.big img').naturalWidth === 32")
    atlas.until("document.querySelectorAll('.naturals > li').length === 4")
    atlas.until("[...document.querySelectorAll('.naturals img')].every(i => i.naturalWidth === 32)")
    assert atlas.run("return document.querySelectorAll('.naturals .curve path').length") == 4
    labels = atlas.run("return [...document.querySelectorAll('.big .yaxis span')].map(n => n.textContent)")
    assert {"500", "1k", "2k"} <= set(labels)
    text = atlas.run("return document.querySelector('.big').innerText")
    assert "frequency (Hz, mel scale)" in text
    assert "time (s)" in text
    assert "−80 dB" in text
    assert atlas.run("return document.querySelectorAll('.strip .frame').length") == 3
    recipe, command = atlas.run("return [...document.querySelectorAll('pre')].map(n => n.textContent)")
    assert "nd.objectives.channel('one', [5])" in recipe
    assert "explain.py --network NETWORK --sounds FOLDER --unit one:5 --units one --out " in command
    endings = atlas.run("return [...document.querySelectorAll('.files a')].map(a => a.textContent.split(' ')[0])")
    assert endings == ["wav", "npz", "png", "json"]


def test_the_player_plays_with_the_playhead_and_one_sound_at_a_time(atlas):
    atlas.open("#/one/0")
    atlas.until("document.querySelectorAll('.naturals .player button').length >= 8")
    atlas.run("document.querySelector('.play').click()")
    atlas.until("document.getElementById('player').currentTime > 0.1")
    assert atlas.run("return document.querySelector('.play').textContent") == "Stop"
    atlas.until("parseFloat(document.querySelector('.big .head').style.left) > 5")
    assert "played at" in atlas.run("return document.querySelector('.player').innerText")
    before = atlas.run("return document.getElementById('player').src")
    atlas.run("document.querySelectorAll('.naturals .player button')[1].click()")
    atlas.until(f"document.getElementById('player').src !== {json.dumps(before)}")
    atlas.until("document.getElementById('player').currentTime > 0.05")
    assert atlas.run("return document.querySelector('.play').textContent") == "Play"
    assert atlas.run("return document.querySelectorAll('audio').length") == 1
    atlas.until("document.getElementById('player').ended || document.getElementById('player').paused")
    assert atlas.run("return document.querySelector('.big .head').hidden")


def test_pressing_the_picture_plays_from_there(page):
    page.open("#/one/0")
    page.until("document.querySelector('.big img').naturalWidth")
    page.run(
        "const plot = document.querySelector('.big .plot'), box = plot.getBoundingClientRect();"
        "plot.dispatchEvent(new MouseEvent('click', {clientX: box.left + box.width * .6, clientY: box.top + 9}))"
    )
    page.until("document.getElementById('player').currentTime > 0.25")


def test_search_filters_by_number_label_and_reason(atlas):
    atlas.open("#/one")
    assert len(atlas.tiles()) == 12
    atlas.key("/")
    atlas.key("1")
    atlas.until("document.querySelectorAll('.tile').length === 1")
    assert atlas.tiles() == ["1"]
    atlas.key("\ue00c")
    atlas.until("document.querySelectorAll('.tile').length === 12")
    atlas.key("/")
    atlas.key("xyz")
    atlas.until("document.querySelector('.rest').checkVisibility()")
    assert atlas.tiles() == []
    atlas.open()
    atlas.key("/")
    atlas.key("bell")
    atlas.until("location.hash === '#/all'")
    atlas.until("document.querySelectorAll('.tile').length === 1")
    assert atlas.run("return document.querySelector('.tile .name span').textContent") == "bell"


def test_sorting(page):
    page.open("#/one")
    score = page.run(
        "const i = JSON.parse(document.getElementById('index').textContent).layers[0];"
        "return i.unit.map(u => String(u)).sort((a, b) => i.score[b] - i.score[a])"
    )
    sort = (
        "const s = [...document.querySelectorAll('select')].find(s => [...s.options].some(o => o.value === arguments[0]"
        "));"
        "s.value = arguments[0]; s.dispatchEvent(new Event('change'))"
    )
    page.run(sort, "score")
    assert page.tiles() == score
    page.run(sort, "bright")
    assert sorted(page.tiles()) == sorted(score)
    assert page.tiles() != score
    page.run("document.querySelectorAll('.face')[4].focus()")
    chosen = page.tiles()[4]
    page.key("m")
    page.until(f"document.querySelector('.tile .name b').textContent === '{chosen}'")


def test_filter_by_layer(page):
    page.open("#/all")
    assert len(page.tiles()) == 15
    page.run("const s = document.querySelector('select'); s.value = 'output'; s.dispatchEvent(new Event('change'))")
    page.until("document.querySelectorAll('.tile').length === 3")
    assert page.run("return location.hash") == "#/output"


def test_keyboard_only(atlas):
    down, right, enter, left = "\ue015", "\ue014", "\ue007", "\ue012"
    atlas.open("#/one")
    atlas.key(right)
    atlas.until("document.activeElement.matches('.face')")
    atlas.key(right)
    atlas.key(right)
    focused = "document.activeElement.closest('.tile')?.querySelector('b').textContent"
    atlas.until(f"{focused} === '2'")
    atlas.key(down)
    columns = atlas.run(
        "return getComputedStyle(document.querySelector('.tiles')).gridTemplateColumns.split(' ').length"
    )
    if columns <= 9:
        atlas.until(f"{focused} === '{min(2 + columns, 11)}'")
    atlas.key(" ")
    atlas.until("document.querySelector('.face.playing')")
    atlas.until("document.getElementById('player').currentTime > 0")
    atlas.key(enter)
    atlas.until("document.querySelector('.big')")
    number = int(atlas.run("return location.hash.split('/').pop()"))
    atlas.key(left)
    # The address changes before the page does.
    atlas.until(f"document.querySelector('h1').textContent === 'one unit {number - 1}'")
    assert atlas.run("return location.hash") == f"#/one/{number - 1}"
    atlas.key(" ")
    atlas.until("!document.getElementById('player').paused")
    atlas.key("u")
    atlas.until("document.querySelectorAll('.tile').length === 12")
    # Focus returns to the unit one came from.
    atlas.until(f"{focused} === '{number - 1}'")
    atlas.key("?")
    atlas.until("document.getElementById('help').checkVisibility()")
    atlas.key("\ue00c")
    atlas.until("!document.getElementById('help').checkVisibility()")


def test_space_plays_the_tile_under_the_pointer(page):
    from selenium.webdriver.common.action_chains import ActionChains

    page.open("#/one")
    tile = page.driver.find_elements("css selector", ".face:not(.mute)")[3]
    ActionChains(page.driver).move_to_element(tile).perform()
    page.key(" ")
    page.until("document.querySelector('.face.playing')")
    assert page.run("return document.querySelector('.face.playing') === arguments[0]", tile)
    assert tile.get_attribute("aria-pressed") == "true"
    page.until("document.getElementById('player').currentTime > 0")
    page.key(" ")
    page.until("document.getElementById('player').paused")


def test_tiles_are_buttons_with_names(page):
    page.open("#/one")
    names = page.run("return [...document.querySelectorAll('.face')].map(f => f.getAttribute('aria-label'))")
    assert all(name.startswith(("Play one unit", "Open one unit")) and "score" in name for name in names)
    unnamed = page.run(
        "return [...document.querySelectorAll('button, a, input, select, img')].filter(n => !("
        "n.getAttribute('aria-label') || n.textContent.trim() || n.hasAttribute('alt') || n.closest('label'))).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("where", ["", "#/one", "#/all", "#/one/3", "#/output/1", "#/nowhere"])
def test_phone_width_has_no_sideways_scroll(page, where):
    page.size(360, 740)
    page.open(where)
    page.until("document.readyState === 'complete'")
    if where.count("/") == 2:
        page.until("document.querySelector('pre')")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    if where == "#/one":
        tops = page.run("return [...document.querySelectorAll('.tile')].map(t => t.getBoundingClientRect().top)")
        assert tops.count(tops[0]) == 3


CONTRAST = """
const parse = c => c.match(/[\\d.]+/g).map(Number);
const light = c => {
  const [r, g, b] = c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const ground = n => { for (; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
let worst = 99, who = '';
for (const n of document.querySelectorAll('body *')) {
  if (![...n.childNodes].some(k => k.nodeType === 3 && k.textContent.trim()) || !n.checkVisibility()) continue;
  if (n.closest('.sr, .skip, :disabled, [aria-disabled=true], script, style')) continue;
  const a = light(parse(getComputedStyle(n).color)), b = light(ground(n));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < worst) { worst = ratio; who = n.className + ': ' + n.textContent.slice(0, 40); }
}
return [worst, who];
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("where", ["", "#/one", "#/one/3"])
def test_contrast_in_both_themes(page, theme, where):
    page.prefer(theme)
    page.open(where)
    if where.count("/") == 2:
        page.until("document.querySelector('pre')")
    page.run("document.getElementById('help').hidden = false")
    worst, who = page.run(CONTRAST)
    assert worst >= 4.5, who


def test_the_theme_follows_the_system_until_it_is_chosen(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    page.prefer("dark")
    page.open("#/one")
    page.run("localStorage.clear()")
    page.open("#/one")
    assert page.run(f"return {ground}") == "rgb(13, 11, 18)"
    assert page.run("return getComputedStyle(document.querySelector('img.map')).filter") == "none"
    page.key("t")
    page.until(f"{ground} === 'rgb(255, 255, 255)'")
    assert "paper" in page.run("return getComputedStyle(document.querySelector('img.map')).filter")
    page.open("#/one/1")
    assert page.run(f"return {ground}") == "rgb(255, 255, 255)", "the choice is remembered"
    page.run("localStorage.clear()")


def test_the_light_map_in_the_browser_is_the_light_map(page, domain, result):
    """The PNG files are magma; the filter of the page must turn them into the colours that `pictures.pixels` gives."""
    import io

    from PIL import Image

    from nd_jax.report import pictures

    page.prefer("light")
    page.open("#/one/2")
    page.until("document.querySelector('.big img').naturalWidth")
    page.run(
        "const i = document.querySelector('.big img');"
        "document.body.replaceChildren(document.querySelector('.filters'), i);"
        "i.style.cssText = 'position:fixed;left:0;top:0;width:320px;height:240px'"
    )
    time.sleep(0.3)
    seen = np.asarray(Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB"))
    expected = pictures.pixels(domain.picture(result.inputs[result.find("one:2")]), "light")
    difference = np.abs(seen[5:240:10, 5:320:10].astype(int) - expected)
    assert difference.max() <= 8
    assert difference.mean() <= 2


@pytest.mark.parametrize("where", ["", "#/output", "#/output/1", "#/output/2", "#/one/0"])
def test_hostile_labels_are_text(atlas, where):
    atlas.open(where)
    if where.count("/") == 2:
        atlas.until("document.querySelectorAll('.naturals h3').length")
    time.sleep(0.2)
    assert "pwned" not in atlas.run("return document.title").replace("document.title='pwned'", "")
    assert atlas.run("return document.querySelectorAll('img[onerror], main script, nav script').length") == 0
    if where == "#/output/1":
        assert "<img src=x onerror" in atlas.run("return document.querySelector('h1').textContent")


def test_pictures_are_drawn_large_with_their_axes_beside_them(driver, pages, opened, tmp_path):
    """A spectrogram fills its panel; an image keeps its aspect."""
    image = plain_image_result()
    drawn = {"folder": ("#/one/5", None), "image": ("#/units/2", 10 / 12)}
    paths = {"folder": pages["folder"], "image": report.atlas(image, tmp_path, progress=False)}
    for name, (where, aspect) in drawn.items():
        with opened(driver, paths[name]) as page:
            page.open(where)
            page.until("document.querySelector('.big img').naturalWidth")
            box = "(s => { const b = document.querySelector(s).getBoundingClientRect(); return [b.width, b.height] })"
            width, height = page.run(f"return {box}('.big img')")
            assert width > 300
            assert height > 200
            assert aspect is None or abs(width / height - aspect) < 0.02
            assert page.run(f"return {box}('.big .xaxis')")[0] == pytest.approx(width, abs=1)
            assert page.run(f"return {box}('.big .yaxis')")[1] == pytest.approx(height, abs=1)


def test_inputs_made_together_are_heard_and_seen(driver, opened, result, tmp_path):
    few, other = result.select(range(3)), result.select([3, 4, 5])
    made = dataclasses.replace(
        few,
        inputs=np.stack([few.inputs, other.inputs], axis=1),
        snapshots=np.stack([few.snapshots, other.snapshots], axis=2),
        history=np.stack([few.history, other.history], axis=2),
        scores=np.stack([few.scores, few.scores - 1], axis=1),
    )
    with opened(driver, report.atlas(made, tmp_path, progress=False)) as page:
        page.open("#/one/1")
        page.until("document.querySelectorAll('.others img').length === 1")
        page.until("document.querySelector('.others img').naturalWidth === 32")
        page.run("document.querySelector('.others button').click()")
        page.until("document.getElementById('player').currentTime > 0.05")
        assert "2 were made together" in page.run("return document.querySelector('main').innerText")


def test_a_page_whose_pictures_are_gone_says_so(driver, browsed, result, tmp_path):
    path = report.atlas(result.select(range(3)), tmp_path, progress=False)
    for picture in tmp_path.rglob("*.png"):
        picture.unlink()
    page = browsed(driver, path).open("#/one")
    page.until("document.getElementById('stale')")
    assert "written anew" in page.run("return document.getElementById('stale').innerText")
    page.open("#/one/1")


def test_unknown_places_say_so(page):
    page.open("#/one/99")
    assert "There is no layer or unit" in page.run("return document.querySelector('main').innerText")


def test_a_running_sweep(driver, pages, opened):
    with opened(driver, pages["running"]) as page:
        page.open()
        text = page.run("return document.querySelector('main').innerText")
        assert "4 of 16 units, about 3 min left" in text
        assert "make demo" in text
        assert "Not computed yet" in text
        page.open("#/one")
        assert "8 more units of this layer not computed yet" in page.run("return document.body.innerText")
        page.open("#/one/1")
        page.until("document.querySelector('pre')")
        assert "None were given" in page.run("return document.body.innerText")


def test_copying_the_call(page):
    page.driver.execute_cdp_cmd(
        "Browser.setPermission", {"permission": {"name": "clipboard-write"}, "setting": "granted"}
    )
    page.open("#/one/3")
    page.until("document.querySelector('.call button')")
    page.run("document.querySelector('.call button').click()")
    page.until("document.querySelector('.call button').textContent === 'Copied'")
