"""How good the samples of a generator are: numbers on features and probabilities of a classifier, beside real data.

Every function takes plain arrays, (n, d) features or (n, classes) probabilities, and computes in float64 on the host.
`hear` makes both with any network, `judge` computes the whole table. docs/metrics.md says what each number means and
when it lies.
"""

from nd_jax.metrics.bins import Bins, kmeans, ndb
from nd_jax.metrics.frechet import FrechetInfinity, frechet_distance, frechet_infinity
from nd_jax.metrics.intervals import jackknife
from nd_jax.metrics.judging import Heard, hear, judge, judge_table, labels_of, watcher
from nd_jax.metrics.kernel import PermutationTest, bandwidth, kernel_distance, kernel_interval, permutation_test
from nd_jax.metrics.latents import Orthogonality, cosines, jacobian_gram, orthogonality
from nd_jax.metrics.neighbours import Coverage, Memorisation, density_coverage, memorisation
from nd_jax.metrics.pitches import WITHIN_CENTS, Variety, cents_off, fundamentals, pitch_figures, variety
from nd_jax.metrics.scores import class_shares, confident_share, inception_score, prediction_entropy

__all__ = [
    "Bins",
    "Coverage",
    "FrechetInfinity",
    "Heard",
    "Memorisation",
    "Orthogonality",
    "PermutationTest",
    "WITHIN_CENTS",
    "Variety",
    "bandwidth",
    "cents_off",
    "class_shares",
    "confident_share",
    "cosines",
    "density_coverage",
    "frechet_distance",
    "frechet_infinity",
    "fundamentals",
    "hear",
    "inception_score",
    "jackknife",
    "jacobian_gram",
    "judge",
    "judge_table",
    "kernel_distance",
    "kernel_interval",
    "kmeans",
    "labels_of",
    "memorisation",
    "ndb",
    "orthogonality",
    "permutation_test",
    "pitch_figures",
    "prediction_entropy",
    "variety",
    "watcher",
]
