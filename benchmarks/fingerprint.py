"""Digests that say when a cached measurement is still true.

A row depends on the pixels, on the codec and on the metrics. Pixels and files are digested; code is judged by
what it does to one small fixed picture, so that a refactoring does not cost an hour of encoding, and a change
of the results does. A search makes nothing of one picture that would tell it from another search, so
its code counts itself, without comments and layout.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from types import ModuleType

import numpy as np
from PIL import Image


def digest(data: bytes) -> str:
    """Sixteen hexadecimal digits of SHA-256: enough to tell measurements apart."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_of_code(*modules: ModuleType) -> str:
    """Names the code of some modules, whatever its comments and layout."""
    trees = (ast.parse(inspect.getsource(module)) for module in modules)
    return digest("".join(ast.dump(tree) for tree in trees).encode())


def fixed_picture(side: int = 192) -> Image.Image:
    """The same picture on every machine: smooth slopes, edges, and noise in three colours."""
    rows, columns = np.mgrid[0:side, 0:side]
    noise = np.random.default_rng(7).integers(-24, 25, (side, side, 3))
    slopes = np.stack([rows, columns, (rows + columns) // 2], axis=-1) * 255 // side
    squares = np.where((rows // 24 + columns // 24) % 2, 40, -40)[..., None]
    return Image.fromarray(np.clip(slopes + squares + noise, 0, 255).astype(np.uint8))
