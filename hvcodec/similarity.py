"""Structural similarity of two pictures: MS-SSIM and SSIMULACRA2, computed strip by strip with numpy.

Strips of rows stay in the cache, and of a hundred megapixels no more than a few bytes per pixel are held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.unsignedinteger[Any]]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Samples = Pixels | Floats  # sRGB codes, or linear light

PEAKS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}

STRIP_ROWS = 64  # even, because strips are also halved

# Stabilisers of the structure term (0.03 squared, the same in both metrics) and of the luminance term.
STRUCTURE_FLOOR = 0.0009
LUMINANCE_FLOOR = 0.0001


# --- MS-SSIM (Wang, Simoncelli, Bovik 2003) -----------------------------------------------------------------

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MIN_SIDE = 161  # after four halvings the window of 11 still has to fit


def _gaussian_half(sigma: float, radius: int) -> tuple[float, ...]:
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return tuple(weight / total for weight in weights)


# Symmetric kernels are written as their centre and one side.
SSIM_KERNEL = _gaussian_half(1.5, 5)


def ms_ssim(a: Pixels, b: Pixels) -> float:
    """Multi-scale structural similarity (five scales), averaged over the colour channels.

    As in the usual PyTorch package: Gaussian window of 11 with sigma 1.5, borders left out, negative terms
    counted as zero. A side under 161 pixels has no fifth scale, so there is no such number: ValueError.
    """
    peak = common_peak(a, b)
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        raise ValueError(f"MS-SSIM needs at least {MS_SSIM_MIN_SIDE} pixels on each side, not {a.shape[:2]}")
    channels_a, channels_b = (np.atleast_3d(image) for image in (a, b))
    values = [
        _ms_ssim_channel(_unit(channels_a[..., c], peak), _unit(channels_b[..., c], peak))
        for c in range(channels_a.shape[2])
    ]
    return float(np.mean(values))


def _ms_ssim_channel(a: Floats, b: Floats) -> float:
    product = 1.0
    for weight in MS_SSIM_WEIGHTS[:-1]:
        structure, _ = _mean_ssim(a, b)
        product *= max(structure, 0.0) ** weight
        a, b = _halve_from_zero(a), _halve_from_zero(b)
    _, similarity = _mean_ssim(a, b)
    return product * float(max(similarity, 0.0) ** MS_SSIM_WEIGHTS[-1])


def _mean_ssim(a: Floats, b: Floats) -> tuple[float, float]:
    """Means of the structure term and of the whole SSIM over the positions where the window fits."""
    margin = 2 * (len(SSIM_KERNEL) - 1)
    height, width = a.shape[0] - margin, a.shape[1] - margin
    sum_structure = sum_ssim = 0.0
    for rows in strips(height):
        window = slice(rows.start, rows.stop + margin)
        mean_a, mean_b, loss = _local_statistics(a[window], b[window], SSIM_KERNEL)
        structure = 1 - loss
        sum_structure += float(structure.sum())
        luminance = 2 * mean_a * mean_b + LUMINANCE_FLOOR
        luminance /= mean_a * mean_a + mean_b * mean_b + LUMINANCE_FLOOR
        sum_ssim += float(np.vdot(luminance, structure))
    return sum_structure / (height * width), sum_ssim / (height * width)


def _halve_from_zero(plane: Floats) -> Floats:
    """Means of 2x2 samples; an odd side gets a zero in front, which the reference counts as a sample too."""
    plane = np.pad(plane, [(side % 2, 0) for side in plane.shape])
    return _mean_of_four(plane)


# --- SSIMULACRA2 (Sneyers, version 2.1 of April 2023) -------------------------------------------------------

# Opsin absorbance of linear sRGB and its bias: the XYB space of JPEG XL.
OPSIN = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.5518098665095536],
    ],
    dtype=np.float32,
)
OPSIN_BIAS = 0.0037930732552754493

MIN_SIDE = 8
N_SCALES = 6


class _Flavour(NamedTuple):
    """Where the programs that compute SSIMULACRA2 differ."""

    kernel: tuple[float, ...]
    row_border: Literal["constant", "symmetric"]  # above and below; left and right all of them see zeros
    min_side_to_halve: int  # a smaller scale has no coarser one


FLAVOURS = {
    "python": _Flavour(SSIM_KERNEL, "symmetric", 15),
    # The impulse response of libjxl's recursive Gaussian (truncated cosines after Charalampidis 2016, sigma
    # 1.5, radius 5) is exactly nine samples long.
    "libjxl": _Flavour((0.264621105488, 0.212928592010, 0.109335372777, 0.036011114658, 0.009414367810), "constant", 8),
}

# Weights that are not zero, by position in the order (X, Y, B-Y) x scale x (1-norm, 4-norm) x (SSIM error,
# added edges, lost detail), fine scale first.
# fmt: off
WEIGHTS_BY_POSITION = {
    1: 0.0007376606707406586, 4: 0.0007793481682867309, 7: 0.0004371155730107379, 9: 1.1041726426657346,
    10: 0.00066284834129271, 11: 0.00015231632783718752, 13: 0.0016406437456599754, 15: 1.8422455520539298,
    16: 11.441172603757666, 18: 0.0007989109436015163, 19: 0.000176816438078653, 21: 1.8787594979546387,
    22: 10.94906990605142, 24: 0.0007289346991508072, 25: 0.9677937080626833, 27: 0.00014003424285435884,
    28: 0.9981766977854967, 29: 0.00031949755934435053, 30: 0.0004550992113792063, 33: 0.0013648766163243398,
    39: 7.466890328078848, 41: 17.445833984131262, 42: 0.0006235601634041466, 45: 6.683678146179332,
    46: 0.00037724407979611296, 47: 1.027889937768264, 48: 225.20515300849274, 51: 19.213238186143016,
    52: 0.0011401524586618361, 53: 0.001237755635509985, 54: 176.39317598450694, 57: 24.43300999870476,
    58: 0.28520802612117757, 59: 0.0004485436923833408, 63: 34.77906344483772, 64: 44.835625328877896,
    73: 0.0008680556573291698, 79: 0.0005313191874358747, 81: 0.00016533814161379112,
    87: 0.0004179171803251336, 88: 0.0017290828234722833, 90: 0.0020827005846636437, 93: 8.826982764996862,
    94: 23.19243343998926, 96: 95.1080498811086, 97: 0.9863978034400682, 98: 0.9834382792465353,
    99: 0.0012286405048278493, 100: 171.2667255897307, 101: 0.9807858872435379, 105: 0.0005130064588990679,
    107: 0.00010854057858411537,
}
# fmt: on
WEIGHTS = np.array([WEIGHTS_BY_POSITION.get(position, 0.0) for position in range(3 * N_SCALES * 6)])


def ssimulacra2(a: Pixels, b: Pixels, *, like: Literal["python", "libjxl"] = "python") -> float:
    """SSIMULACRA2 score of picture `b` against the original `a`: 100 is equal, 90 visually lossless, 30 low.

    Both are sRGB, grey or colour. The programs in use disagree about what lies beyond the picture's borders:
    `like="python"` mirrors above and below, as the package `ssimulacra2` does, with which the anchors of this
    project were measured; `like="libjxl"` sees zeros everywhere, as the original does, and gives 0.1 to 1
    point more above 50, and up to 4 more below 0. Short sides (under 225 or 113 pixels) have fewer than six
    scales, and the weights are then read without a gap, as both programs do: such scores are comparable only
    with each other. Under 8 pixels there is no score: ValueError.
    """
    common_peak(a, b)
    if min(a.shape[:2]) < MIN_SIDE:
        raise ValueError(f"SSIMULACRA2 needs at least {MIN_SIDE} pixels on each side, not {a.shape[:2]}")
    flavour = FLAVOURS[like]
    image_a: Samples = _as_colour(a)
    image_b: Samples = _as_colour(b)
    norms = [_error_norms(image_a, image_b, flavour)]
    while len(norms) < N_SCALES and min(image_a.shape[:2]) >= flavour.min_side_to_halve:
        image_a, image_b = _halve_linear(image_a), _halve_linear(image_b)
        norms.append(_error_norms(image_a, image_b, flavour))
    errors = np.stack(norms, axis=1).ravel()  # (3 channels, scales, 2 norms, 3 maps), flat
    return _score(float(errors @ WEIGHTS[: errors.size]))


def _score(error: float) -> float:
    """The polynomial and power law that map the weighted error to the scale of the opinion scores."""
    x = 0.9562382616834844 * error
    x = 2.326765642916932 * x - 0.020884521182843837 * x**2 + 6.248496625763138e-05 * x**3
    return 100 - 10 * math.pow(max(x, 0.0), 0.6276336467831387)


def _error_norms(a: Samples, b: Samples, flavour: _Flavour) -> Doubles:
    """The 1-norms and 4-norms of the three error maps in the three channels of one scale: (3, 2, 3)."""
    height, width = a.shape[:2]
    sums = np.zeros((3, 2, 3))
    for rows in strips(height):
        planes = zip(_xyb_with_halo(a, rows, flavour), _xyb_with_halo(b, rows, flavour), strict=True)
        for channel, (x, y) in enumerate(planes):
            for kind, errors in enumerate(_error_maps(x, y, flavour.kernel)):
                sums[channel, 0, kind] += errors.sum()
                errors *= errors
                sums[channel, 1, kind] += np.vdot(errors, errors)
    means: Doubles = sums / (height * width)
    means[:, 1] **= 0.25
    return means


def _error_maps(x: Floats, y: Floats, kernel: tuple[float, ...]) -> tuple[Floats, Floats, Floats]:
    """SSIM error, edges that `y` adds, and detail that it loses, at each pixel inside the halo."""
    mean_x, mean_y, loss = _local_statistics(x, y, kernel)
    margin = len(kernel) - 1
    inside = (slice(margin, -margin), slice(margin, -margin))
    edge_x, edge_y = np.abs(x[inside] - mean_x), np.abs(y[inside] - mean_y)
    # 1 - (1 - shift)(1 - loss); no division by the means, because XYB is perceptually uniform already.
    shift = np.square(mean_x - mean_y)
    error = loss + shift - loss * shift
    edge_y -= edge_x
    edge_y /= 1 + edge_x
    return np.maximum(error, 0), np.maximum(edge_y, 0), np.maximum(-edge_y, 0)


def _xyb_with_halo(image: Samples, rows: slice, flavour: _Flavour) -> Floats:
    """XYB planes of some rows, each about in 0..1, and around them as much as the kernel reaches."""
    margin = len(flavour.kernel) - 1
    start, stop = max(rows.start - margin, 0), min(rows.stop + margin, image.shape[0])
    linear = _to_linear(image[start:stop])
    cones = OPSIN @ linear.reshape(-1, 3).T + np.float32(OPSIN_BIAS)
    long, medium, short = np.cbrt(cones, out=cones) - np.float32(OPSIN_BIAS ** (1 / 3))
    luma = (long + medium) / 2
    planes = np.stack([(long - medium) * 7 + 0.42, luma + 0.01, short - luma + 0.55])
    missing = (start - (rows.start - margin), rows.stop + margin - stop)
    planes = np.pad(planes.reshape(3, *linear.shape[:2]), [(0, 0), missing, (0, 0)], mode=flavour.row_border)
    return np.pad(planes, [(0, 0), (0, 0), (margin, margin)])


def _halve_linear(image: Samples) -> Floats:
    """The picture at half the size, in linear light; an odd side repeats its last sample."""
    height, width = image.shape[:2]
    half: Floats = np.empty(((height + 1) // 2, (width + 1) // 2, 3), dtype=np.float32)
    for rows in strips(height):
        linear = _to_linear(image[rows])
        padded = np.pad(linear, [(0, linear.shape[0] % 2), (0, width % 2), (0, 0)], mode="edge")
        half[rows.start // 2 : (rows.stop + 1) // 2] = _mean_of_four(padded)
    return half


def _as_colour(image: Pixels) -> Pixels:
    if image.ndim == 2:
        return np.broadcast_to(image[..., None], (*image.shape, 3))
    if image.shape[2] != 3:
        raise ValueError(f"SSIMULACRA2 takes grey or three colours, not {image.shape[2]} channels")
    return image


def _to_linear(samples: Samples) -> Floats:
    if samples.dtype == np.float32:
        return samples.astype(np.float32, copy=False)
    return np.take(_srgb_table(PEAKS[samples.dtype]), cast(Pixels, samples))


@lru_cache(maxsize=2)
def _srgb_table(peak: int) -> Floats:
    codes = np.linspace(0, 1, peak + 1)
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


# --- what both similarity metrics share ---------------------------------------------------------------------


def _local_statistics(a: Floats, b: Floats, kernel: tuple[float, ...]) -> tuple[Floats, Floats, Floats]:
    """Local means of both planes, and one minus the structure term of SSIM, where the window fits.

    1 - (2 cov + c) / (var a + var b + c) = var(a - b) / (var a + var b + c): written so, it keeps its
    precision in float32 where the pictures are bright and flat.
    """
    mean_a, mean_b = _filter(a, kernel), _filter(b, kernel)
    loss = _filter(np.square(a - b), kernel) - np.square(mean_a - mean_b)
    variances = _filter(a * a + b * b, kernel) - (mean_a * mean_a + mean_b * mean_b)
    loss /= np.maximum(variances, 0) + STRUCTURE_FLOOR
    return mean_a, mean_b, loss


def _filter(plane: Floats, kernel: tuple[float, ...]) -> Floats:
    """Convolve with a symmetric kernel in both directions, where it fits."""
    return _filter_columns(_filter_columns(plane, kernel).T, kernel).T


def _filter_columns(plane: Floats, kernel: tuple[float, ...]) -> Floats:
    margin = len(kernel) - 1
    height = plane.shape[0] - 2 * margin
    result = plane[margin : margin + height] * np.float32(kernel[0])
    for offset, weight in enumerate(kernel[1:], start=1):
        above, below = margin - offset, margin + offset
        pair = plane[above : above + height] + plane[below : below + height]
        pair *= np.float32(weight)
        result += pair
    return result


def _mean_of_four(samples: Floats) -> Floats:
    rows = samples[0::2] + samples[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def _unit(samples: Pixels, peak: int) -> Floats:
    return samples.astype(np.float32) / np.float32(peak)


def strips(height: int) -> Iterator[slice]:
    for start in range(0, height, STRIP_ROWS):
        yield slice(start, min(start + STRIP_ROWS, height))


def common_peak(a: Pixels, b: Pixels) -> int:
    """Check that two pictures can be compared and return their largest code."""
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"cannot compare {a.dtype} {a.shape} with {b.dtype} {b.shape}")
    if a.dtype not in PEAKS or a.ndim not in (2, 3) or a.size == 0:
        raise ValueError(f"a picture is (height, width[, channels]) in uint8 or uint16: {a.dtype} {a.shape}")
    return PEAKS[a.dtype]
