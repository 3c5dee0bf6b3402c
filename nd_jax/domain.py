"""What one input or output of a network *is*, and so how to draw it and how to play it.

A `Domain` describes one example (no batch axis): its shape, its value range, its axes with units, what silence is, how
it becomes a `Picture` and how it becomes a `Sound`. Networks, visualizations and reports ask the domain and never
guess.

| domain    | shape of one example       | values                                    |
|-----------|----------------------------|-------------------------------------------|
| Image     | (height, width, channels)  | low ... high                              |
| Waveform  | (samples, 1)               | -1 ... 1 (full scale)                     |
| LogMel    | (mel bands, frames, 1)     | 0 ... 1 = floor_db ... ceiling_db (dBFS)  |
| Latent    | (size,)                    | unbounded, standard normal                |
| Units     | (units,)                   | logits, scores: unbounded                 |
| Parts     | {name: shape}              | a dict of domains                         |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.audio.mel import LogMel as LogMelTransform
from nd_jax.runtime import nearest


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a picture: the coordinate of every index, in `unit`; `scale` says how the coordinates are spaced."""

    name: str
    unit: str
    values: np.ndarray
    scale: str = "linear"


@dataclasses.dataclass(frozen=True)
class Picture:
    """Something to draw. Row 0 is the top.

    Attributes:
      values: (rows, columns), or (rows, columns, 3) for colour in 0 ... 1.
      x, y: the axes of the columns and of the rows, in drawing order.
      unit: the unit of the values ("dB", "").
      low, high: the values at the two ends of the colour map.
    """

    values: np.ndarray
    x: Axis
    y: Axis
    unit: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Sound:
    """Something to play: wave is (samples,) float32 with full scale 1, sample_rate in Hz."""

    wave: np.ndarray
    sample_rate: int


_KINDS: dict[str, type[Domain]] = {}


class Domain:
    """The common face of all domains; see the module's table. Instances are immutable pytrees."""

    kind: ClassVar[str] = ""
    is_sound: ClassVar[bool] = False

    if TYPE_CHECKING:
        # Fields in some domains, constants or properties in others.
        @property
        def shape(self) -> Any: ...
        @property
        def low(self) -> float: ...
        @property
        def high(self) -> float: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind:
            _KINDS[cls.kind] = cls

    @property
    def axes(self) -> tuple[Axis, ...]:
        """One `Axis` per axis of `shape`."""
        raise TypeError(f"a domain of kind {self.kind!r} has no single list of axes")

    def silence(self) -> Any:
        """One example, shape `shape`, of nothing: a spectrogram's floor, a waveform's 0, an image's middle grey."""
        return jnp.zeros(self.shape, jnp.float32)

    def picture(self, x: Any) -> Picture | None:
        """Draws one example of shape `shape`; None when there is nothing sensible to draw."""
        return None

    def sound(self, x: Any) -> Sound | None:
        """Plays one example of shape `shape`; None for a domain that is not sound."""
        return None

    def check(self, x: Any) -> None:
        """Raises ValueError, in one sentence, unless x is one example or a batch of this domain."""
        shape = tuple(np.shape(x))
        expected = tuple(self.shape)
        if shape != expected and shape[1:] != expected:
            raise ValueError(f"input has shape {shape}, but this network takes {expected} or (batch, *{expected})")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description without arrays; `from_dict` reverses it, `arrays()` holds the rest."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if not field.metadata.get("array")
        }
        return {"kind": self.kind, **jax.tree.map(lambda leaf: leaf, fields)}

    def arrays(self) -> dict[str, Any]:
        """The arrays of this domain (a band mean, ...), saved beside the network's variables."""
        found = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.metadata.get("array")
        }
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def _build(cls, fields: dict[str, Any], arrays: Mapping[str, Any]) -> Domain:
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name in fields:
            if name not in known:
                raise ValueError(f"domain {cls.kind!r} has no field {name!r}; {nearest(name, known)}")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        try:
            return cls(**values, **arrays)
        except TypeError as error:
            raise ValueError(f"domain {cls.kind!r} cannot be built: {error}") from None


def from_dict(description: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> Domain:
    """Rebuilds a domain from `Domain.to_dict()` and `Domain.arrays()`.

    Raises:
      ValueError: unknown kind or field, in one sentence.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("kind"), str):
        raise ValueError(f"a domain is described by a dict with a 'kind', not by {description!r}")
    fields = dict(description)
    kind = fields.pop("kind")
    if kind not in _KINDS:
        raise ValueError(f"unknown domain kind {kind!r}; {nearest(kind, _KINDS)}")
    return _KINDS[kind]._build(fields, arrays or {})


def _pytree(cls: type) -> type:
    """Registers a frozen dataclass as a pytree: fields marked `array` are leaves, all others are static."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    data = [field.name for field in fields if field.metadata.get("array")]
    meta = [field.name for field in fields if not field.metadata.get("array")]
    return jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=meta)


def _array_field() -> Any:
    return dataclasses.field(default=None, metadata={"array": True}, compare=False)


def _check_sizes(domain: Domain, **values: Any) -> None:
    """Raises ValueError unless every value is a whole number from 1 to 2 ** 31 - 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value < 2**31:
            raise ValueError(f"{name} of a domain {domain.kind!r} must be a whole number of 1 or more, got {value!r}")


def _check_range(domain: Domain) -> None:
    if not domain.low < domain.high:
        raise ValueError(f"low of a domain {domain.kind!r} must be below high, got {domain.low} and {domain.high}")


def _index_axis(name: str, unit: str, size: int) -> Axis:
    return Axis(name, unit, np.arange(size, dtype=np.float64))


@_pytree
@dataclasses.dataclass(frozen=True)
class Image(Domain):
    """An image: shape (height, width, channels), values low ... high."""

    kind: ClassVar[str] = "image"

    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or len(self.shape) != 3:
            raise ValueError(f"an image's shape is (height, width, channels), got {self.shape!r}")
        height, width, channels = self.shape
        _check_sizes(self, height=height, width=width, channels=channels)
        _check_range(self)

    @property
    def axes(self) -> tuple[Axis, ...]:
        height, width, channels = self.shape
        return (
            _index_axis("row", "px", height),
            _index_axis("column", "px", width),
            _index_axis("channel", "", channels),
        )

    def silence(self) -> jax.Array:
        return jnp.full(self.shape, (self.low + self.high) / 2, jnp.float32)

    def picture(self, x: Any) -> Picture:
        values = np.asarray(x, np.float32).reshape(self.shape)
        rows, columns, _ = self.axes
        if self.shape[-1] == 3:
            unit_range = np.clip((values - self.low) / (self.high - self.low), 0, 1)
            return Picture(unit_range, columns, rows, "", 0.0, 1.0)
        return Picture(values.mean(axis=-1), columns, rows, "", self.low, self.high)


@_pytree
@dataclasses.dataclass(frozen=True)
class Waveform(Domain):
    """Raw audio: shape (samples, 1), full scale -1 ... 1, drawn as a spectrogram in dBFS."""

    kind: ClassVar[str] = "waveform"
    is_sound: ClassVar[bool] = True

    samples: int
    sample_rate: int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_sizes(self, samples=self.samples, sample_rate=self.sample_rate)
        _check_range(self)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.samples, 1)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (
            Axis("time", "s", np.arange(self.samples) / self.sample_rate),
            _index_axis("channel", "", 1),
        )

    def sound(self, x: Any) -> Sound:
        return Sound(np.asarray(x, np.float32).reshape(self.samples), self.sample_rate)

    def picture(self, x: Any) -> Picture:
        from nd_jax.audio.mel import spectrogram_db

        n_fft = 512 if self.samples >= 2048 else 128
        hop = max(self.samples // 256, 16)
        levels = np.asarray(spectrogram_db(jnp.asarray(x).reshape(self.samples), n_fft=n_fft, hop_length=hop))
        time = Axis("time", "s", np.arange(levels.shape[1]) * hop / self.sample_rate)
        frequency = Axis("frequency", "Hz", np.linspace(0, self.sample_rate / 2, levels.shape[0])[::-1])
        return Picture(levels[::-1], time, frequency, "dB", -80.0, 0.0)


@_pytree
@dataclasses.dataclass(frozen=True)
class LogMel(Domain):
    """A log-mel spectrogram: shape (mel bands, frames, 1); 0 is `transform.floor_db`, 1 is `ceiling_db`.

    Attributes:
      transform: the front end, `nd_jax.audio.LogMel` (values in dBFS).
      frames: number of frames.
      ceiling_db: the level that becomes 1.
      band_mean: (mel bands,) mean value per band over the training data, in 0 ... 1, or None.
    """

    kind: ClassVar[str] = "log_mel"
    is_sound: ClassVar[bool] = True

    transform: LogMelTransform
    frames: int
    ceiling_db: float = 0.0
    band_mean: Any = _array_field()

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        _check_sizes(self, frames=self.frames)
        if not self.transform.floor_db < self.ceiling_db:
            floor = self.transform.floor_db
            raise ValueError(f"ceiling_db must be above the front end's floor of {floor} dB, got {self.ceiling_db}")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.transform.n_mels, self.frames, 1)

    @property
    def sample_rate(self) -> int:
        """Samples per second of the sound behind the spectrogram, in Hz."""
        return self.transform.sample_rate

    @property
    def samples(self) -> int:
        """Length, in samples, of the sound that fills exactly `frames` frames."""
        return self.transform.num_samples(self.frames)

    @property
    def seconds_per_frame(self) -> float:
        """Hop of the front end, in seconds."""
        return self.transform.hop_length / self.transform.sample_rate

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (
            Axis("frequency", "Hz", np.asarray(self.transform.centre_frequencies), scale="mel"),
            Axis("time", "s", np.arange(self.frames) * self.seconds_per_frame),
            _index_axis("channel", "", 1),
        )

    def to_db(self, x: Any) -> Any:
        """Network values (0 ... 1) to dBFS, any shape."""
        floor = self.transform.floor_db
        return floor + x * (self.ceiling_db - floor)

    def from_db(self, levels: Any) -> Any:
        """dBFS to network values, any shape; levels outside the range are clipped to 0 ... 1."""
        floor = self.transform.floor_db
        return jnp.clip((levels - floor) / (self.ceiling_db - floor), 0.0, 1.0)

    def from_wave(self, wave: Any) -> jax.Array:
        """Sound to network input: (..., samples) -> (..., mel bands, frames, 1); jittable, batched.

        `samples` must be `self.samples`; use `nd_jax.audio.fit` for other lengths.
        """
        if np.shape(wave)[-1] != self.samples:
            raise ValueError(
                f"sound has {np.shape(wave)[-1]} samples, but {self.frames} frames need {self.samples}; "
                "bring it to length with nd_jax.audio.fit"
            )
        return self.from_db(self.transform.forward(jnp.asarray(wave, jnp.float32)))[..., : self.frames, None]

    def sound(self, x: Any) -> Sound:
        levels = self.to_db(jnp.asarray(x, jnp.float32).reshape(self.shape)[..., 0])
        return Sound(np.asarray(self.transform.inverse(levels)), self.sample_rate)

    def picture(self, x: Any) -> Picture:
        levels = np.asarray(self.to_db(np.asarray(x, np.float32).reshape(self.shape)[..., 0]))
        frequency, time, _ = self.axes
        flipped = Axis("frequency", "Hz", frequency.values[::-1], scale="mel")
        return Picture(levels[::-1], time, flipped, "dB", float(self.transform.floor_db), float(self.ceiling_db))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "transform": dataclasses.asdict(self.transform),
            "frames": self.frames,
            "ceiling_db": self.ceiling_db,
        }

    @classmethod
    def _build(cls, fields: dict[str, Any], arrays: Mapping[str, Any]) -> Domain:
        fields = dict(fields)
        try:
            fields["transform"] = LogMelTransform(**fields["transform"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"domain 'log_mel' needs a 'transform' with the fields of audio.LogMel: {error}") from None
        return super()._build(fields, arrays)


@dataclasses.dataclass(frozen=True)
class _Vector(Domain):
    """Unbounded numbers: shape (size,)."""

    size: int

    axis_name: ClassVar[str] = ""
    low: ClassVar[float] = -float("inf")
    high: ClassVar[float] = float("inf")

    def __post_init__(self) -> None:
        _check_sizes(self, size=self.size)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.size,)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (_index_axis(self.axis_name, "", self.size),)


@_pytree
@dataclasses.dataclass(frozen=True)
class Latent(_Vector):
    """A generator's latent: shape (size,), standard normal."""

    kind: ClassVar[str] = "latent"
    axis_name: ClassVar[str] = "latent"


@_pytree
@dataclasses.dataclass(frozen=True)
class Units(_Vector):
    """Numbers, one per unit (logits, scores): shape (size,)."""

    kind: ClassVar[str] = "units"
    axis_name: ClassVar[str] = "unit"


@jax.tree_util.register_pytree_node_class
class Parts(Domain):
    """A dict of domains: examples, outputs and parameters are dicts with the same keys.

    Its picture and sound are those of the first part that has one.
    """

    kind: ClassVar[str] = "parts"

    def __init__(self, parts: Mapping[str, Domain]):
        self.parts: dict[str, Domain] = dict(parts)

    @property
    def shape(self) -> dict[str, Any]:  # type: ignore[override]
        return {name: part.shape for name, part in self.parts.items()}

    def __getitem__(self, name: str) -> Domain:
        if name not in self.parts:
            raise KeyError(f"no part {name!r}; {nearest(name, self.parts)}")
        return self.parts[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parts) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(tuple(self.parts.items()))

    def __repr__(self) -> str:
        return f"Parts({self.parts!r})"

    def silence(self) -> dict[str, Any]:
        return {name: part.silence() for name, part in self.parts.items()}

    def picture(self, x: Any) -> Picture | None:
        drawn = (part.picture(x[name]) for name, part in self.parts.items())
        return next((picture for picture in drawn if picture is not None), None)

    def sound(self, x: Any) -> Sound | None:
        played = (part.sound(x[name]) for name, part in self.parts.items())
        return next((sound for sound in played if sound is not None), None)

    def check(self, x: Any) -> None:
        if not isinstance(x, Mapping) or set(x) != set(self.parts):
            raise ValueError(f"input must be a dict with the keys {sorted(self.parts)}, got {type(x).__name__}")
        for name, part in self.parts.items():
            part.check(x[name])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": {name: part.to_dict() for name, part in self.parts.items()}}

    def arrays(self) -> dict[str, Any]:
        found = {name: part.arrays() for name, part in self.parts.items()}
        return {name: arrays for name, arrays in found.items() if arrays}

    @classmethod
    def _build(cls, fields: dict[str, Any], arrays: Mapping[str, Any]) -> Domain:
        if not isinstance(fields.get("parts"), Mapping):
            raise ValueError("domain 'parts' needs a dict 'parts'")
        return cls({name: from_dict(part, arrays.get(name)) for name, part in fields["parts"].items()})

    def tree_flatten(self) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
        return tuple(self.parts.values()), tuple(self.parts)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], parts: tuple[Domain, ...]) -> Parts:
        return cls(dict(zip(names, parts, strict=True)))
