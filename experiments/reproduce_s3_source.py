"""What AND reports of its last layers: Table 2 of the paper, and the authors' own rerun by similarity function.

From the image of Table 2 and the outputs of the notebook table2_7_last_layer_dissection_accuracy.ipynb, both in
https://github.com/Trustworthy-ML-Lab/Audio_Network_Dissection (commit 5f370c3). (top-1 %, top-5 %, cosine).
"""

from __future__ import annotations

Figures = tuple[float, float, float]

UNITS, CONCEPTS, CLIPS = 50, 50, 2000
"""ESC-50: output units, concepts and clips; drawing names gives 2 % and 10 %."""

TABLE_2: dict[str, dict[str, Figures]] = {
    "ICL": {"AST": (72.0, 60.0, 0.83), "BEATs-finetuned": (52.0, 56.0, 0.68), "BEATs-frozen": (16.0, 16.0, 0.37)},
    "TAB": {"AST": (96.0, 100.0, 0.98), "BEATs-finetuned": (74.0, 92.0, 0.82), "BEATs-frozen": (46.0, 72.0, 0.60)},
    "DB": {"AST": (100.0, 100.0, 1.00), "BEATs-finetuned": (76.0, 100.0, 0.83), "BEATs-frozen": (58.0, 82.0, 0.69)},
}

BY_FUNCTION: dict[str, dict[str, Figures]] = {
    "DB": {
        "cosine": (80.0, 82.0, 0.849),
        "cosine_cubed": (100.0, 100.0, 1.000),
        "rank_reorder": (86.0, 100.0, 0.933),
        "wpmi": (88.0, 100.0, 0.947),
        "soft_wpmi": (2.0, 10.0, 0.236),
    },
    # The notebook gives the sentence encoder each unit's list of five names in place of the first, hence its cosines.
    "TAB": {
        "cosine": (2.0, 16.0, 0.286),
        "cosine_cubed": (92.0, 98.0, 0.784),
        "rank_reorder": (84.0, 92.0, 0.779),
        "wpmi": (96.0, 100.0, 0.793),
        "soft_wpmi": (96.0, 98.0, 0.734),
    },
    "ICL": {"reply": (72.0, 60.0, 0.83)},
}
"""AST; ICL has no similarity function, and its figures are Table 2's."""
