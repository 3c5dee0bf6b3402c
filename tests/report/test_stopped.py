"""Lanes that stopped early, and strengths: the page says so, and its call makes the unit again."""

import json

import chex
import jax

import nd_jax as nd
from nd_jax import report


def test_the_page_says_why_a_lane_stopped_and_repeats_it(network, tmp_path, monkeypatch):
    made = nd.visualize_batch(
        network,
        nd.objectives.channel("two", [2, 0]),
        key=jax.random.key(9),
        steps=60,
        snapshots=2,
        penalties=[nd.penalties.silence(0.01)],
        transforms=[nd.transforms.time_shift(0.01)],
        strengths=[2.0, 0.5],
        stop_when=nd.visualize.converged(tolerance=0.5, rough=0.9, window=4),
        progress=False,
    )
    assert made.stopped[0] == "converged" and made.steps_done[0] < 60
    report.atlas(made, tmp_path, source="x", progress=False)
    (path,) = tmp_path.rglob("00-two*.js*")
    text = path.read_text()
    entry = json.loads(text[text.index("{") : text.rindex("}") + 1])["units"]["2"]
    assert entry["stopped"] == "converged"
    assert entry["steps"] == int(made.steps_done[0])
    assert "strengths=[2.0, 0.5]" in entry["call"]
    monkeypatch.setattr(nd, "load", lambda path: network, raising=False)
    names: dict = {}
    exec(entry["call"], names)
    chex.assert_trees_all_equal(names["result"].inputs[0], made.inputs[0])
