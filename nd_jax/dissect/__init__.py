"""Dissection: what the units of a network do on natural sounds, what concepts that is, and what their weights say."""

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
    tab_scores,
)
from nd_jax.dissect.concepts import CONCEPT_SETS, ConceptSet, concept_set
from nd_jax.dissect.exemplars import QUANTILES, Exemplars, exemplars
from nd_jax.dissect.functions import FUNCTIONS, WPMI, Cosine, CosineCubed, RankReorder, SoftWPMI
from nd_jax.dissect.record import POOLS, record
from nd_jax.dissect.record_extremes import Extremes
from nd_jax.dissect.record_reading import Record, merge_records, open_record
from nd_jax.dissect.samples import samples
from nd_jax.dissect.similarity import similarity
from nd_jax.dissect.straight import NotComposable
from nd_jax.dissect.tuning import Tuning, tuning
from nd_jax.dissect.weights import Weights, composed

__all__ = [
    "CONCEPT_SETS",
    "FUNCTIONS",
    "POOLS",
    "QUANTILES",
    "WPMI",
    "Captions",
    "ClosedSet",
    "ConceptSet",
    "Cosine",
    "CosineCubed",
    "Exemplars",
    "Extremes",
    "LastLayer",
    "NotComposable",
    "RankReorder",
    "Record",
    "SoftWPMI",
    "TextEncoder",
    "Tuning",
    "Weights",
    "captions_of",
    "closed_set",
    "composed",
    "concept_names",
    "concept_set",
    "confidence",
    "db_scores",
    "exemplars",
    "last_layer",
    "merge_records",
    "open_record",
    "read_captions",
    "record",
    "samples",
    "similarity",
    "tab_scores",
    "tuning",
]
