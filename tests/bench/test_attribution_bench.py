"""The chapter on attribution: what is planted, what passes, and what must not."""

from __future__ import annotations

import json

import chex
import jax
import numpy as np
import pytest

from nd_jax.bench import attribution, attribution_networks, attribution_scores, attribution_segments, attribution_sounds
from nd_jax.bench.attribution_methods import WRONG
from nd_jax.experiments import truth_bench

SIZE = attribution_sounds.QUICK


@pytest.fixture(scope="module")
def planted():
    return attribution.case(jax.random.key(4), SIZE)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attribution")
    chosen = ["--quick", "--chapters", "attribution", "--seeds", "4", "--out", str(folder)]
    assert truth_bench.main(chosen) == 0
    return folder, json.loads((folder / "figures.json").read_text())["chapters"]["attribution"]


def test_boxes_hold_the_events_and_their_level_is_as_stated(planted):
    clips, _ = planted
    domain = SIZE.domain()
    for x, box, span in zip(clips.inputs[..., 0], clips.boxes[:, 0], clips.spans[:, 0], strict=True):
        levels, bands, frames = domain.to_db(x), box.any(axis=1), box.any(axis=0)
        beside = levels[bands][:, ~attribution_scores.dilated(box, (0, 2)).any(axis=0)]
        assert levels[box].mean() - beside.mean() == pytest.approx(SIZE.above_db, abs=3.0)
        assert frames.sum() == pytest.approx((span[1] - span[0]) / domain.seconds_per_frame, abs=1.0)
        assert SIZE.event_bands[0] <= bands.sum() <= SIZE.event_bands[1]
    assert SIZE.window[0] <= SIZE.event_bands[0] / 4 and SIZE.window[1] <= SIZE.event_frames[0] / 4


@pytest.mark.parametrize("name", attribution_networks.NAMES)
def test_networks_look_into_the_box_and_nowhere_else(planted, name):
    clips, nets = planted
    own = np.arange(len(clips.inputs)), clips.kinds[:, 0]
    network, box = nets[name].network, clips.boxes[:, 0, ..., None]
    whole, alone, without = (
        np.asarray(network(x))[own]
        for x in (clips.inputs, np.where(box, clips.inputs, 0), np.where(box, 0, clips.inputs))
    )
    assert whole.min() > 0.5 * attribution_networks.LOGIT
    assert np.abs(without).max() < 0.06 * whole.min(), "nothing is heard where the event is silent"
    # A template minds what sounds beside the event; it does not live on it.
    assert np.all(alone >= whole * 0.93)


def test_an_ideal_detector_hears_its_own_box(planted):
    clips, _ = planted
    answers = np.asarray(attribution_networks.ideal(clips, SIZE)(clips.inputs))
    want = np.sum(clips.inputs[..., 0] * clips.boxes[:, 0], axis=(1, 2))
    chex.assert_trees_all_close(np.diag(answers), want, rtol=1e-5)


def test_occlusion_is_true_and_what_is_spoilt_is_not(run):
    _, figures = run
    rows = {(row["network"], row["method"]): row for row in figures["rows"]}
    for network in ("cells", "saturated"):
        assert rows[network, "occlusion"]["true"]
        assert np.mean(rows[network, "occlusion"]["pointing"]) == 1.0
        for title in WRONG:
            assert not rows[network, title]["true"], f"{title} passes on {network}"
            assert np.mean(rows[network, title]["relative"]) < 0.7
    assert rows["cells", "saliency"]["true"] and not rows["saturated", "saliency"]["true"]
    assert rows["cells", "Grad-CAM"]["chance"]["p"] == 0.001


def test_redundancy_is_flagged_where_either_cue_is_enough_and_nowhere_else(run):
    _, figures = run
    cues = {cue["rule"]: cue for cue in figures["cues"]}
    assert all(cues["either"]["flagged"]) and all(cues["either"]["named"])
    assert not any(cues["both"]["flagged"]) and not any(cues["one"]["flagged"])
    assert max(cues["either"]["occlusion"]) == 0.0, "plain occlusion sees nothing at all"
    assert min(cues["either"]["alone"]) > 0.9


def test_bars_page_and_segments(run):
    folder, figures = run
    page = (folder / "index.html").read_text()
    for words in ("Mass in the box over that of an ideal detector", "Segments of 100 ms", "Two cues", "<image "):
        assert words in page
    assert "<script" not in page
    bars = {bar["what"]: bar for bar in figures["bars"]}
    assert bars["spoilt maps that pass"]["met"] and bars["cells: pointing game of occlusion"]["met"]
    areas = {row["method"]: np.mean(row["area"]) for row in figures["segments"]}
    assert areas["segments, one at a time"] > 0.95 and areas["segments at random, linear surrogate"] > 0.9
    assert areas["wrong: noise"] < 0.8


def test_segments_are_labelled_by_how_much_of_them_is_the_class():
    kinds, spans = np.asarray([[1, 1, 0]]), np.asarray([[[0.2, 0.41], [1.005, 1.2], [0.5, 0.9]]])
    clips = attribution_sounds.Clips(np.zeros((1, 2, 200, 1)), kinds, spans, np.zeros((1, 3, 2, 200), bool))
    found = attribution_segments.labels(clips)[0]
    want = np.zeros(20)
    want[[2, 3, 10, 11]] = 1
    want[4] = -1
    chex.assert_trees_all_equal(found, want.astype(found.dtype))


def test_log_odds():
    logits = np.asarray([[1.0, -2.0, 0.5]], np.float32)
    share = np.exp(logits) / np.exp(logits).sum()

    class Same(attribution_networks.nn.Module):
        def __call__(self, x):
            return x

    found = attribution_segments.LogOdds(Same()).apply({}, logits)
    chex.assert_trees_all_close(np.asarray(found), np.log(share / (1 - share)), rtol=1e-5)
