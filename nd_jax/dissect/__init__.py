"""Dissection: what the units of a network do on natural sounds, what concepts that is, and what their weights say."""

from nd_jax.dissect.acoustic_captions import Measures, acoustic_captions, describe, measure
from nd_jax.dissect.acoustic_concepts import ACOUSTIC_CONCEPTS, acoustic_scores
from nd_jax.dissect.captions import Captions, captions_of, read_captions
from nd_jax.dissect.closed_set import (
    ClosedSet,
    LastLayer,
    TextEncoder,
    closed_set,
    concept_names,
    confidence,
    db_scores,
    last_layer,
    last_layer_of_names,
    tab_scores,
)
from nd_jax.dissect.concepts import CONCEPT_SETS, ConceptSet, concept_set
from nd_jax.dissect.encoders import Clap, SentenceEncoder, TfIdf
from nd_jax.dissect.exemplars import QUANTILES, Exemplars, exemplars, recorded_exemplars
from nd_jax.dissect.functions import FUNCTIONS, WPMI, Cosine, CosineCubed, RankReorder, SoftWPMI
from nd_jax.dissect.labels import Labels, LayerLabels, UnitLabel, layer_labels
from nd_jax.dissect.language import LanguageModel, LanguageModelError, icl_labels, icl_prompt
from nd_jax.dissect.record import POOLS, record
from nd_jax.dissect.record_extremes import Extremes
from nd_jax.dissect.record_reading import Record, merge_records, open_record
from nd_jax.dissect.samples import samples
from nd_jax.dissect.similarity import similarity
from nd_jax.dissect.sound_bank import SoundBank, sound_bank
from nd_jax.dissect.straight import NotComposable
from nd_jax.dissect.tuning import Tuning, tuning
from nd_jax.dissect.tuning_sweep import LayerTuning, MeasuredTuning, measured_tuning
from nd_jax.dissect.tuning_unit import UnitTuning
from nd_jax.dissect.weights import Weights, composed

__all__ = [
    "ACOUSTIC_CONCEPTS",
    "CONCEPT_SETS",
    "FUNCTIONS",
    "POOLS",
    "QUANTILES",
    "WPMI",
    "Captions",
    "Clap",
    "ClosedSet",
    "ConceptSet",
    "Cosine",
    "CosineCubed",
    "Exemplars",
    "Extremes",
    "Labels",
    "LanguageModel",
    "LanguageModelError",
    "LastLayer",
    "LayerLabels",
    "LayerTuning",
    "MeasuredTuning",
    "Measures",
    "NotComposable",
    "RankReorder",
    "Record",
    "SentenceEncoder",
    "SoftWPMI",
    "SoundBank",
    "TextEncoder",
    "TfIdf",
    "Tuning",
    "UnitLabel",
    "UnitTuning",
    "Weights",
    "acoustic_captions",
    "acoustic_scores",
    "captions_of",
    "closed_set",
    "composed",
    "concept_names",
    "concept_set",
    "confidence",
    "db_scores",
    "describe",
    "exemplars",
    "icl_labels",
    "icl_prompt",
    "last_layer",
    "last_layer_of_names",
    "layer_labels",
    "measure",
    "measured_tuning",
    "merge_records",
    "open_record",
    "read_captions",
    "record",
    "recorded_exemplars",
    "samples",
    "similarity",
    "sound_bank",
    "tab_scores",
    "tuning",
]
