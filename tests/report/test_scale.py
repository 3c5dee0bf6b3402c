"""The atlas of more than a thousand units, made by `nd.report.atlas`, timed by the browser itself.

Bounds are those of the first paint (2 s) and of a search (0.1 s). Times are the best of several, as the machine of a
test is shared; a page that always needs longer fails.
"""

from __future__ import annotations

import json
import re
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax import report
from nd_jax.audio import LogMel as Transform
from nd_jax.domain import LogMel

pytestmark = pytest.mark.browser

UNITS = {"one": 178, "two": 512, "three": 512, "pitch": 40, "family": 10}
DEAD = "dead: no response from 64 starts and 1,024 probing inputs"
PAINT, SEARCH, LONG_TASK = 2000.0, 100.0, 200.0
# Elements of a page that shows a few screens of tiles; one for each of the 1,252 units would be ten thousand.
MOST_NODES = 3000


class Wide(nn.Module):
    """Convolutions with many channels, and two outputs."""

    @nn.compact
    def __call__(self, x, train=False):
        for name in ("one", "two", "three"):
            x = nn.relu(nn.Conv(UNITS[name], (3, 3), strides=(2, 2), name=name)(x))
        x = x.mean((1, 2))
        return {name: nn.Dense(UNITS[name], name=name)(x) for name in ("pitch", "family")}


def written_down(network, layer, random):
    """A result of every unit of a layer, drawn rather than optimised; every 37th unit is dead."""
    domain, count = network.input, UNITS[layer]
    inputs = random.uniform(size=(count, *domain.shape)).astype(np.float32)
    return nd.Visualization(
        network=network,
        domain=domain,
        labels=tuple(f"{layer}:{unit}" for unit in range(count)),
        layers=(layer,) * count,
        units=np.arange(count),
        replicates=np.zeros(count, int),
        inputs=inputs,
        parameters=np.zeros((count, 1), np.float32),
        scores=random.normal(size=count).astype(np.float32),
        history=random.normal(size=(2, count)).astype(np.float32),
        snapshots=np.stack([inputs, inputs]),
        snapshot_steps=(0, 8),
        steps_done=np.full(count, 8),
        status=tuple(DEAD if unit % 37 == 36 else "ok" for unit in range(count)),
        manifest={},
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The same atlas of 1,252 units as a folder and as a single file."""
    domain = LogMel(Transform(sample_rate=2000, n_fft=64, hop_length=32, n_mels=12, f_min=60.0), frames=16)
    module = Wide()
    network = nd.Network(
        module,
        module.init(jax.random.key(0), np.zeros((1, *domain.shape), np.float32)),
        input=domain,
        labels={name: [f"{name} {unit}" for unit in range(UNITS[name])] for name in ("pitch", "family")},
    )
    random = np.random.default_rng(0)
    results = [written_down(network, layer, random) for layer in UNITS]
    waves = 0.1 * random.normal(size=(24, domain.samples)).astype(np.float32)
    found = nd.dissect.exemplars(network, waves, layers=list(UNITS), progress=False)
    found.constant["two"][:9] = True
    base = tmp_path_factory.mktemp("wide")
    folder = report.atlas(results, base / "folder", exemplars=found, title="Wide", progress=False)
    # The files of the page that a folder held are kept, not made again, whatever the form of the next.
    shutil.copytree(base / "folder", base / "single")
    single = report.atlas(results, base / "single", exemplars=found, title="Wide", single_file=True, progress=False)
    return {"folder": folder, "single": single}


@pytest.fixture(params=["folder", "single"])
def atlas(request, driver, opened, wide):
    with opened(driver, wide[request.param]) as page:
        yield page


@pytest.fixture
def page(driver, opened, wide):
    with opened(driver, wide["folder"]) as page:
        yield page


def settled(page, script):
    """Milliseconds from before a script to after the frame that shows what it did, and the longest task meanwhile."""
    return page.driver.execute_async_script(
        """
        const done = arguments[arguments.length - 1], tasks = [];
        const watch = new PerformanceObserver(list => tasks.push(...list.getEntries().map(e => e.duration)));
        watch.observe({type: 'longtask'});
        requestAnimationFrame(() => setTimeout(() => {
          const start = performance.now();
          """
        + script
        + """;
          requestAnimationFrame(() => requestAnimationFrame(() => {
            const took = performance.now() - start;
            setTimeout(() => { watch.disconnect(); done([took, Math.max(0, ...tasks)]); }, 60);
          }));
        }));
        """
    )


def nodes(page):
    return page.run("return document.querySelectorAll('body *:not(script)').length")


def test_the_page_holds_more_than_a_thousand_units(wide):
    text = wide["folder"].read_text(encoding="utf-8")
    index = json.loads(re.search(r'<script type="application/json" id="index">(.*?)</script>', text, re.DOTALL)[1])
    assert sum(len(layer["key"]) for layer in index["layers"]) == sum(UNITS.values()) > 1200
    pictures = list((wide["folder"].parent / index["base"]).glob("*/*.png"))
    assert len(pictures) > 2 * 1200, "a picture and a filmstrip of every unit that is alive"


@pytest.mark.parametrize("where", ["", "#/all", "#/two", "#/two/7"])
def test_first_paint(atlas, where):
    times = []
    for _ in range(4):
        atlas.open(where)
        entries = "performance.getEntriesByName('first-contentful-paint')"
        atlas.until(f"{entries}.length")
        # What was painted is the page itself: its heading is part of the first frame.
        times.append(atlas.run(f"return {entries}[0].startTime"))
        if min(times) < PAINT / 4:
            break
    assert min(times) < PAINT
    assert nodes(atlas) < MOST_NODES


@pytest.mark.parametrize("where", ["#/all", "#/three"])
def test_search(atlas, where):
    total = sum(UNITS.values()) if where == "#/all" else UNITS["three"]
    atlas.open(where)
    typed = "const s = document.getElementById('search'); s.value = '{}'; s.dispatchEvent(new Event('input'))"
    expected = {"pitch 7": ["7"], "three 19": ["19"], "dead": None, "": None}
    for query, tiles in expected.items():
        if where == "#/three" and query.startswith("pitch"):
            continue
        times = []
        for _ in range(10):
            settled(atlas, typed.format("zzz"))
            assert atlas.tiles() == []
            times.append(settled(atlas, typed.format(query))[0])
            if min(times) < SEARCH / 2:
                break
        assert min(times) < SEARCH, query
        if tiles is not None:
            assert atlas.tiles() == tiles
    assert f"{total:,} units" in atlas.run("return document.querySelector('[role=status]').textContent")


def test_search_from_the_overview_opens_all_units(page):
    page.open()
    times = []
    for _ in range(4):
        page.run("location.hash = '#/'")
        page.until("document.querySelector('.layers')")
        script = "const s = document.getElementById('search'); s.value = 'family'; s.dispatchEvent(new Event('input'))"
        times.append(settled(page, script)[0])
        page.until("document.querySelectorAll('.tile').length === 10")
    assert min(times) < 2 * SEARCH, "a whole view is built, not only filtered"


def test_opening_a_layer_blocks_nothing(page):
    page.open()
    found = []
    for _ in range(4):
        page.run("location.hash = '#/'")
        page.until("document.querySelector('.layers')")
        found.append(settled(page, "location.hash = '#/two'"))
        page.until("document.querySelectorAll('.tile').length > 20")
    assert min(task for _, task in found) < LONG_TASK
    assert min(took for took, _ in found) < 2 * LONG_TASK
    assert nodes(page) < MOST_NODES


def test_scrolling_shows_every_unit_and_keeps_the_page_small(page):
    page.open("#/two")
    height = page.run("return document.documentElement.scrollHeight")
    seen, images, longest = set(), 0, []
    for top in range(0, height, 500):
        longest.append(settled(page, f"scrollTo(0, {top})")[1])
        seen |= set(page.tiles())
        images = max(images, page.run("return document.images.length"))
        assert page.run("return document.documentElement.scrollHeight") == pytest.approx(height, abs=2)
        # No part of the window is without its tiles.
        assert page.run(
            "const b = document.querySelector('.tiles').getBoundingClientRect(),"
            " t = [...document.querySelectorAll('.tile')].map(n => n.getBoundingClientRect());"
            "return Math.min(...t.map(r => r.top)) <= Math.max(b.top, 0) + 20"
            " && Math.max(...t.map(r => r.bottom)) >= Math.min(b.bottom, innerHeight) - 20"
        ), top
    assert seen == {str(unit) for unit in range(512)}
    assert images < 400
    assert page.run("return document.querySelectorAll('audio').length") == 1
    assert nodes(page) < MOST_NODES
    assert sorted(longest)[len(longest) // 2] < LONG_TASK


def test_the_keyboard_reaches_what_is_out_of_sight(page):
    page.open("#/two")
    columns = page.run(
        "return getComputedStyle(document.querySelector('.tiles')).gridTemplateColumns.split(' ').length"
    )
    page.key("\ue014")
    page.until("document.activeElement.matches('.face')")
    page.key(*["\ue015"] * 30)
    focused = "document.activeElement.closest('.tile')?.querySelector('b').textContent"
    page.until(f"{focused} === '{30 * columns}'")
    box = page.run("const r = document.activeElement.getBoundingClientRect(); return [r.top, r.bottom, innerHeight]")
    assert 0 <= box[0] < box[1] <= box[2]
    place = page.run("return [...document.activeElement.closest('.tile').attributes].map(a => a.name + '=' + a.value)")
    assert {f"aria-posinset={30 * columns + 1}", "aria-setsize=512"} <= set(place)
    page.key("\ue007")
    page.until("document.querySelector('.unit')")
    page.key("u")
    page.until(f"{focused} === '{30 * columns}'")
    # After scrolling away with the wheel, the arrows go on from the tile that had the focus.
    page.run("scrollTo(0, 0)")
    page.until("document.querySelector('.tile b').textContent === '0'")
    page.key("\ue014")
    page.until(f"{focused} === '{30 * columns + 1}'")


def test_every_width_keeps_its_rows(page):
    page.size(360, 740)
    page.open("#/two")
    page.run("scrollTo(0, 4000)")
    page.until("document.querySelectorAll('.tile').length > 9")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    before = page.run("return document.documentElement.scrollHeight")
    page.size(1280, 800)
    page.until(f"document.documentElement.scrollHeight < {before} / 2")
    page.until("[...document.querySelectorAll('.tile')].some(t => t.getBoundingClientRect().top < innerHeight)")


def test_outputs_stand_side_by_side(page):
    page.open()
    assert page.run("return [...document.querySelectorAll('.layers > li > a h2')].map(n => n.textContent)") == [
        "one",
        "two",
        "three",
    ]
    heads = page.run(
        "return [...document.querySelectorAll('.heads li')].map(n => [n.querySelector('h2').textContent,"
        " n.getBoundingClientRect().top, n.getBoundingClientRect().left])"
    )
    assert [name for name, _, _ in heads] == ["pitch", "family"]
    assert heads[0][1] == heads[1][1]
    assert heads[0][2] < heads[1][2]


def test_dead_and_silent_are_two_states(page):
    page.open()
    numbers = page.run("return [...document.querySelectorAll('.three')].map(n => n.innerText)")
    assert "dead\n13" in numbers[1]
    assert "silent\n9" in numbers[1]
    page.open("#/two")
    assert "13 dead, 9 silent on the 24 probing sounds" in page.run("return document.querySelector('main').innerText")
    chosen = (
        "const s = [...document.querySelectorAll('select')].find(s => [...s.options].some(o => o.value === 'dead'));"
    )
    page.run(chosen + "s.value = 'silent'; s.dispatchEvent(new Event('change'))")
    page.until("document.querySelectorAll('.tile').length === 9")
    assert page.run("return document.querySelectorAll('.tile img').length") == 9, "silent units are drawn"
    page.run(chosen + "s.value = 'dead'; s.dispatchEvent(new Event('change'))")
    page.until("document.querySelectorAll('.tile').length === 13")
    assert page.run("return document.querySelectorAll('.tile img, .tile .face:not(.mute)').length") == 0
    words = page.run("return document.querySelector('.tile .face').innerText")
    assert words.split("\n")[0] == "dead"
    assert "no response from 64 starts" in words
    page.open("#/two/36")
    page.until("document.querySelector('pre')")
    text = page.run("return document.querySelector('main').innerText")
    assert "No response from 64 starts and 1,024 probing inputs" in text or DEAD.capitalize() in text
    assert page.run("return document.querySelectorAll('.big, .play, .strip').length") == 0
    page.open("#/two/3")
    page.until("document.querySelector('.naturals')")
    assert "It may still answer to its optimised sound" in page.run("return document.querySelector('main').innerText")
    page.run("document.getElementById('search').value = ''")
