"""Transforms for images: position, size, angle, colour.

Those that move or stretch frequency when a spectrogram is taken for an image (jitter, scale, rotate) are refused on
sound unless `allow_on_sound=True`; those of colour are for images only.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.domain import Domain
from nd_jax.visualize.transforms import core
from nd_jax.visualize.transforms.sound import FREQUENCY_BREAKS

# Luma weights of ITU-R BT.601, and the matrix from RGB to YIQ that goes with them.
LUMA = (0.299, 0.587, 0.114)
RGB_TO_YIQ = np.asarray([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float64)


@dataclasses.dataclass(frozen=True)
class Jitter:
    """See `jitter`."""

    pixels: int
    fill: str = "silence"
    allow_on_sound: bool = False

    def check(self, domain: Domain) -> None:
        _check_plane("jitter", FREQUENCY_BREAKS, domain, self.allow_on_sound)
        if self.pixels >= min(domain.shape[:2]):
            raise ValueError(f"jitter by {self.pixels} pixels leaves nothing of an image of {domain.shape[:2]}")

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        steps = jax.random.randint(key, (2,), -self.pixels, self.pixels + 1)
        for axis in range(2):
            x = core.shift(x, steps[axis], self.pixels, axis, domain.silence(), self.fill)
        return x


def jitter(pixels: int, *, fill: str = "silence", allow_on_sound: bool = False) -> Jitter:
    """Moves the image by whole pixels, uniform in -pixels ... pixels along both axes.

    What comes in from outside is the domain's silence (middle grey), the held edge ("edge") or the other side ("wrap").
    """
    return Jitter(core.whole("pixels", pixels), core.chosen_fill(fill), allow_on_sound)


@dataclasses.dataclass(frozen=True)
class Scale:
    """See `scale`."""

    low: float = 0.9
    high: float = 1.1
    allow_on_sound: bool = False

    def check(self, domain: Domain) -> None:
        _check_plane("scale", FREQUENCY_BREAKS, domain, self.allow_on_sound)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        factor = jnp.exp(jax.random.uniform(key, (), minval=math.log(self.low), maxval=math.log(self.high)))
        for axis in range(2):
            x = core.interpolate(x, core.stretch_matrix(factor, x.shape[axis]), axis, domain.silence())
        return x


def scale(low: float = 0.9, high: float = 1.1, *, allow_on_sound: bool = False) -> Scale:
    """Enlarges the image around its middle by a factor log-uniform in low ... high, bilinear; grey around it."""
    return Scale(*core.span("scale", low, high), allow_on_sound)


@dataclasses.dataclass(frozen=True)
class Rotate:
    """See `rotate`."""

    degrees: float
    least: float | None = None
    allow_on_sound: bool = False

    def check(self, domain: Domain) -> None:
        _check_plane("rotate", "mixes time and frequency", domain, self.allow_on_sound)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        least = -self.degrees if self.least is None else self.least
        angle = jnp.deg2rad(jax.random.uniform(key, (), minval=least, maxval=self.degrees))
        outside = 1.0 - _coverage(angle, *x.shape[:2])
        return _rotated(x, angle) + domain.silence() * outside[..., None]


def rotate(degrees: float, *, least: float | None = None, allow_on_sound: bool = False) -> Rotate:
    """Turns the image around its middle, counter-clockwise, by an angle uniform in -degrees ... degrees; bilinear.

    Args:
      degrees: largest angle.
      least: smallest angle when it is not -degrees; `rotate(90, least=90)` always turns by a quarter.
      allow_on_sound: turn spectrograms too, where time and frequency then mix.
    """
    least_angle = -degrees if least is None else least
    if not (math.isfinite(degrees) and math.isfinite(least_angle) and least_angle <= degrees):
        raise ValueError(f"rotate needs least <= degrees, got degrees={degrees!r} and least={least!r}")
    return Rotate(float(degrees), None if least is None else float(least), allow_on_sound)


def _positions(angle: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Row and column in the source of every pixel of an image turned counter-clockwise by `angle` radians."""
    middle = (height - 1) / 2, (width - 1) / 2
    row = np.arange(height, dtype=np.float32)[:, None] - middle[0]
    column = np.arange(width, dtype=np.float32)[None, :] - middle[1]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return cosine * row + sine * column + middle[0], cosine * column - sine * row + middle[1]


def _coverage(angle: jax.Array, height: int, width: int) -> jax.Array:
    """The sum of the bilinear weights that fall inside the image, (height, width): 1 inside, 0 outside."""
    row, column = _positions(angle, height, width)
    return _hat(jnp.maximum(-row, row - (height - 1)), 0.0) * _hat(jnp.maximum(-column, column - (width - 1)), 0.0)


@jax.custom_vjp
def _rotated(x: jax.Array, angle: jax.Array) -> jax.Array:
    """Bilinear rotation of x (height, width, channels), zero outside; the angle gets no gradient."""
    height, width, _ = x.shape
    row, column = _positions(angle, height, width)
    top, left = jnp.floor(row), jnp.floor(column)
    result = jnp.zeros_like(x)
    for down in (0, 1):
        for right in (0, 1):
            weight = _hat(row - top - down) * _hat(column - left - right)
            result = result + weight[..., None] * _picked(x, top + down, left + right)
    return result


def _rotated_forward(x: jax.Array, angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _rotated(x, angle), angle


def _rotated_backward(angle: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The exact transpose as a gather.

    Autodiff would scatter, which XLA runs one element at a time on a CPU (40 times slower). A source pixel was read
    only by outputs less than sqrt(2) from its own place in the output, so 4 x 4 candidates hold all of them.
    """
    height, width, _ = cotangent.shape
    row, column = _positions(-angle, height, width)
    top, left = jnp.floor(row), jnp.floor(column)
    own_row = np.arange(height, dtype=np.float32)[:, None]
    own_column = np.arange(width, dtype=np.float32)[None, :]
    middle = (height - 1) / 2, (width - 1) / 2
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    result = jnp.zeros_like(cotangent)
    for down in (-1, 0, 1, 2):
        for right in (-1, 0, 1, 2):
            from_row, from_column = top + down - middle[0], left + right - middle[1]
            read_row = cosine * from_row + sine * from_column + middle[0]
            read_column = cosine * from_column - sine * from_row + middle[1]
            weight = _hat(read_row - own_row) * _hat(read_column - own_column)
            result = result + weight[..., None] * _picked(cotangent, top + down, left + right)
    return result, jnp.zeros_like(angle)


_rotated.defvjp(_rotated_forward, _rotated_backward)


def _hat(distance: jax.Array, least: float = -math.inf) -> jax.Array:
    """1 at 0, falling to 0 at a distance of 1; distances below `least` count as `least`."""
    return jnp.maximum(0.0, 1.0 - jnp.abs(jnp.maximum(distance, least)))


def _picked(x: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """x at whole (row, column), zero outside."""
    height, width, channels = x.shape
    within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
    return jnp.where(within[..., None], x.reshape(height * width, channels)[place.astype(jnp.int32)], 0.0)


@dataclasses.dataclass(frozen=True)
class Padding:
    """See `padding`."""

    pixels: int
    value: float | None = None

    def check(self, domain: Domain) -> None:
        core.check_image("padding", domain)
        if 2 * self.pixels >= min(domain.shape[:2]):
            raise ValueError(f"padding of {self.pixels} pixels leaves nothing of an image of {domain.shape[:2]}")
        if self.value is not None and not domain.low <= self.value <= domain.high:
            raise ValueError(f"padding with {self.value} is outside the domain's {domain.low} ... {domain.high}")

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        height, width, _ = x.shape
        border = np.ones((height, width, 1), bool)
        border[self.pixels : height - self.pixels, self.pixels : width - self.pixels] = False
        return jnp.where(border, domain.silence() if self.value is None else self.value, x)


def padding(pixels: int, *, value: float | None = None) -> Padding:
    """Covers a border of so many pixels with one value (None: middle grey), so that nothing depends on the very edge.

    The network's input has a fixed shape, so that the border lies over the image and not around it. With `jitter`
    behind it this is Lucid's pad, then crop. Deterministic: the key is not used.
    """
    return Padding(core.whole("pixels", pixels), None if value is None else float(value))


# ---- Colour ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Brightness:
    """See `brightness`."""

    amount: float

    def check(self, domain: Domain) -> None:
        core.check_image("brightness", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        change = jax.random.uniform(key, (), minval=-self.amount, maxval=self.amount)
        return core.inside(x + change * (domain.high - domain.low), domain)


def brightness(amount: float) -> Brightness:
    """Adds a constant uniform in -amount ... amount, as a fraction of the domain's range, and clips."""
    return Brightness(core.not_negative("amount", amount))


@dataclasses.dataclass(frozen=True)
class Contrast:
    """See `contrast`."""

    low: float = 0.8
    high: float = 1.25

    def check(self, domain: Domain) -> None:
        core.check_image("contrast", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        factor = jax.random.uniform(key, (), minval=self.low, maxval=self.high)
        # x + (factor - 1) * ... is exactly x at factor 1.
        return core.inside(x + (factor - 1.0) * (x - jnp.mean(_luma(x))), domain)


def contrast(low: float = 0.8, high: float = 1.25) -> Contrast:
    """Multiplies the distance from the image's mean luma by a factor uniform in low ... high, and clips."""
    return Contrast(*core.span("contrast", low, high))


@dataclasses.dataclass(frozen=True)
class Saturation:
    """See `saturation`."""

    low: float = 0.8
    high: float = 1.25

    def check(self, domain: Domain) -> None:
        _check_colour("saturation", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        factor = jax.random.uniform(key, (), minval=self.low, maxval=self.high)
        return core.inside(x + (factor - 1.0) * (x - _luma(x)), domain)


def saturation(low: float = 0.8, high: float = 1.25) -> Saturation:
    """Multiplies the distance of every pixel from its own luma by a factor uniform in low ... high, and clips."""
    return Saturation(*core.span("saturation", low, high))


@dataclasses.dataclass(frozen=True)
class Hue:
    """See `hue`."""

    turns: float

    def check(self, domain: Domain) -> None:
        _check_colour("hue", domain)

    def __call__(self, key: jax.Array, x: jax.Array, domain: Domain) -> jax.Array:
        self.check(domain)
        angle = 2.0 * math.pi * jax.random.uniform(key, (), minval=-self.turns, maxval=self.turns)
        about_luma, across = _hue_matrices()
        change = (jnp.cos(angle) - 1.0) * about_luma + jnp.sin(angle) * across
        mixed = sum(x[..., channel : channel + 1] * change[None, None, :, channel] for channel in range(3))
        return core.inside(x + mixed, domain)


def hue(turns: float) -> Hue:
    """Turns the colours in the chroma plane of YIQ by an angle uniform in -turns ... turns (1 is the whole circle)."""
    return Hue(core.not_negative("turns", turns))


@functools.cache
def _hue_matrices() -> tuple[np.ndarray, np.ndarray]:
    """A turn by t in RGB is 1 + (cos t - 1) * first + sin t * second."""
    inverse = np.linalg.inv(RGB_TO_YIQ)
    chroma = inverse @ np.diag([0.0, 1.0, 1.0]) @ RGB_TO_YIQ
    quarter = inverse @ np.asarray([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]) @ RGB_TO_YIQ
    return chroma.astype(np.float32), quarter.astype(np.float32)


def _luma(x: jax.Array) -> jax.Array:
    """(height, width, channels) to (height, width, 1)."""
    if x.shape[-1] != 3:
        return jnp.mean(x, axis=-1, keepdims=True)
    # Channel by channel: a reduction over an innermost axis of three is slow on a CPU.
    red, green, blue = (x[..., channel : channel + 1] for channel in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _check_plane(name: str, breaks: str, domain: Domain, allow_on_sound: bool) -> None:
    if domain.is_sound and not core.is_waveform(domain):
        core.check_allowed(name, breaks, domain, allow_on_sound)
    else:
        core.check_image(name, domain)


def _check_colour(name: str, domain: Domain) -> None:
    core.check_image(name, domain)
    if domain.shape[-1] != 3:
        raise ValueError(f"{name} needs an image of 3 channels, and this one has {domain.shape[-1]}")
