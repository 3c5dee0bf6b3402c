"""Stages of `experiments/dissect.py` between the record and the pages: captions, scores, labels, answers, tuning."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import nd_jax as nd
from nd_jax import audio
from nd_jax.dissect import FUNCTIONS, Captions, ConceptSet, Labels, LayerLabels, Measures
from nd_jax.dissect.encoders import CLAP_RATE
from nd_jax.dissect.language import LanguageModelError
from nd_jax.experiments.dissect_marks import Marks, digest_of
from nd_jax.experiments.dissect_sounds import Heard
from nd_jax.network import digest
from nd_jax.runtime import nearest, progress_bar
from nd_jax.visualize.result import slug

if TYPE_CHECKING:
    from nd_jax.experiments.dissect import Settings

ACOUSTIC, FOLDERS, TFIDF = "acoustic", "folders", "tfidf"
_QUICK = {"tones_per_octave": 3, "levels": (-60.0, -40.0, -20.0), "carriers": 1, "noises": 32}
_A_BATCH = 16


def check_words(settings: Settings) -> None:
    """Refuses captions, encoders and functions that are not there, before anything runs."""
    if settings.captions == FOLDERS and settings.sounds is None:
        raise ValueError("captions from folders are for a folder of sounds: give it with --sounds")
    if settings.captions == FOLDERS and settings.sounds is not None and settings.sounds.is_dir():
        if not any(path.suffix.lower() in audio.READABLE_SUFFIXES for path in settings.sounds.glob("*/**/*")):
            raise ValueError(f"no clip lies in a folder below {settings.sounds}, so folders cannot be the captions")
    if settings.captions not in (ACOUSTIC, FOLDERS):
        nd.dissect.read_captions(settings.captions)
        if settings.sounds is None:
            raise ValueError("captions are of sound files: give their folder with --sounds")
        if settings.concepts is None:
            raise ValueError("with captions of your own give --concepts: esc50, urbansound8k, gtzan or a file")
    for folder in (settings.encoder if settings.encoder != TFIDF else None, settings.clap):
        if folder is not None and not (pathlib.Path(folder).expanduser() / "config.json").is_file():
            raise ValueError(f"there is no model at {folder}: give a folder with config.json, weights and tokenizer")
    measured = settings.concepts in (None, ACOUSTIC) and settings.captions == ACOUSTIC
    if settings.encoder == TFIDF and (settings.model is not None or not measured):
        # Whether it is installed is better known now than after everything is recorded.
        nd.dissect.TfIdf(["words"])
    if settings.model is not None:
        nd.dissect.LanguageModel(settings.model, settings.out, settings.endpoint)
    for name in (*settings.functions, *filter(None, [settings.function])):
        if name not in FUNCTIONS:
            raise ValueError(f"no function {name!r}; {nearest(name, FUNCTIONS)}")
    if settings.function and settings.functions and settings.function not in settings.functions:
        raise ValueError(f"{settings.function} is to name units, so it must be among the functions")


def concepts_of(settings: Settings) -> ConceptSet | None:
    """The concepts that are asked about; None for the names of the clips' folders, which are not known yet."""
    if settings.concepts is None and settings.captions == FOLDERS:
        return None
    if settings.concepts in (None, ACOUSTIC):
        return nd.dissect.ACOUSTIC_CONCEPTS
    found = nd.dissect.concept_set(settings.concepts)
    if settings.captions == ACOUSTIC and settings.clap is None:
        print("      measured captions say how a clip sounds, not what it is: for labels of this kind give --captions")
    return found


def folders_as_concepts(heard: Heard) -> ConceptSet:
    """The names of the folders that clips lie in.

    Raises:
      ValueError: no clip lies in a folder of its own.
    """
    names = sorted({pathlib.PurePath(clip).parent.name for clip in heard.record.clips} - {""})
    if not names:
        raise ValueError("no clip lies in a folder below the one given, so folders cannot be the captions")
    return ConceptSet("folders", tuple(names), tuple(range(len(names))))


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
    """What is said about the clips.

    Attributes:
      captions: of all clips.
      measures: of every clip that could be measured, {number of the clip: measures}; {} where nothing was measured.
    """

    captions: Captions
    measures: Mapping[int, Measures]


def captions_of(heard: Heard, settings: Settings, kept: pathlib.Path) -> Told:
    """Captions of all clips: read, from folders, or measured, which is kept clip by clip.

    Raises:
      ValueError: as `nd_jax.dissect.captions_of`.
    """
    clips = heard.record.clips
    measures: dict[int, Measures] = {}
    skipped: dict[str, str] = {}
    if ACOUSTIC in (settings.captions, settings.concepts):
        measures, skipped = _measured(heard, kept / "captions.jsonl")
    if settings.captions == ACOUSTIC:
        texts = tuple((nd.dissect.describe(measures[row]),) if row in measures else () for row in range(len(clips)))
        told = Captions(clips, texts, skipped)
    elif settings.captions == FOLDERS:
        places = [pathlib.PurePath(clip).parent.name for clip in clips]
        missing = {clip: "it lies in no folder" for clip, place in zip(clips, places, strict=True) if not place}
        told = Captions(clips, tuple((place.replace("_", " "),) if place else () for place in places), missing)
    else:
        told = nd.dissect.captions_of(clips, settings.captions)
    print(f"      {len(told.rows)} of {len(clips)} clips have captions" + "".join(_first(told)))
    return Told(told, measures)


def _first(told: Captions) -> list[str]:
    return [f', such as "{told.texts[row][0]}"' for row in told.rows[:1]]


def _measured(heard: Heard, path: pathlib.Path) -> tuple[dict[int, Measures], dict[str, str]]:
    """Measures of the clips; what is in the file already, known by content and length, is not measured again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                one = json.loads(line)
                known[one["clip"]] = one
            except (ValueError, KeyError, TypeError):
                # The line that a kill cut off.
                continue
    measures: dict[int, Measures] = {}
    skipped: dict[str, str] = {}
    with open(path, "a", encoding="utf-8") as file, progress_bar(len(heard.record.clips), "clip measured") as tick:
        # What a kill left of a line ends there.
        file.write("" if path.read_bytes().endswith(b"\n") else "\n")
        for row, content in enumerate(heard.record.hashes):
            name = f"{content}-{heard.samples}-{heard.sample_rate}"
            if name not in known:
                known[name] = _one(heard, row, name)
                file.write(json.dumps(known[name]) + "\n")
                file.flush()
            one = known[name]
            if "why" in one:
                skipped[heard.record.clips[row]] = one["why"]
            else:
                measures[row] = Measures(**{key: _pair(value) for key, value in one["measures"].items()})
            tick(1)
    return measures, skipped


def _one(heard: Heard, row: int, name: str) -> dict[str, Any]:
    try:
        found = nd.dissect.measure(*heard.native(row))
    except ValueError as error:
        return {"clip": name, "why": str(error)}
    return {"clip": name, "measures": dataclasses.asdict(found)}


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def frequent(concepts: ConceptSet, told: Told, settings: Settings) -> tuple[ConceptSet, dict[str, str]]:
    """Measured concepts without those that hardly any clip has, or hardly any has not, and the reasons.

    A unit's strongest clip is one of few by chance too often, so such a concept could name a unit and never be above
    chance.
    """
    if concepts is not nd.dissect.ACOUSTIC_CONCEPTS or not told.measures:
        return concepts, {}
    scores = nd.dissect.acoustic_scores(list(told.measures.values()))
    counts = [int(column.sum()) for column in scores.T]
    few, many = settings.top, len(scores) - settings.top
    kept = [place for place, count in enumerate(counts) if few <= count <= many]
    if not kept:
        return concepts, {}
    left = {
        f"concept {name}": f"had by {counts[place]} of {len(scores)} clips"
        for place, name in enumerate(concepts.names)
        if place not in kept
    }
    names, ids = (tuple(each[place] for place in kept) for each in (concepts.names, concepts.ids))
    return ConceptSet(concepts.name, names, ids), left


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """What some clips have of each concept.

    Attributes:
      clips: (n,) their numbers.
      values: (n, concepts).
      made: how, in words.
    """

    clips: np.ndarray
    values: np.ndarray
    made: str


def scores_of(
    heard: Heard, told: Told, concepts: ConceptSet, settings: Settings, marks: Marks
) -> tuple[dict[str, Scores], Any]:
    """{source: scores}, and the encoder of texts."""
    texts = list(concepts.texts)
    encoder = _Encoder(settings, told.captions, texts)
    found = {}
    if settings.concepts in (None, ACOUSTIC) and told.measures:
        rows = np.array(sorted(told.measures), int)
        values = nd.dissect.acoustic_scores([told.measures[row] for row in rows])[:, list(concepts.ids)]
        found["measured"] = Scores(rows, values, "from each clip's own sound")
    elif len(told.captions.rows):
        values = nd.dissect.db_scores(told.captions.embed(encoder), encoder.encode(texts))
        kind = {ACOUSTIC: "measured captions", FOLDERS: "names of folders"}.get(settings.captions, "captions")
        found["DB"] = Scores(told.captions.rows, values, f"{kind}, {_called(settings.encoder)}")
    folder = settings.clap or (pathlib.Path(settings.encoder) if encoder.is_clap else None)
    if folder is not None:
        clap = nd.dissect.Clap(folder.expanduser())
        values = nd.dissect.tab_scores(_embedded(heard, clap, folder, marks), clap.encode(texts))
        found["TAB"] = Scores(np.arange(len(values)), values, f"sounds, {_called(str(folder))}")
    if not found:
        raise ValueError("no clip has a caption, and there is no CLAP to compare sounds with concepts")
    return found, encoder


def _called(encoder: str) -> str:
    return "TF-IDF" if encoder == TFIDF else pathlib.Path(encoder).name


class _Encoder:
    """The encoder of texts that was asked for, made when it is first needed."""

    def __init__(self, settings: Settings, captions: Captions, texts: Sequence[str]):
        self._name = settings.encoder
        self._counted = [*(text for row in captions.texts for text in row), *texts]
        self._folder = pathlib.Path(settings.encoder).expanduser()
        self._made: Any = None

    @property
    def is_clap(self) -> bool:
        """Whether it knows sounds too."""
        if self._name == TFIDF:
            return False
        return json.loads((self._folder / "config.json").read_text(encoding="utf-8")).get("model_type") == "clap"

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embeddings (n, d)."""
        if self._made is None and self._name == TFIDF:
            self._made = nd.dissect.TfIdf(self._counted)
        elif self._made is None:
            self._made = (nd.dissect.Clap if self.is_clap else nd.dissect.SentenceEncoder)(self._folder)
        return np.asarray(self._made.encode(texts))


def _embedded(heard: Heard, clap: Any, folder: pathlib.Path, marks: Marks) -> np.ndarray:
    """Embeddings of all clips, kept batch by batch."""
    files = sorted(path for path in folder.expanduser().iterdir() if path.is_file())
    decides = {
        "CLAP": [[path.name, path.stat().st_size, int(path.stat().st_mtime)] for path in files],
        "clips": heard.named,
        "length": [heard.samples, heard.sample_rate],
    }
    place = marks.folder / "clap" / digest_of(decides)
    place.mkdir(parents=True, exist_ok=True)
    count, rows = len(heard.record.clips), []
    length = round(heard.samples / heard.sample_rate * CLAP_RATE)
    with progress_bar(count, "clip embedded") as tick:
        for start in range(0, count, _A_BATCH):
            path = place / f"{start:07d}.npy"
            part = range(start, min(start + _A_BATCH, count))
            if not path.is_file():
                natives = [heard.native(row) for row in part]
                waves = [audio.fit(audio.resample(wave, rate, CLAP_RATE), length) for wave, rate in natives]
                draft = path.with_suffix(".draft.npy")
                np.save(draft, clap.encode_sounds(waves, CLAP_RATE))
                draft.replace(path)
            rows.append(np.load(path))
            tick(len(part))
    return np.concatenate(rows)


def labels_of(
    heard: Heard, scores: Mapping[str, Scores], concepts: ConceptSet, settings: Settings, marks: Marks
) -> Labels:
    """Labels of all units of all layers, layer by layer kept."""
    layers: dict[str, dict[str, LayerLabels]] = {layer: {} for layer in heard.record.layers}
    functions = list(settings.functions) or list(FUNCTIONS)
    with progress_bar(sum(heard.record.units.values()) * len(scores), "unit labelled") as tick:
        for layer, count in heard.record.units.items():
            activations = None
            for source, one in scores.items():
                path = marks.folder / "labels" / f"{slug(source)}-{slug(layer)}.npz"
                decides = {
                    "network": heard.record.network,
                    "clips": [heard.named, digest_of(one.clips.tolist())],
                    "concepts": digest_of(list(concepts.names)),
                    "scores": digest_of(one.values),
                    "pool": settings.pool,
                    "functions": functions,
                    "shuffles": settings.shuffles,
                    "seed": settings.seed,
                }
                name = f"labels of {layer} ({source})"
                if not marks.kept(name, decides, path):
                    if activations is None:
                        activations = heard.record.activations(layer, settings.pool)
                    options = {"functions": functions, "shuffles": settings.shuffles, "seed": settings.seed}
                    found = nd.dissect.layer_labels(activations[one.clips], one.values, concepts.names, **options)
                    found.save(path)
                    marks.done(name, decides)
                layers[layer][source] = LayerLabels.load(path)
                tick(count)
    made = "; ".join(f"{source}: {one.made}" for source, one in scores.items())
    named = f"{len(concepts)} concepts ({concepts.title}). {made}."
    return Labels(concepts.names, layers, source=settings.source, function=settings.function, named=named)


def answers_of(
    labels: Labels, heard: Heard, told: Told, encoder: Any, settings: Settings, kept: pathlib.Path
) -> tuple[Labels, dict[str, str]]:
    """ICL: what a language model makes of the captions of each unit's top clips; what fails is a listed skip."""
    assert settings.model is not None
    model = nd.dissect.LanguageModel(settings.model, kept / "replies", settings.endpoint)
    answers: dict[str, dict[int, tuple[str, ...]]] = {}
    wanted = {layer: range(min(settings.asked, count)) for layer, count in heard.record.units.items()}
    with progress_bar(sum(map(len, wanted.values())), "unit asked about") as tick:
        for layer, units in wanted.items():
            best = heard.record.top(layer, settings.pool).clips
            for unit in units:
                said = [told.captions.texts[clip][0] for clip in best[unit] if told.captions.texts[clip]]
                if said:
                    try:
                        chosen = nd.dissect.icl_labels(model, [summary_of(said)], labels.concepts, encoder)
                    except LanguageModelError as error:
                        return dataclasses.replace(labels, answers=answers), {"labels by ICL": str(error)}
                    answers.setdefault(layer, {})[unit] = chosen[0]
                tick(1)
    return dataclasses.replace(labels, answers=answers), {}


def summary_of(captions: Sequence[str]) -> str:
    """What a language model is told of a unit's top clips: their captions as they are."""
    return "The clips are, the strongest first: " + "; ".join(captions) + "."


def tuning_of(network: nd.Network, layers: Sequence[str], settings: Settings, marks: Marks) -> Any:
    """Measured tuning of all units, kept; None where it is not wanted."""
    if settings.tuning == "none":
        print("      not asked for")
        return None
    options: dict[str, Any] = _QUICK if settings.tuning == "quick" else {}
    pool = "max" if settings.pool == "max" else "mean"
    decides = {
        "network": digest(network),
        "layers": list(layers),
        "bank": settings.tuning,
        "pool": pool,
        "seed": settings.seed,
    }
    path = marks.folder / "tuning.npz"
    if not marks.kept("tuning", decides, path):
        bank = nd.dissect.sound_bank(network, key=jax.random.key(settings.seed), **options)
        under_way = marks.folder / "tuning-under-way.npz"
        found = nd.dissect.measured_tuning(
            network, layers, bank=bank, pool=pool, batch_size=settings.batch_size, kept=under_way, progress=True
        )
        found.save(path)
        marks.done("tuning", decides)
    found = nd.dissect.MeasuredTuning.load(path)
    answering = sum(int(one.answers.sum()) for one in found.layers.values())
    print(f"      {answering:,} units answer to {len(found.bank)} test sounds")
    return found
