"""The trust card: how far an optimised input is to be believed, measured for all units of a result at once.

    card = nd.visualize.trust.measure(result, natural_inputs)
    card.ratio          # activation of the optimised input over the natural 99.9th percentile; card.twin beside it
    card.survives       # what is left of it after the wav is written, read back and analysed again
    card.path           # whether it goes through the earlier layers as natural inputs do
    card.agreement      # whether several starts found the same thing, card.preferences how many things

Every line is tested against planted units (tests/visualize/test_trust_planted.py); docs/trust.md says what each means
and where it ends.
"""

from nd_jax.visualize.trust.card import Trust
from nd_jax.visualize.trust.measuring import measure
from nd_jax.visualize.trust.twin import random_twin

__all__ = ["Trust", "measure", "random_twin"]
