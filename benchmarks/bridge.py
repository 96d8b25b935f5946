"""hvcodec as a model of CompressAI, and CompressAI's models for our trainer: the only file that imports it.

    HvcodecModel   a finished hvcodec model at one rate, behind forward / compress / decompress / update
    untrained      CompressAI's architectures for compressai_training.py

Importing this registers `hvcodec` with CompressAI. Run as a program it then is CompressAI's evaluation tool:

    python -m hvcodec_benchmarks.bridge pretrained PICTURES -a hvcodec -q 30,50,70
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from compressai.registry import register_model
from compressai.zoo import image_models
from compressai.zoo.image import model_architectures
from torch import Tensor

from hvcodec import Codec, ModelError, Picture, rate
from hvcodec.files import write_whole
from hvcodec.model import weights
from hvcodec.model.config import ALIGN
from hvcodec.model.rounding import usual_caution
from hvcodec.train.forward import forward as code

from . import paths

NAME = "hvcodec"


@register_model(NAME)
class HvcodecModel(CompressionModel):
    """A model of hvcodec at one rate. It is finished: hvcodec's own trainer trains, CompressAI's does not.

    Strings are whole .hvc files of 8-bit pictures, header and checksums included: `compress` rounds to 8 bits
    before it codes, as a user's picture would be. All entropy decoding is hvcodec's, so CompressAI's choice of
    an entropy coder changes nothing, and there are no tables that `update` could fill.
    """

    def __init__(
        self,
        model: str | Path = "default",
        *,
        quality: float = 50.0,
        profile: str | None = None,
        rho: Sequence[int] | None = None,
    ) -> None:
        """Load a model by name or path; a rate vector `rho` goes before a quality of a profile.

        Raises ModelError for weights that cannot be used, ValueError for a rate that does not exist.
        """
        super().__init__()
        self.path = weights.find(model).resolve()
        # Its own copy: CompressAI's tools move and convert what they are given, and codecs share theirs.
        loaded = weights.load_weights(self.path)
        self.network, self._caution = loaded.model, usual_caution(loaded.distortion)
        codec = self.codec
        self.rho = codec.profile(profile).rho(quality) if rho is None else rate.check(rho, codec.n_groups)

    @property
    def codec(self) -> Codec:
        """What codes on the device where this module is; loaded once for each device."""
        return Codec(self.path, device=self._weight.device.type)

    @property
    def _weight(self) -> Tensor:
        """One of them, which tells device and type."""
        return next(self.network.parameters())

    def forward(self, x: Tensor) -> dict[str, Any]:
        """The picture that symbols rounded as the encoder does give, and their likelihoods, without coding.

        Scalar symbols: where a model has a trellis, `compress` writes other files than are estimated here.

        CompressAI only ever sums logarithms of likelihoods, and our forward pass adds up the bits of each
        stride, so a likelihood here is that of a pixel's equal share of them.
        """
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % ALIGN, 0, -height % ALIGN), mode="replicate")
        rho = torch.tensor([self.rho] * len(x), device=x.device)
        out = code(self.network, padded, rho, caution=self._caution)
        shares = torch.exp2(-out.rates)[:, :, None, None, None].expand(-1, -1, 1, *padded.shape[-2:])
        names = [f"stride {stage.stride}" for stage in self.network.config.stages]
        return {
            "x_hat": out.reconstruction[..., :height, :width],
            "likelihoods": dict(zip(names, shares.unbind(dim=1), strict=True)),
        }

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Pictures (N, 3, H, W) to .hvc files."""
        samples = (x.detach().float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()
        pictures = [Picture(np.ascontiguousarray(picture)) for picture in samples.numpy()]
        encoded = self.codec.encode_batch(pictures, [self.rho] * len(pictures))
        return {"strings": [[one.data for one in encoded]], "shape": x.shape[-2:]}

    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]) -> dict[str, Any]:
        """Files to pictures 0..1 of 8-bit levels; the files know their size, so `shape` must only agree."""
        pictures = self.codec.decode_batch(list(strings[0]))
        pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
        if pixels.shape[1:3] != torch.Size(shape):
            raise ValueError(f"the files hold pictures of {tuple(pixels.shape[1:3])}, not {tuple(shape)}")
        return {"x_hat": pixels.permute(0, 3, 1, 2).to(self._weight) / 255}

    def state_dict(
        self, *args: Any, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """The file of the model, byte by byte, and the rate vector: all that `from_state_dict` needs."""
        state = {} if destination is None else destination
        state[f"{prefix}file"] = torch.frombuffer(bytearray(self.path.read_bytes()), dtype=torch.uint8)
        state[f"{prefix}rho"] = torch.tensor(self.rho)
        return state

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> HvcodecModel:
        """The model of a checkpoint; raises ModelError if it holds none."""
        if set(state_dict) != {"file", "rho"}:
            raise ModelError("the checkpoint is not one of an hvcodec model: save its state_dict()")
        data = state_dict["file"].cpu().numpy().tobytes()
        # A codec reads files, and this one must outlive the call.
        path = paths.cache_dir() / f"checkpoint-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        write_whole(path, data)
        return cls(path, rho=state_dict["rho"].tolist())


def pretrained(quality: float, metric: str = "mse", **_: Any) -> HvcodecModel:
    """The default model, as an entry of CompressAI's zoo: its quality is ours, 0..100."""
    if metric != "mse":
        raise ValueError(f"hvcodec has no model that was trained for {metric}")
    return HvcodecModel(quality=quality)


image_models[NAME], model_architectures[NAME] = pretrained, HvcodecModel


def main(arguments: Sequence[str]) -> None:
    """CompressAI's evaluation tool, which now knows hvcodec."""
    # Not above: it sets the number of threads for the whole process.
    from compressai.utils.eval_model.__main__ import main as evaluate

    evaluate(list(arguments))


# --- CompressAI's models for our trainer --------------------------------------------------------------------

ARCHITECTURES = ("bmshj2018-hyperprior", "mbt2018-mean")

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)
"""Weights of the squared error that CompressAI's qualities 1 to 8 were trained with, pixels in 0..255."""


def untrained(name: str, weight: float) -> CompressionModel:
    """An architecture as wide as CompressAI makes it for a weight of the squared error (pixels in 0..1)."""
    distances = [abs(math.log(weight / (255**2 * published))) for published in LAMBDAS]
    model = image_models[name](1 + distances.index(min(distances)), pretrained=False)
    model.entropy_bottleneck = Bottleneck(model.N)
    model.gaussian_conditional = Conditional(None)
    return model


class InFloat32:
    """An entropy model that autocast leaves alone: a likelihood is the difference of nearly equal numbers."""

    def forward(self, *inputs: Tensor, **more: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(inputs[0].device.type, enabled=False):
            precise = {name: value.float() for name, value in more.items()}
            return super().forward(*(value.float() for value in inputs), **precise)  # type: ignore[misc]


class Bottleneck(InFloat32, EntropyBottleneck):
    """EntropyBottleneck in float32."""


class Conditional(InFloat32, GaussianConditional):
    """GaussianConditional in float32."""


if __name__ == "__main__":
    main(sys.argv[1:])
