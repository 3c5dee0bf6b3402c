"""Imports the official GANSynth checkpoints (GitHub: magenta/magenta, Apache-2.0) without TensorFlow.

    python -m nd_jax.networks.importers.gansynth CHECKPOINT_DIR OUT

CHECKPOINT_DIR is the unpacked archive (`acoustic_only` or `all_instruments`: experiment.json and stage_00000 ...), one
of its stage folders, or the path of a checkpoint without ".index". OUT gets `generator`, with the averaged weights that
the authors sample with, and `discriminator`. Its minibatch deviation is frozen at the mean over batches of generated
notes; `--deviation` gives another value, such as that of real notes (`nd_jax.networks.deviation.frozen`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.networks import deviation as deviations
from nd_jax.networks import gansynth
from nd_jax.networks.importers import command
from nd_jax.networks.importers.tensor_bundle import Bundle, latest
from nd_jax.networks.importers.torch_zip import WeightsFileError

SOURCE = "https://github.com/magenta/magenta/tree/main/magenta/models/gansynth"
LOWEST = 24
"""MIDI number of the first pitch."""

_AVERAGE = "/ExponentialMovingAverage"
_MAKER = "Generator/progressive_gan_generator/"
_JUDGE = "Discriminator/progressive_gan_discriminator/"
_PITCH = "Discriminator/discriminator_cond/classification_logits/"
_STAGE = re.compile(r"stage_(\d+)$")
_BLOCK = re.compile(r"progressive_gan_block_(\d+)/")
# Flags of experiment.json that change what is computed, and the one value of each that is computed here.
_FIXED: dict[str, Any] = {
    "to_rgb_activation": "tanh",
    "scale_mode": "ALL",
    "scale_base": 2,
    "kernel_size": 3,
    "simple_arch": False,
    **dict(zip(("mag_normalizer_a", "p_normalizer_a"), gansynth.GAIN, strict=True)),
    **dict(zip(("mag_normalizer_b", "p_normalizer_b"), gansynth.OFFSET, strict=True)),
}
_NUMBERS = (
    *("num_resolutions", "stable_stage_num_images", "transition_stage_num_images", "fmap_base", "fmap_decay"),
    *("fmap_max", "audio_length", "sample_rate"),
)
_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Of generated notes that the deviation is taken from.
_BATCHES, _BATCH = 4, 8


@dataclasses.dataclass(frozen=True)
class Imported:
    """What is in a checkpoint.

    Attributes:
      generator: its settings.
      generator_variables: the averaged weights.
      discriminator: its settings; the deviation is not frozen.
      discriminator_variables: its weights.
      flags: what experiment.json says, {} without.
      images: real examples seen in training, or None.
      report: what was read and what was not, line by line.
    """

    generator: gansynth.Generator
    generator_variables: dict[str, Any]
    discriminator: gansynth.Discriminator
    discriminator_variables: dict[str, Any]
    flags: Mapping[str, Any]
    images: int | None
    report: tuple[str, ...]


def find(path: str | pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """(prefix of the checkpoint, folder of its stage) of an archive, a stage folder or a prefix.

    Raises:
      FileNotFoundError: there is none.
    """
    path = pathlib.Path(path)
    if pathlib.Path(f"{path}.index").is_file():
        return path, path.parent
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint at {path}: neither a folder nor a file {path.name}.index")
    stages = sorted(folder for folder in path.iterdir() if _STAGE.search(folder.name) and folder.is_dir())
    folder = stages[-1] if stages else path
    return latest(folder), folder


def read(path: str | pathlib.Path) -> Imported:
    """Reads a checkpoint; all sizes are those of its arrays.

    Raises:
      FileNotFoundError: no checkpoint there, or a file of it is missing.
      WeightsFileError: damaged, incomplete, of another network or of another stage than its folder says.
    """
    prefix, folder = find(path)
    bundle = Bundle(prefix)
    blocks = max((int(match[1]) for name in bundle.entries if (match := _BLOCK.search(name))), default=0)
    if not blocks:
        raise WeightsFileError(f"{prefix} is no GANSynth: none of its {len(bundle.entries)} variables is of a block")
    stage = _STAGE.search(folder.resolve().name)
    if stage and (int(stage[1]) + 1) // 2 + 1 != blocks:
        raise WeightsFileError(
            f"{prefix} is a checkpoint of another stage: {folder.name} has {(int(stage[1]) + 1) // 2 + 1} blocks, and "
            f"this checkpoint {blocks}"
        )
    flags = _flags(folder)
    maker, judge = _names(bundle, blocks)
    makers = {path: bundle.read(name) for path, name in maker.items()}
    judges = {path: bundle.read(name) for path, name in judge.items()}
    images = int(bundle.read("global_step")) if "global_step" in bundle.entries else None
    generator, discriminator = _modules(makers, judges, blocks, flags, images, prefix)
    both = [_tree(makers), _tree(judges)]
    for module, tree in ((generator, both[0]), (discriminator, both[1])):
        _check(module, tree, prefix)
    report = _report(prefix, bundle, stage, generator, (maker, judge), (makers, judges), images)
    return Imported(generator, both[0], discriminator, both[1], flags, images, report)


def networks(path: str | pathlib.Path, deviation: float | None = None) -> tuple[Any, Any, tuple[str, ...]]:
    """(generator, discriminator, report) of a checkpoint, the two as `nd_jax.Network` with their model cards.

    Args:
      path: see `find`.
      deviation: at which the discriminator's minibatch deviation is frozen; by default its mean over batches of 8
        generated notes.

    Raises:
      FileNotFoundError: no checkpoint there, or a file of it is missing.
      WeightsFileError: see `read`.
    """
    from nd_jax import domain
    from nd_jax.network import Network

    found = read(path)
    maker, judge = found.generator, found.discriminator
    made = _domain(maker, found.flags)
    names = tuple(f"{_NOTES[midi % 12]}{midi // 12 - 1}" for midi in range(LOWEST, LOWEST + maker.classes))
    if deviation is None:
        judge = deviations.frozen(judge, found.discriminator_variables, _generated(found))
        said = f"its mean over {_BATCHES} batches of {_BATCH} generated notes"
    else:
        judge, said = judge.clone(deviation=float(deviation)), "as given"
    card = {
        "source": SOURCE,
        "licence": "Apache-2.0 (the code; the authors' weights: see the archive)",
        "data": "NSynth (CC BY 4.0)",
        "images": found.images,
    }
    eval_mode = {"train": False}
    generator = Network(
        maker,
        found.generator_variables,
        domain.Parts({"z": domain.Latent(maker.latent), "label": domain.Label(names)}),
        made,
        apply_kwargs=eval_mode,
        card={"name": "gansynth", "task": f"Makes a note of the pitch that is asked for, {names[0]} to {names[-1]}."}
        | card,
    )
    discriminator = Network(
        judge,
        found.discriminator_variables,
        made,
        labels={"score": ("real",), "label": names},
        apply_kwargs=eval_mode,
        card={"name": "gansynth_discriminator", "task": "Tells real notes from generated ones, and their pitch."}
        | card
        | {"deviation": said},
    )
    return generator, discriminator, (*found.report, f"minibatch deviation frozen at {judge.deviation:.4g}, {said}")


def _flags(folder: pathlib.Path) -> dict[str, Any]:
    """What experiment.json says, which lies in the archive's folder or (for a stage alone) beside it."""
    for place in (folder, folder.resolve().parent):
        path = place / "experiment.json"
        if path.is_file():
            try:
                flags = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise WeightsFileError(f"{path} is not readable JSON: {error}") from None
            if not isinstance(flags, dict):
                raise WeightsFileError(f"{path} holds no flags, but a {type(flags).__name__}")
            kind = flags.get("data_normalizer", "specgrams_prespecified_normalizer")
            if kind != "specgrams_prespecified_normalizer":
                raise WeightsFileError(f"{path}: data were normalised by {kind!r}, and only the fixed one is known")
            for name in (one for one in _FIXED if one in flags):
                if flags[name] != _FIXED[name]:
                    raise WeightsFileError(f"{path}: {name} is {flags[name]!r}, and only {_FIXED[name]!r} is known")
            for name in (one for one in _NUMBERS if one in flags):
                if type(flags[name]) not in (int, float) or not 0 < flags[name] < float("inf"):
                    raise WeightsFileError(f"{path}: {name} must be a number above 0, not {flags[name]!r}")
            return flags
    return {}


def _names(bundle: Bundle, blocks: int) -> tuple[dict[str, str], dict[str, str]]:
    """{path in Flax: name of the variable} of the generator, averaged, and of the discriminator.

    Raises:
      WeightsFileError: one is missing.
    """
    maker, judge = {}, {}
    for block in range(1, blocks + 1):
        for layer in ("conv0", "conv1", "to_rgb", "from_rgb"):
            for part, leaf in (("kernel", "conv2d/kernel"), ("bias", "bias")):
                own = f"progressive_gan_block_{block}/{layer}/{leaf}"
                path = f"{layer}{block}/conv/{part}" if layer.endswith("rgb") else f"block{block}/{layer}/{part}"
                if layer != "from_rgb":
                    maker[path] = _MAKER + own + _AVERAGE
                if layer != "to_rgb":
                    judge[path] = _JUDGE + own
    for part, leaf in (("kernel", "dense/kernel"), ("bias", "bias")):
        judge[f"logits/{part}"] = f"{_JUDGE}progressive_gan_block_1/logits/{leaf}"
        judge[f"pitch/{part}"] = _PITCH + leaf
    missing = [name for name in (*maker.values(), *judge.values()) if name not in bundle.entries]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsFileError(f"{bundle.prefix} is no complete GANSynth: the variable {missing[0]} is missing{more}")
    return maker, judge


def _modules(
    makers: Mapping[str, np.ndarray],
    judges: Mapping[str, np.ndarray],
    blocks: int,
    flags: Mapping[str, Any],
    images: int | None,
    prefix: pathlib.Path,
) -> tuple[gansynth.Generator, gansynth.Discriminator]:
    """The settings that make arrays of these shapes."""
    shapes = {name: array.shape for name, array in makers.items()}
    first, classes = shapes["block1/conv0/kernel"], judges["pitch/bias"].shape[0]
    if len(first) != 4 or first[2] <= classes:
        raise WeightsFileError(f"{prefix} is no GANSynth: its generator begins with an array of shape {first}")
    grown = int(flags.get("num_resolutions", blocks))
    if grown < blocks:
        raise WeightsFileError(f"{prefix} has {blocks} blocks, and experiment.json speaks of {grown}")
    features = [judges["logits/kernel"].shape[0]]
    features += [shapes[f"block{block}/conv1/bias"][0] for block in range(1, blocks + 1)]
    base, decay, most = _widths(features, flags, prefix)
    progress = None
    if images is not None and flags.get("train_progressive", True):
        spans = (int(flags.get(f"{name}_stage_num_images", 800_000)) for name in ("stable", "transition"))
        progress = min(float(gansynth.growth(images, grown, *spans)), blocks - 1.0)
    sizes: dict[str, Any] = {
        "classes": int(classes),
        "blocks": grown,
        "grown": 0 if grown == blocks else blocks,
        "progress": None if progress == grown - 1.0 else progress,
        "start": tuple(int(size) for size in first[:2]),
        "fmap_base": base,
        "fmap_decay": decay,
        "fmap_max": most,
    }
    return gansynth.Generator(latent=int(first[2] - classes), **sizes), gansynth.Discriminator(**sizes)


def _widths(features: Sequence[int], flags: Mapping[str, Any], prefix: pathlib.Path) -> tuple[float, float, int]:
    """(base, decay, most) of `gansynth.channels` that give these channels of block 0, 1, ...

    Without flags the decay is 1, and the base the least that fits.
    """
    decay, most = float(flags.get("fmap_decay", 1.0)), int(flags.get("fmap_max", max(features)))
    least = max(
        (count * 2.0 ** (block * decay) for block, count in enumerate(features) if count < most),
        default=most * 2.0 ** ((len(features) - 1) * decay),
    )
    base = float(flags.get("fmap_base", least))
    expected = [gansynth.channels(block, base, decay, most) for block in range(len(features))]
    if expected != list(features):
        raise WeightsFileError(
            f"{prefix} is no GANSynth that is known: its blocks have {list(features)} channels, and with fmap_base "
            f"{base:g} and fmap_max {most} they would have {expected}"
        )
    return base, decay, most


def _tree(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for path, array in arrays.items():
        *parents, leaf = path.split("/")
        node = params
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = np.asarray(array, np.float32)
    return {"params": params}


def _check(module: gansynth.Generator | gansynth.Discriminator, variables: Any, prefix: pathlib.Path) -> None:
    """Refuses arrays of other shapes than the module has."""
    # Shapes alone: experiment.json may speak of pictures that no memory holds.
    try:
        given: Any = jax.ShapeDtypeStruct((1, *gansynth.picture_shape(module)), jnp.float32)
        if isinstance(module, gansynth.Generator):
            given = {"z": jnp.zeros((1, module.latent)), "label": jnp.zeros(1, jnp.int32)}
        wanted = jax.eval_shape(module.init, jax.random.key(0), given)
    except (ValueError, OverflowError) as error:
        raise WeightsFileError(f"{prefix} does not fit what experiment.json says: {error}") from None
    expected, found = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree))}
        for tree in (wanted, variables)
    )
    for name, shape in expected.items():
        if found.get(name) != shape:
            raise WeightsFileError(f"the array {name} of {prefix} should have shape {shape} and has {found.get(name)}")


def _domain(module: gansynth.Generator, flags: Mapping[str, Any]) -> Any:
    """The pictures that the generator makes: as many samples as the flags say, else four seconds or all that fit."""
    from nd_jax.audio import MelIF
    from nd_jax.domain import MelIF as MelIFDomain

    kind = str(flags.get("data_type", "mel"))
    frames, bands, _ = gansynth.picture_shape(module)
    hop = bands // 2
    samples = min(int(flags.get("audio_length", 64_000)), frames * hop)
    rate = int(flags.get("sample_rate", 16_000))
    try:
        return MelIFDomain(MelIF(rate, samples, n_fft=2 * bands, hop_length=hop, frames=frames, kind=kind))
    except ValueError as error:
        raise WeightsFileError(f"pictures of this GANSynth ({kind!r}) cannot be made into sound: {error}") from None


def _generated(found: Imported) -> list[np.ndarray]:
    """A few batches of generated notes of all pitches."""
    make = jax.jit(found.generator.apply)
    parts = []
    for number in range(_BATCHES):
        key = jax.random.fold_in(jax.random.key(0), number)
        z = jax.random.normal(key, (_BATCH, found.generator.latent))
        label = jax.random.randint(jax.random.fold_in(key, 1), (_BATCH,), 0, found.generator.classes)
        parts.append(np.asarray(make(found.generator_variables, {"z": z, "label": label})))
    return parts


def _report(
    prefix: pathlib.Path,
    bundle: Bundle,
    stage: re.Match[str] | None,
    module: gansynth.Generator,
    names: tuple[Mapping[str, str], Mapping[str, str]],
    arrays: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    images: int | None,
) -> tuple[str, ...]:
    taken = {name for part in names for name in part.values()}
    left = [name for name in bundle.entries if name not in taken]
    slots = sum(name.endswith(("/Adam", "/Adam_1")) for name in left)
    raw = sum(name.startswith(_MAKER) and not name.endswith(_AVERAGE) for name in left) - sum(
        name.startswith(_MAKER) and name.endswith(("/Adam", "/Adam_1")) for name in left
    )
    frames, bands, channels = gansynth.picture_shape(module)
    counts = [sum(array.size for array in part.values()) for part in arrays]
    seen = "" if images is None else f", {images:,} images seen"
    where = f"stage {int(stage[1])}, " if stage else ""
    return (
        f"{prefix}: {where}{module.grown or module.blocks} of {module.blocks} blocks{seen}",
        f"pictures of {frames} x {bands} x {channels}, latent {module.latent}, {module.classes} pitches from MIDI "
        f"{LOWEST}",
        f"generator: {len(names[0])} variables, averaged (ExponentialMovingAverage), {counts[0]:,} numbers",
        f"discriminator: {len(names[1])} variables, {counts[1]:,} numbers",
        f"not taken: {raw} raw variables of the generator, {slots} of Adam, {len(left) - raw - slots} others "
        f"(of {len(bundle.entries)} in all)",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: CHECKPOINT_DIR OUT."""
    parser = command.parser("gansynth", "Import an official GANSynth checkpoint as two Network folders.")
    parser.add_argument("checkpoint", type=pathlib.Path, help="unpacked archive, stage folder or checkpoint")
    parser.add_argument("out", type=pathlib.Path, help="folder that gets generator and discriminator, for nd_jax.load")
    parser.add_argument("--deviation", type=float, help="at which the discriminator's minibatch deviation is frozen")

    def bring(options: argparse.Namespace) -> tuple[str, ...]:
        generator, discriminator, report = networks(options.checkpoint, options.deviation)
        generator.save(options.out / "generator")
        discriminator.save(options.out / "discriminator")
        return (*report, str(options.out / "generator"), str(options.out / "discriminator"))

    command.run(parser, bring, arguments)


if __name__ == "__main__":
    main()
