"""Colours by lightness and hue, as the eye takes them (OKLab)."""

from __future__ import annotations

import numpy as np

_TO_CONES = np.array([[0.3963377774, 0.2158037573], [-0.1055613458, -0.0638541728], [-0.0894841775, -1.2914855480]])
_TO_LINEAR = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def oklab_to_srgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """OKLab, in polar form, to sRGB in 0 ... 1; colours that no screen has are clipped.

    Source: Ottosson 2020, "A perceptual color space for image processing".

    Args:
      lightness: 0 (black) ... 1 (white), any shape.
      chroma: 0 (grey) and up, the same shape.
      hue: in radians, the same shape.

    Returns:
      (..., 3).
    """
    plane = np.stack([chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear = np.clip((lightness[..., None] + plane @ _TO_CONES.T) ** 3 @ _TO_LINEAR.T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
