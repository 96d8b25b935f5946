"""Compress and decompress pictures: where the two worlds, the entropy coder and the container meet.

    Picture ─► strips.analyze ─► symbols ─► walk_prior or retrace, LayerEncoder ─► chunks ─► container.pack ─► bytes
    Picture ◄─ strips.synthesize ◄─ symbols ◄─ walk_prior, LayerDecoder ◄─ chunks ◄─ container.unpack ◄─

All entropy decoding is done before the first float operation. What a decoder shows is always
`synthesize(symbols)`, and so is what the encoder measures itself against.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import catalog, container, extras, metrics, rate, trellis
from .container import Extra
from .entropy import LayerDecoder, LayerEncoder, Tables, TrellisTables
from .errors import CorruptError, DesyncError, ImageError, LimitError, ModelError, TargetError
from .model import refine, strips, weights
from .model.config import ALIGN
from .model.importance import beyond_white, combined, of_mask, of_masking
from .model.refine import GoOn
from .model.rounding import CAUTION, usual_caution
from .model.walk import retrace, walk_prior
from .picture import Picture
from .profiles import MOST_MASKING
from .targets import METRICS
from .trellis import NO_GROUPS, Groups

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
Array = np.ndarray[Any, np.dtype[Any]]
Symbols = list[Array]  # of one picture: (Z, rows, columns) for each layer; in a trellis their values, in half steps

ITERATIONS = (0, 0, 8, 14, 24, 40, 75, 120, 170, 240)
"""Steps of refinement at each effort; effort 0 does not even ask the prior what symbols cost."""

SHARE_IN_TRELLIS = 0.75
"""Of these steps, in a trellis: there they take longer, and effort is time."""

PATIENT = 8
"""From this effort on refinement takes twice the time to compute in full precision."""

DEFAULT_EFFORT = 1


SAMPLE_ROWS, SAMPLE_COLUMNS, SAMPLE_SIDE = 2, 3, 128
"""Squares of a picture that the first guess for a target looks at."""

LEAST_SAMPLED = 3 * SAMPLE_ROWS * SAMPLE_COLUMNS * SAMPLE_SIDE**2
"""Pixels from which on that look is much cheaper than an encode."""

WIDE, LEAST_ROWS = 4096, 2048
"""Pictures of more columns cost at least what so many rows of them would: strips are whole rows, however few."""


def _sample(picture: Picture) -> Picture:
    """Squares from all over a picture, put together."""

    def starts(side: int, count: int) -> list[int]:
        return [max(side - SAMPLE_SIDE, 0) * (2 * i + 1) // (2 * count) for i in range(count)]

    across = starts(picture.width, SAMPLE_COLUMNS)
    rows = [
        np.concatenate([picture.pixels[y : y + SAMPLE_SIDE, x : x + SAMPLE_SIDE] for x in across], axis=1)
        for y in starts(picture.height, SAMPLE_ROWS)
    ]
    return Picture(np.concatenate(rows))


def _always(done: float) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Encoded:
    """A compressed picture, and what its decoder will show."""

    data: bytes = field(repr=False)
    rho: tuple[int, ...]
    _codec: Codec = field(repr=False)
    _symbols: Symbols = field(repr=False)
    _linked: Groups = field(repr=False)
    _like: Picture = field(repr=False)

    def decoded(self) -> Picture:
        """The picture that decoding `data` gives, without decoding it."""
        return self._decoded

    @cached_property
    def _decoded(self) -> Picture:
        return self._codec._synthesize([self._symbols], [self.rho], [self._like], self._linked)[0]

    # What a target can ask for (targets.Trial), measured once on the picture that the decoder will give.

    @property
    def n_bytes(self) -> int:
        return len(self.data)

    @property
    def bpp(self) -> float:
        return metrics.bpp(len(self.data), self._like.width, self._like.height)

    @cached_property
    def psnr_db(self) -> float:
        return metrics.psnr(self._like.pixels, self._decoded.pixels)

    @cached_property
    def ms_ssim(self) -> float:
        return metrics.ms_ssim(self._like.pixels, self._decoded.pixels)

    @cached_property
    def ssimulacra2(self) -> float:
        return metrics.ssimulacra2(self._like.pixels, self._decoded.pixels)


class Codec:
    """A model on a device, ready to code. Holds no state between calls: threads may share one."""

    def __init__(self, model: str | Path = "default", device: Device = "auto", dtype: Dtype = "float32") -> None:
        """Load a model by name or by the path of its weights.

        Raises ModelError if there is no such model or its weights are not sound, ValueError for a device that
        this machine lacks, or if torch's default dtype is not float32, as encoding does too.
        """
        _check_default_dtype()
        self.device = _device(device)
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, not {dtype}")
        self.dtype = dtype
        self._path = weights.find(model).resolve()
        loaded = _load(self._path, self._path.stat().st_mtime_ns, self.device.type)
        self.model, self.tables, self.trellis, self.model_id = loaded.model, loaded.tables, loaded.trellis, loaded.id
        self.name, self.distortion = loaded.name, loaded.distortion
        self.profiles = catalog.load_profiles(self._path, self.n_groups)  # anew: they may change while weights do not

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._path, self.device.type, self.dtype)  # its weights lie in their file

    # --- pictures to bytes --------------------------------------------------------------------------------

    def compress(
        self,
        picture: Picture,
        *,
        quality: float = 50.0,
        profile: str | None = None,
        target: rate.Target | None = None,
        rho: Sequence[int] | None = None,
        effort: int = DEFAULT_EFFORT,
        roi: Array | None = None,
        digests: bool = False,
        go_on: GoOn = _always,
    ) -> Encoded:
        """Compress a picture at a quality (0..100) of a profile, at a target, or at a rate vector.

        Without a profile it is `psnr`, or the first that the model has. `effort` (0..9) buys smaller
        files with the encoder's time; from 2 on, `go_on` is told how much of an encode is done (0..1) and says
        whether to go on, and the best that was found so far is kept if not. `roi` is a mask (H, W) of 8 or 16
        bits: the whiter a pixel, the more its error counts. Raises TargetError if no setting reaches the
        target, ValueError for settings that do not exist or a mask of another size, TypeError for other arguments.
        """
        _check_pictures([picture])
        if roi is not None:
            [roi] = _checked_rois([roi], [picture])

        def encode(mask: Array | None, vector: Sequence[int], masking: float = 0.0, trim: float = 0.0) -> Encoded:
            return self.encode(
                picture, vector, effort=effort, roi=mask, masking=masking, trim=trim, digests=digests, go_on=go_on
            )

        if rho is not None:
            return encode(roi, rho)
        chosen = self.profile(profile)
        if target is None:
            return encode(roi, chosen.rho(quality), chosen.masking)
        if not isinstance(target, rate.Target):
            raise TypeError(f"a target is Bytes, Bpp, Psnr, MsSsim or Ssimulacra2, not {type(target).__name__}")
        given = sum(map(len, _pack_extras(picture).values()))
        target = target.beside(given, picture.width * picture.height)
        guide = chosen.guide(target)
        first_guess = self._first_guess(picture, roi, target, guide, chosen.masking, look=effort > 0)

        def search(mask: Array | None) -> Encoded:
            def trial(vector: rate.Rho, trim: float) -> Encoded:
                return encode(mask, vector, chosen.masking, trim)

            # Less than nothing in favour of the rate would turn zeros into ones: bits for a worse picture.
            least_trim = max(-self._caution(effort, mask), -rate.MOST_TRIM)
            return rate.search(trial, target, guide, first_guess=first_guess, least_trim=least_trim).trial

        for mask in _lighter_and_lighter(roi):
            try:
                return search(mask)
            except TargetError as err:  # where white is perfect already, the rest has what is left
                assert isinstance(err.nearest, rate.Result)
                if target.value(err.nearest.trial) > target.aim:
                    raise
        return search(None)

    def _first_guess(
        self,
        picture: Picture,
        roi: Array | None,
        target: rate.Target,
        guide: rate.Guide,
        masking: float,
        *,
        look: bool,
    ) -> int:
        """Where in the guide to begin: what pictures give on the mean, corrected by a look at a part of this one."""
        aim = target.metric_aim(picture.width * picture.height)
        index = guide.index(aim)
        if not look or picture.width * picture.height < LEAST_SAMPLED:
            return index
        rois = None if roi is None else [_sample(Picture(roi)).pixels]
        sample = self.encode_batch([_sample(picture)], [guide.ladder[index]], rois=rois, masking=masking)[0]
        return guide.index(guide.expected[index] + aim - METRICS[target.metric](sample))

    def encode(
        self,
        picture: Picture,
        rho: Sequence[int],
        *,
        effort: int = DEFAULT_EFFORT,
        roi: Array | None = None,
        masking: float = 0.0,
        trim: float = 0.0,
        digests: bool = False,
        go_on: GoOn = _always,
    ) -> Encoded:
        """Compress a picture at a rate vector: one value 0..63 for each stride group, coarse to fine.

        `masking` says how much less an error counts in busy surroundings than in smooth ones: 0 not at all,
        1 by as much as their variance is larger. `trim` makes the file a little smaller (above 0) or larger
        than the rate vector alone would: by a few percent for 0.1. Below 0 it is of no use at effort 0 and for
        models that are trained for the eye, but with a mask: their symbols are the nearest integers already.
        """
        rois = None if roi is None else [roi]
        return self.encode_batch(
            [picture], [rho], effort=effort, rois=rois, masking=masking, trim=trim, digests=digests, go_on=go_on
        )[0]

    def encode_batch(
        self,
        pictures: Sequence[Picture],
        rhos: Sequence[Sequence[int]],
        *,
        effort: int = DEFAULT_EFFORT,
        rois: Sequence[Array] | None = None,
        masking: float = 0.0,
        trim: float = 0.0,
        digests: bool = False,
        go_on: GoOn = _always,
    ) -> list[Encoded]:
        """Compress several pictures, each at its rate vector; those of equal size share a batch."""
        _check_default_dtype()
        _check_pictures(pictures)
        if len(rhos) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures need one rate vector each, not {len(rhos)}")
        if not isinstance(effort, Integral) or effort not in range(len(ITERATIONS)):
            raise ValueError(f"effort must be a whole number 0..{len(ITERATIONS) - 1}, not {effort}")
        if not 0 <= masking <= MOST_MASKING or not math.isfinite(trim):
            raise ValueError(f"masking must lie in 0..{MOST_MASKING} and trim be finite, not {masking} and {trim}")
        if rois is not None:
            rois = _checked_rois(rois, pictures)
        checked = [rate.check(rho, self.n_groups) for rho in rhos]
        packed = [_pack_extras(picture) for picture in pictures]  # first: they are cheap to refuse
        in_trellis = self.trellis is not None and effort > 0  # effort 0 does not ask the prior, which a trellis needs
        coded: list[Encoded | None] = [None] * len(pictures)
        linked = self.linked_groups(in_trellis)
        for members in _by_size(pictures, [in_trellis] * len(pictures)):
            own = [pictures[i] for i in members]
            masks = None if rois is None else [rois[i] for i in members]
            found = self._analyze(own, [checked[i] for i in members], linked, effort, masks, masking, trim, go_on)
            for i, (planes, indices) in zip(members, found, strict=True):
                data = self._pack(pictures[i], checked[i], planes, indices, in_trellis, packed[i], digests)
                coded[i] = Encoded(data, checked[i], self, planes, linked, pictures[i])
        return [encoded for encoded in coded if encoded is not None]

    def profile(self, name: str | None = None) -> rate.Profile:
        """A rate profile of this model, by default `psnr` or the first that it has; ValueError lists them all."""
        if name is None:
            names = [rate.DEFAULT_PROFILE, *(own for own in self.profiles if own != rate.EQUAL_PROFILE)]
            name = next((own for own in names if own in self.profiles), rate.EQUAL_PROFILE)
        if name not in self.profiles:
            message = f"{self.name} has no rate profile {name!r}; it has: {', '.join(self.profiles)}"
            others = catalog.other_profiles(self.profiles)
            listed = "; ".join(f"model {model} has: {', '.join(own)}" for model, own in others.items())
            raise ValueError(f"{message}; {listed}" if listed else message)
        return self.profiles[name]

    # --- bytes to pictures --------------------------------------------------------------------------------

    def decode(
        self,
        data: bytes,
        *,
        max_layers: int | None = None,
        partial: bool = False,
        max_pixels: int = container.MAX_PIXELS,
    ) -> Picture:
        """Decompress a file of this model; `max_layers` stops early, `partial` accepts a file cut short.

        Raises FormatError (its subclasses tell apart what is wrong), DesyncError, ModelError.
        """
        return self.decode_batch([data], max_layers=max_layers, partial=partial, max_pixels=max_pixels)[0]

    def decode_batch(
        self,
        datas: Sequence[bytes],
        *,
        max_layers: int | None = None,
        partial: bool = False,
        max_pixels: int = container.MAX_PIXELS,
    ) -> list[Picture]:
        """Decompress several files; those of equal size share a batch."""
        files = [container.unpack(data, partial=partial, max_pixels=max_pixels) for data in datas]
        for file in files:
            check_size(file.header, max_pixels)
            self._check_model(file.header)
        blanks = [_blank(file) for file in files]  # extras first: they are cheap to refuse
        symbols = [self.decode_symbols(file, max_layers=max_layers) for file in files]
        pictures: list[Picture | None] = [None] * len(files)
        are_in_trellis = [file.header.in_trellis for file in files]
        for members in _by_size(blanks, are_in_trellis):
            rhos, own = [files[i].header.rho for i in members], [blanks[i] for i in members]
            linked = self.linked_groups(are_in_trellis[members[0]])
            shown = self._synthesize([symbols[i] for i in members], rhos, own, linked)
            for i, picture in zip(members, shown, strict=True):
                pictures[i] = picture
        return [picture for picture in pictures if picture is not None]

    def decode_symbols(self, file: container.File, *, max_layers: int | None = None) -> Symbols:
        """Symbols of every layer of a parsed file: the exact part of decoding. Layers that lack are zero."""
        header = file.header
        self._check_model(header)
        layers = self.model.config.layers
        if max_layers is not None and not (isinstance(max_layers, Integral) and max_layers >= 0):
            raise ValueError(f"max_layers must be a whole number, 0 or more, not {max_layers}")
        chunks = file.chunks if max_layers is None else file.chunks[:max_layers]
        present = [layer.index < len(chunks) and len(chunks[layer.index]) > 0 for layer in layers]
        decoders = [_decoder(index, chunk, self.tables, self.trellis) for index, chunk in enumerate(chunks)]
        is_vouched_for = file.is_intact and header.digests is not None
        linked = self.linked_groups(header.in_trellis)

        def read(layer: int, indices: Array, positions: Array) -> Array:
            try:
                if layers[layer].group in linked:
                    symbols, is_odd = decoders[layer].decode_linked(
                        self._linked(layer, indices, positions, header.width)
                    )
                    return trellis.halves_of(symbols, is_odd).reshape(indices.shape)
                return decoders[layer].decode(indices.reshape(-1)).reshape(indices.shape)
            except CorruptError as err:
                raise _wrong_symbols(layer, is_vouched_for) from err

        def check(layer: int, symbols: Array) -> None:  # at once: wrong symbols make all later ones wrong
            if layer >= len(decoders):
                return
            if header.digests is not None and symbol_digest(symbols) != header.digests[layer]:
                raise _wrong_symbols(layer, is_vouched_for)
            try:
                decoders[layer].finish()
            except CorruptError as err:
                raise _wrong_symbols(layer, False) from err

        return walk_prior(
            self.model.prior, header.rho, header.height, header.width, present, read, check, linked=linked
        )

    def _linked(self, layer: int, indices: Array, positions: Array, width: int) -> trellis.Pass:
        """The symbols of a pass with these scale indices (Z, n), as they hang together."""
        stride = self.model.config.layers[layer].stride
        return trellis.Pass.of_plane(indices, positions, _aligned(width) // stride, stride)

    def _check_model(self, header: container.Header) -> None:
        if header.model_id != self.model_id:
            needed, found = header.model_id.hex(), self.model_id.hex()
            raise ModelError(f"the file needs model {needed}, this codec holds {found}", needed=needed, found=found)
        if header.n_layers != len(self.model.config.layers) or header.n_groups != self.n_groups:
            raise CorruptError("the header does not fit its model: the program that wrote the file is faulty")
        if header.in_trellis and self.trellis is None:
            raise CorruptError("the file has a trellis and its model none: the program that wrote the file is faulty")

    # --- the float world ----------------------------------------------------------------------------------

    @property
    def n_groups(self) -> int:
        return len(self.model.config.stages)

    def linked_groups(self, in_trellis: bool) -> Groups:
        """Which stride groups are in the trellis of a file, if it has one."""
        return trellis.linked_groups(stage.stride for stage in self.model.config.stages) if in_trellis else NO_GROUPS

    # Nudges need gradients, whatever mode the caller is in.
    @torch.inference_mode(False)
    @torch.enable_grad()
    def _analyze(
        self,
        pictures: Sequence[Picture],
        rhos: Sequence[Sequence[int]],
        linked: Groups,
        effort: int,
        rois: Sequence[Array] | None,
        masking: float,
        trim: float,
        go_on: GoOn,
    ) -> list[tuple[Symbols, Symbols | None]]:
        """Symbols of each picture, and the scale indices of all if they are known: see strips.Analysis."""
        height, width = (_aligned(side) for side in (pictures[0].height, pictures[0].width))
        rows, rates = self._pixel_rows(pictures), self._rates(rhos)
        roi = None if rois is None else of_mask(torch.stack([_mask(roi) for roi in rois]).to(self.device))
        importance = combined(roi, of_masking(rows, height, width, masking) if masking else None)
        if roi is not None and self._caution(effort, None) == 0:
            importance = beyond_white(roi)
        prices = dict.fromkeys(linked, self.trellis.prices) if self.trellis is not None and linked else {}
        choice = strips.Choice(self._caution(effort, roi) + trim, None, importance, prices)
        if ITERATIONS[effort]:
            with self._precision_of(effort):
                task = refine.Task(self.model, rates, choice.caution, importance, roi, self.distortion, prices)
                steps = round(ITERATIONS[effort] * (SHARE_IN_TRELLIS if linked else 1))
                nudges = refine.refine(task, rows, height, width, steps, go_on)
            choice = choice._replace(nudges=nudges)
        # Nudges fit the symbols that were seen while they were found, so the same precision has to choose them.
        with torch.inference_mode(), self._precision_of(effort):
            symbols, indices = strips.analyze(self.model, rows, rates, height, width, choice)
        return [
            ([layer[i] for layer in symbols], None if indices is None else [layer[i] for layer in indices])
            for i in range(len(pictures))
        ]

    def _synthesize(
        self, symbols: Sequence[Symbols], rhos: Sequence[Sequence[int]], like: Sequence[Picture], linked: Groups
    ) -> list[Picture]:
        """Pictures from symbols, with the kind, size, alpha and metadata of `like`."""
        stacked = [np.stack(planes) for planes in zip(*symbols, strict=True)]
        results = [np.empty_like(picture.pixels) for picture in like]
        height, width = (_aligned(side) for side in (like[0].height, like[0].width))
        with torch.inference_mode(), self._precision():
            shown = strips.synthesize(self.model.transform, stacked, self._rates(rhos), height, width, linked)
            for rows, pixels in shown:
                for result, x in zip(results, pixels, strict=True):
                    _store(result, rows, x)
        return [
            Picture(pixels, picture.alpha, picture.icc, picture.exif, picture.xmp)
            for pixels, picture in zip(results, like, strict=True)
        ]

    def _rates(self, rhos: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([list(rho) for rho in rhos], dtype=torch.float32, device=self.device)

    def _caution(self, effort: int, mask: object) -> float:
        """How far symbols are rounded in favour of the rate; where nearest is best, a mask tells where it is not."""
        usual = usual_caution(self.distortion) if effort else 0.0
        return usual or (0.0 if mask is None else CAUTION)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def _precision_of(self, effort: int) -> torch.autocast:
        """Refinement need not be precise: bfloat16 where the processor has it, as it halves the time."""
        if ITERATIONS[effort] == 0 or effort >= PATIENT:
            return self._precision()
        quick = self.device.type == "cuda" or _has_bfloat16()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=quick)

    def _pixel_rows(self, pictures: Sequence[Picture]) -> Callable[[int, int], Tensor]:
        def rows(first: int, end: int) -> Tensor:
            return torch.stack([_load_rows(picture.pixels, first, end) for picture in pictures]).to(self.device)

        return rows

    # --- the exact world ----------------------------------------------------------------------------------

    def _pack(
        self,
        picture: Picture,
        rho: tuple[int, ...],
        symbols: Symbols,
        indices: Symbols | None,
        in_trellis: bool,
        packed: dict[int, bytes],
        digests: bool,
    ) -> bytes:
        height, width = picture.height, picture.width
        chunks = self.encode_symbols(symbols, rho, height, width, in_trellis=in_trellis, indices=indices)
        return container.pack(
            width=picture.width,
            height=picture.height,
            grey=picture.is_grey,
            depth=picture.depth,
            model_id=self.model_id,
            rho=rho,
            chunks=chunks,
            digests=[symbol_digest(planes) for planes in symbols] if digests else None,
            extras=packed,
            in_trellis=in_trellis,
        )

    def encode_symbols(
        self, symbols: Symbols, rho: Sequence[int], height: int, width: int, *, in_trellis: bool = False,
        indices: Symbols | None = None,
    ) -> list[bytes]:  # fmt: skip
        """The chunk of every layer: the exact part of encoding.

        Values in a trellis are corrected in place where no path has them. With the scale `indices` of all symbols
        the prior is asked again only if there were any of these.
        """
        encoders = [LayerEncoder(self.tables, self.trellis) for _ in symbols]
        present = [bool(planes.any()) for planes in symbols]
        linked_groups = self.linked_groups(in_trellis)
        corrected = False

        def write(layer: int, indices: Array, positions: Array) -> Array:
            nonlocal corrected
            planes = symbols[layer].reshape(len(indices), -1)
            chosen = np.take(planes, positions, axis=1)
            if self.model.config.layers[layer].group not in linked_groups:
                encoders[layer].encode(chosen.reshape(-1), indices.reshape(-1))
                return chosen
            linked = self._linked(layer, indices, positions, width)
            own, is_odd = linked.fitted(chosen.reshape(-1))
            encoders[layer].encode_linked(own, linked)
            halves = trellis.halves_of(own, is_odd).reshape(chosen.shape)
            if not np.array_equal(halves, chosen):
                corrected = True
                planes[:, positions] = halves
            return halves

        if indices is None:
            walk_prior(self.model.prior, rho, height, width, present, write, linked=linked_groups)
        else:
            retrace(self.model.config.layers, indices, present, write)
            if corrected:  # then all later indices are others
                return self.encode_symbols(symbols, rho, height, width, in_trellis=in_trellis)
        return [encoder.chunk() for encoder in encoders]


# --- small parts ------------------------------------------------------------------------------------------


def symbol_digest(symbols: Array) -> int:
    """CRC-32 of a layer's symbols as little-endian 16-bit integers, channel by channel, row by row."""
    return zlib.crc32(np.ascontiguousarray(symbols, "<i2").data)


def _decoder(layer: int, chunk: bytes, tables: Tables, linked: TrellisTables | None) -> LayerDecoder:
    try:
        return LayerDecoder(chunk, tables, linked)
    except CorruptError as err:
        raise _wrong_symbols(layer, False) from err


def _wrong_symbols(layer: int, is_vouched_for: bool) -> CorruptError | DesyncError:
    """What it means that a chunk does not give the symbols that were encoded.

    With digests, bytes whose checksum is right give other symbols only where arithmetic differs. A file that
    was cut short has no checksum.
    """
    if not is_vouched_for:
        return CorruptError(f"layer {layer} is damaged: get the file again from its source", layer=layer)
    return DesyncError(
        f"layer {layer} decodes to other symbols than were encoded although its bytes are intact: "
        "this machine computes differently; decode on another device and report this",
        layer=layer,
    )


def _check_pictures(pictures: Sequence[Picture]) -> None:
    for picture in pictures:
        if not isinstance(picture, Picture):
            raise TypeError(
                f"a codec takes a Picture, not {type(picture).__name__}: make one with hvcodec.Picture(array), "
                "or call hvcodec.compress, which also takes arrays, Pillow images and paths"
            )
        if max(picture.width, picture.height) > container.MAX_SIDE:
            raise ImageError(f"a side of the picture is longer than {container.MAX_SIDE}: cut it into parts")


def _pack_extras(picture: Picture) -> dict[int, bytes]:
    """What a file carries beside its layers, by kind."""
    parts = {Extra.ALPHA: picture.alpha, Extra.ICC: picture.icc, Extra.EXIF: picture.exif, Extra.XMP: picture.xmp}
    return {
        int(kind): extras.pack_alpha(part) if isinstance(part, np.ndarray) else extras.pack_metadata(part)
        for kind, part in parts.items()
        if part is not None
    }


def _checked_rois(rois: Sequence[Array], pictures: Sequence[Picture]) -> list[Array]:
    """Masks in the byte order of this machine, if each fits its picture."""
    if len(rois) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures need one mask each, not {len(rois)}")
    for roi, picture in zip(rois, pictures, strict=True):
        wanted = (picture.height, picture.width)
        if not isinstance(roi, np.ndarray):
            raise TypeError(f"a mask is a grey array (H, W) of uint8 or uint16, not {type(roi).__name__}")
        if roi.shape != wanted or roi.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
            raise ValueError(
                f"the mask is an array {roi.shape} of {roi.dtype}, but a picture of {picture.width} x {picture.height} "
                f"needs {wanted} of uint8 or uint16: one grey value for each pixel, rows first"
            )
    return [roi.astype(roi.dtype.newbyteorder("="), copy=False) for roi in rois]


def _lighter_and_lighter(roi: Array | None) -> Iterator[Array]:
    """A mask, and what is left of it when black counts 1/6 and 2/5 instead of 1/32."""
    if roi is not None:
        white = np.iinfo(roi.dtype).max
        yield from (white - (white - roi) // times for times in (1, 2, 4))


def _mask(roi: Array) -> Tensor:
    """A mask as (1, rows, columns) of the padded picture, 0..1."""
    height, width = roi.shape
    grey = torch.from_numpy(roi.astype(np.float32)) / np.iinfo(roi.dtype).max
    padding = (0, _aligned(width) - width, 0, _aligned(height) - height)
    return torch.nn.functional.pad(grey[None, None], padding, mode="replicate")[0]


def _has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32; older versions of torch cannot tell."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _check_default_dtype() -> None:
    if torch.get_default_dtype() != torch.float32:  # new tensors would not fit the weights, nor integers half precision
        raise ValueError(
            f"hvcodec computes with float32 as torch's default dtype, not {torch.get_default_dtype()}: "
            "call torch.set_default_dtype(torch.float32)"
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, not {name}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("this machine has no CUDA device that torch can use: choose cpu or auto")
    return torch.device(name)


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, device: str) -> weights.Loaded:
    """The weights at a path; `changed` makes a file that was replaced another one."""
    with torch.inference_mode(False):  # they stay: whoever asks next may need gradients
        loaded = weights.load_weights(path)
        loaded.model.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return loaded


def check_size(header: container.Header, max_pixels: int) -> None:
    """Refuse a thin picture that costs far more than its pixels: padding makes 64 rows of one; strips are whole."""
    columns, rows = _aligned(header.width), _aligned(header.height)
    counted = columns * (rows if columns <= WIDE else max(rows, LEAST_ROWS))
    limit = 2 * max(max_pixels, ALIGN * ALIGN)
    if counted > limit:
        raise LimitError(
            f"the picture of {header.width} x {header.height} costs as much as {counted} pixels, more than twice "
            f"the limit of {max_pixels}: raise it to go on",
            limit=limit,
            asked=counted,
        )


def _aligned(side: int) -> int:
    return -(-side // ALIGN) * ALIGN


def _by_size(pictures: Sequence[Picture], are_in_trellis: Sequence[bool]) -> list[list[int]]:
    """Indices of pictures that can share a batch."""
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for i, (picture, in_trellis) in enumerate(zip(pictures, are_in_trellis, strict=True)):
        groups.setdefault((picture.height, picture.width, in_trellis), []).append(i)
    return list(groups.values())


def _load_rows(samples: Array, first: int, end: int) -> Tensor:
    """Rows first..end of the padded picture as (3, rows, width) pixels; its edges are repeated outwards."""
    height, width = samples.shape[:2]
    band = samples[min(first, height - 1) : min(end, height)]
    missing = (end - first) - len(band)
    band = np.pad(band, [(0, missing), (0, _aligned(width) - width)] + [(0, 0)] * (band.ndim - 2), mode="edge")
    peak = np.iinfo(samples.dtype).max
    x = torch.from_numpy(band.astype(np.float32)) * (1 / peak) - 0.5
    return x.expand(3, -1, -1) if x.ndim == 2 else x.permute(2, 0, 1)


def _store(result: Array, rows: slice, pixels: Tensor) -> None:
    """Write a strip (3, rows, width) into a picture: clamp, round, crop; grey is the mean of the channels."""
    height, width = result.shape[:2]
    end = min(rows.stop, height)
    x = pixels[:, : max(0, end - rows.start), :width]
    x = x.mean(dim=0) if result.ndim == 2 else x.permute(1, 2, 0)
    peak = np.iinfo(result.dtype).max
    x = ((x + 0.5) * peak).round_().clamp_(0, peak)
    result[rows.start : end] = x.to(torch.int32).cpu().numpy()


def _blank(file: container.File) -> Picture:
    """A picture as the header describes it, pixels still unset, with its alpha and metadata restored."""
    header, bodies = file.header, file.extras
    shape = (header.height, header.width) if header.grey else (header.height, header.width, 3)
    pixels = np.empty(shape, np.uint8 if header.depth == 8 else np.uint16)
    alpha = None
    if Extra.ALPHA in bodies:  # first, as in the file: which error is told depends on the order
        alpha = extras.unpack_alpha(bodies[Extra.ALPHA], width=header.width, height=header.height, depth=header.depth)
    icc, exif, xmp = (
        extras.unpack_metadata(bodies[kind]) if kind in bodies else None for kind in (Extra.ICC, Extra.EXIF, Extra.XMP)
    )
    return Picture(pixels, alpha, icc, exif, xmp)
