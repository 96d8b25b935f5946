"""How much of a latent's gradient its symbol deserves.

Rounding has no gradient, and the usual substitute (the symbol follows its latent one to one) flatters layers
whose symbols are mostly zero and stay zero: an earlier layer is told that these later ones make good for
whatever it does. In truth a symbol moves when its latent crosses a threshold j + THRESHOLD, so on the average
over a distribution of density p it moves with the slope

    r = 2 sum_j p(j + THRESHOLD),    j = 0, 1, 2, ...

which is one for wide distributions and almost nothing for those far narrower than a step. The prior's scale
index tells the distribution. Training weighs gradients so (docs/decisions/0014), and the descent on a single
picture does in part (refine.py).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .likelihood import inverse_scales
from .rounding import row_of

THRESHOLD = 0.55
"""A little above one half, because the encoder rounds with an eye on the price (model/rounding.py)."""

LEAST = 0.02
"""Of the slope: a layer that is silent must still be able to learn that it should speak."""

_CROSSINGS = 4096  # far into the tail of the widest distribution


def weaken(x: Tensor, t: Tensor) -> None:
    """Weigh the gradient that x (latents, in steps) will get by the slope of its symbols under scale indices t."""
    if x.requires_grad:
        x.register_hook(slope(t).mul)  # type: ignore[no-untyped-call]


def slope(t: Tensor) -> Tensor:
    """How far a symbol moves with its latent on the average, 0..1, under scale indices t."""
    return _slopes(t.device)[row_of(t)]


@lru_cache(maxsize=4)
def _slopes(device: torch.device) -> Tensor:
    """For each scale index, of logistic distributions as in model/likelihood.py."""
    inverse = inverse_scales()
    places = (torch.arange(_CROSSINGS, dtype=torch.float64) + THRESHOLD) * inverse
    density = inverse * torch.sigmoid(places) * torch.sigmoid(-places)
    return (2 * density.sum(dim=1)).clamp(LEAST, 1).float().to(device)
