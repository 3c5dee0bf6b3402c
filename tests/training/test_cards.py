"""Model cards say everything or are refused."""

from __future__ import annotations

import numpy as np
import pytest

from nd_jax.training import cards, measures


def _card():
    accuracy = {
        "pitch_exact": measures.proportion(np.arange(20) < 15),
        "left_out_speakers": {"mean": 0.9, "ada": 0.88, "ben": 0.92},
    }
    return {field: f"the {field}" for field in cards.CARD_FIELDS} | {
        "accuracy": accuracy,
        "licence": ["CC0", "CC BY 4.0"],
    }


def test_the_page_holds_every_field(tmp_path):
    text = cards.write_card(_card(), tmp_path).read_text()
    assert "| pitch exact | 75.0 % | 53.1 - 88.8 % | 15 of 20 |" in text
    assert "| left out speakers | mean 90.0 %, ada 88.0 %, ben 92.0 % | | |" in text
    assert "**Licence.** CC0; CC BY 4.0" in text and "**Intended use.** the intended_use" in text


def test_an_incomplete_card_is_refused(tmp_path):
    card = _card() | {"split": ""}
    del card["hardware"]
    with pytest.raises(ValueError, match="the model card lacks split, hardware"):
        cards.write_card(card, tmp_path)


def test_figures_as_text():
    assert cards.accuracy_lines(_card()["accuracy"]) == [
        "pitch_exact: 75.0 % (53.1 to 88.8, 15 of 20)",
        "left_out_speakers: mean 90.0 %, ada 88.0 %, ben 92.0 %",
    ]
