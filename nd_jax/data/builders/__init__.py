"""The data sets, one file each; `BUILDERS` lists them by the name that users type."""

from nd_jax.data.builders.audio_folder import AudioFolder
from nd_jax.data.builders.base import CLASSES, AudioBuilder, Builder, Example, Feature, LayoutError
from nd_jax.data.builders.emodb import EmoDB
from nd_jax.data.builders.esc10 import ESC10
from nd_jax.data.builders.esc50 import ESC50
from nd_jax.data.builders.gtzan import GTZAN
from nd_jax.data.builders.instrument_notes import InstrumentNotes
from nd_jax.data.builders.mnist import MNIST
from nd_jax.data.builders.nsynth import NSynth
from nd_jax.data.builders.ravdess import RAVDESS
from nd_jax.data.builders.spoken_digits import SpokenDigits
from nd_jax.data.builders.tess import TESS
from nd_jax.data.builders.urbansound8k import UrbanSound8K

BUILDERS: dict[str, type[Builder]] = {
    builder.name: builder
    for builder in (
        MNIST,
        SpokenDigits,
        EmoDB,
        RAVDESS,
        TESS,
        InstrumentNotes,
        NSynth,
        ESC10,
        ESC50,
        UrbanSound8K,
        GTZAN,
        AudioFolder,
    )
}

__all__ = ["BUILDERS", "CLASSES", "AudioBuilder", "Builder", "Example", "Feature", "LayoutError"]
