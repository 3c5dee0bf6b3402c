"""The rows of Table 2: what the clips have of each concept by DB, TAB and ICL, and how true the labels then are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax import proportions
from nd_jax.data import Clips
from nd_jax.dissect.acoustic_captions import WORDS
from nd_jax.report.sheets import drafted

STRONGEST = 5
"""AND's K: the clips that stand for a unit."""
NAMED, MEASURED = "the class's name", "measured"
DESCRIBED = "measured; concepts described by captions of other folds"
"""Sources of captions."""
_A_BATCH = 16
_DRAWS = 2000

Encode = Callable[[Sequence[str]], nd.dissect.TextEncoder]
"""Gives an encoder for texts like these; TF-IDF counts them, others know them already."""


@dataclasses.dataclass(frozen=True, eq=False)
class Probing:
    """What is dissected.

    Attributes:
      activations: (clips, units) of the last layer.
      labels: the class that each unit stands for.
      names: of the clips.
      classes: of the data set.
      category: (clips,), their numbers.
      fold: (clips,).
      clips: the sounds.
      measured: their acoustic captions.
    """

    activations: np.ndarray
    labels: tuple[str, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    category: np.ndarray
    fold: np.ndarray
    clips: Clips
    measured: nd.dissect.Captions

    def truth(self, concepts: nd.dissect.ConceptSet) -> list[str | None]:
        """The concept of each unit, None of units whose class is not among them."""
        known = {_plain(name): name for name in concepts.names}
        return [known.get(_plain(label)) for label in self.labels]


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A way to name units.

    Attributes:
      method: "DB", "TAB" or "ICL".
      captions: what was said about the clips.
      encoder: what compared it with the concepts.
      rows: (n,), the clips that count.
      scores: (n, concepts), what they have of each; None of ICL.
      names: ICL's answers.
    """

    method: str
    captions: str
    encoder: str
    rows: np.ndarray
    scores: np.ndarray | None = None
    names: tuple[tuple[str, ...], ...] = ()


def chance(concepts: int) -> dict[str, float]:
    """What drawing five different names gives."""
    return {"top1": 1 / concepts, "top5": min(5, concepts) / concepts}


def figures(found: nd.dissect.LastLayer) -> dict[str, Any]:
    """Top-1 and top-5 with Wilson's 95 % interval, the cosine with a bootstrap's, both over units; JSON-ready."""
    told: dict[str, Any] = {"units": found.units}
    for name, share in (("top1", found.top1), ("top5", found.top5)):
        told[name] = proportions.proportion(np.arange(found.units) < round(share * found.units))
    told["cosine"] = None
    if found.cosines is not None:
        each = np.asarray(found.cosines)
        draws = each[np.random.default_rng(0).integers(0, len(each), (_DRAWS, len(each)))].mean(axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        told["cosine"] = {"value": round(float(each.mean()), 4), "low": round(low, 4), "high": round(high, 4)}
    return told


def scored_row(
    row: Row, probing: Probing, concepts: nd.dissect.ConceptSet, encode_names: Encode | None
) -> dict[str, Any]:
    """A row with its figures by every function, and what it called each unit; JSON-ready."""
    truth = probing.truth(concepts)
    encoder = None if encode_names is None else encode_names(concepts.texts)
    if row.scores is None:
        predictions = {"reply": row.names}
    else:
        found = nd.dissect.closed_set(probing.activations[row.rows], row.scores, concepts.names)
        units = range(len(probing.labels))
        predictions = {name: tuple(found.names(name, unit) for unit in units) for name in found.top}
    return {
        "method": row.method,
        "captions": row.captions,
        "encoder": row.encoder,
        "clips": len(row.rows),
        "functions": {
            name: figures(nd.dissect.last_layer_of_names(names, truth, encoder)) for name, names in predictions.items()
        },
        "called": {name: [list(each) for each in names] for name, names in predictions.items()},
    }


# --- DB --------------------------------------------------------------------------------------------------------------


def database_rows(
    probing: Probing,
    concepts: nd.dissect.ConceptSet,
    rows: np.ndarray,
    encoder: str,
    encode: Encode,
    captions: pathlib.Path | None = None,
) -> list[Row]:
    """DB by one text encoder, from every source of captions there is.

    Args:
      probing: what is dissected.
      concepts: that units may be called.
      rows: (n,), the clips that count.
      encoder: its name.
      encode: makes it.
      captions: a file of captions of one's own.
    """
    made = [
        Row("DB", NAMED, encoder, rows, class_scores(probing, concepts, encode)[probing.category[rows]]),
        _of_captions(probing.measured, MEASURED, concepts, rows, encoder, encode),
    ]
    if set(concepts.names) == set(probing.classes):
        made.append(_described(probing, concepts, rows, encoder, encode))
    if captions is not None:
        own = nd.dissect.captions_of(probing.names, captions)
        made.append(_of_captions(own, captions.name, concepts, rows, encoder, encode))
    return made


def class_scores(probing: Probing, concepts: nd.dissect.ConceptSet, encode: Encode) -> np.ndarray:
    """DB's scores (classes, concepts) of clips whose caption is the name of their class."""
    told = [name.replace("_", " ") for name in probing.classes]
    encoder = encode([*told, *concepts.texts])
    return nd.dissect.db_scores(encoder.encode(told), encoder.encode(list(concepts.texts)))


def _of_captions(
    captions: nd.dissect.Captions,
    source: str,
    concepts: nd.dissect.ConceptSet,
    rows: np.ndarray,
    encoder: str,
    encode: Encode,
) -> Row:
    found = encode([*(text for texts in captions.texts for text in texts), *concepts.texts])
    scores = nd.dissect.db_scores(captions.embed(found), found.encode(list(concepts.texts)))
    counted = np.isin(captions.rows, rows)
    if not counted.any():
        raise ValueError(f"none of {len(rows)} clips has a caption in {source}")
    return Row("DB", source, encoder, captions.rows[counted], scores[counted])


def _described(
    probing: Probing, concepts: nd.dissect.ConceptSet, rows: np.ndarray, encoder: str, encode: Encode
) -> Row:
    """Measured captions, and in place of each concept's name the mean of the captions of its clips in other folds."""
    found = encode([text for texts in probing.measured.texts for text in texts])
    embedded = probing.measured.embed(found)
    has = probing.measured.rows
    scores = np.zeros((len(probing.names), len(concepts)), np.float32)
    for fold in np.unique(probing.fold):
        inside, outside = probing.fold[has] == fold, probing.fold[has] != fold
        means = []
        for name in concepts.names:
            mine = outside & (probing.category[has] == probing.classes.index(name))
            if not mine.any():
                raise ValueError(f"no clip outside fold {fold} is of class {name!r}, so nothing describes it")
            means.append(embedded[mine].mean(axis=0))
        scores[has[inside]] = nd.dissect.db_scores(embedded[inside], np.stack(means))
    counted = rows[np.isin(rows, has)]
    return Row("DB", DESCRIBED, encoder, counted, scores[counted])


# --- TAB, ICL --------------------------------------------------------------------------------------------------------


def tab_row(
    probing: Probing,
    concepts: nd.dissect.ConceptSet,
    rows: np.ndarray,
    clap: Any,
    folder: pathlib.Path,
    kept: pathlib.Path,
    progress: bool = False,
) -> Row:
    """TAB by an encoder of texts and sounds, whose embeddings of the sounds are kept in a file as they are made."""
    sounds = _heard(probing, clap, folder, kept, progress)
    scores = nd.dissect.tab_scores(sounds[rows], clap.encode(list(concepts.texts)))
    return Row("TAB", "none: the sounds themselves", f"CLAP {folder.name}", rows, scores)


def _heard(probing: Probing, clap: Any, folder: pathlib.Path, kept: pathlib.Path, progress: bool) -> np.ndarray:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    model = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    mark = hashlib.sha256(f"{hash_of(probing.clips)} {model}".encode()).hexdigest()
    done: list[np.ndarray] = []
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as file:
            done = list(file["rows"]) if str(file["mark"]) == mark else []
    count = len(probing.clips)
    with nd.runtime.progress_bar(count, "sound", progress) as tick:
        tick(len(done))
        while len(done) < count:
            part = range(len(done), min(len(done) + _A_BATCH, count))
            done += list(clap.encode_sounds([probing.clips.wave(clip) for clip in part], probing.clips.sample_rate))
            with drafted(kept) as draft, open(draft, "wb") as file:
                np.savez(file, rows=np.stack(done), mark=mark)
            tick(len(part))
    return np.stack(done)


def icl_row(
    probing: Probing,
    concepts: nd.dissect.ConceptSet,
    rows: np.ndarray,
    model: nd.dissect.LanguageModel,
    encode: Encode,
    captions: pathlib.Path | None = None,
    progress: bool = False,
) -> Row:
    """ICL: the language model is given the captions of each unit's five strongest clips, and asked for five names."""
    told = probing.measured if captions is None else nd.dissect.captions_of(probing.names, captions)
    counted = rows[np.isin(rows, told.rows)]
    if not len(counted):
        raise ValueError("ICL needs captions, and no clip has one")
    best = np.argsort(-probing.activations[counted], axis=0, kind="stable")[:STRONGEST]
    summaries = [
        " ".join(f"Clip {place + 1}: {told.texts[clip][0]}." for place, clip in enumerate(counted[column]))
        for column in best.T
    ]
    encoder = encode([*concepts.texts, *(f"This is an audio about {text}" for text in concepts.texts)])
    answers = min(5, len(concepts))
    names = nd.dissect.icl_labels(model, summaries, concepts.names, encoder, answers=answers, progress=progress)
    source = MEASURED if captions is None else captions.name
    return Row("ICL", f"{source}, of the {STRONGEST} strongest clips", model.model, counted, None, tuple(names))


# --- what all need ---------------------------------------------------------------------------------------------------


def measured_captions(clips: Clips, names: Sequence[str], kept: pathlib.Path, progress: bool) -> nd.dissect.Captions:
    """Acoustic captions of clips, from the file `kept` when the same clips have been described by the same words."""
    mark = hash_of(clips)
    if kept.is_file():
        held = json.loads(kept.read_text(encoding="utf-8"))
        if held.get("clips") == mark and list(held.get("captions", {})) == list(names):
            return nd.dissect.captions_of(names, {name: tuple(texts) for name, texts in held["captions"].items()})
    waves = [clips.wave(clip) for clip in range(len(clips))]
    found = nd.dissect.acoustic_captions(waves, clips.sample_rate, names=names, progress=progress)
    told = {"clips": mark, "captions": dict(zip(found.clips, found.texts, strict=True))}
    with drafted(kept) as draft:
        draft.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def hash_of(clips: Clips) -> str:
    """Sixteen hexadecimal digits that change with any sample, and with the words of the captioner."""
    found = hashlib.sha256(f"{clips.sample_rate} {WORDS}".encode())
    for wave in clips.waves:
        found.update(np.ascontiguousarray(wave).tobytes())
    return found.hexdigest()[:16]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
