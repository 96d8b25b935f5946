"""The models that come with hvcodec: small enough, each with its profiles, and good at what the profiles are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvcodec import Encoded, Picture, catalog, image
from hvcodec.api import compress, decompress
from hvcodec.codec import Codec
from hvcodec.errors import TargetError
from hvcodec.rate import Bpp, Bytes

PARROTS = Path(__file__).resolve().parents[2] / "examples" / "parrots.png"
PROFILES = {"default": {"equal", "psnr", "preview"}, "perceptual": {"equal", "perceptual"}}


@pytest.fixture(autouse=True)
def _as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (catalog.DEFAULT_VARIABLE, catalog.SEARCH_PATH_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


def test_each_model_is_small_and_has_its_profiles() -> None:
    entries = catalog.installed()
    assert {entry.name: set(catalog.profile_names(entry)) for entry in entries} == PROFILES
    assert all(entry.path.stat().st_size <= 25e6 for entry in entries)
    assert catalog.find_for("perceptual").stem == "perceptual"
    assert catalog.find_for("psnr") == catalog.find_for(None) == catalog.find("default")


def test_each_profile_is_better_at_what_it_is_for() -> None:
    picture = image.read(PARROTS)
    by_profile = {
        name: Codec(catalog.find_for(name), device="cpu").compress(picture, profile=name, target=Bytes(20_000))
        for name in ("psnr", "perceptual")
    }
    psnr, perceptual = by_profile["psnr"], by_profile["perceptual"]
    assert perceptual.ssimulacra2 > psnr.ssimulacra2 + 4
    assert psnr.psnr_db > perceptual.psnr_db + 0.3


def test_a_size_counts_what_the_picture_can_have_of_it() -> None:
    """Of a file that holds much else, the window is 3 % of the rest: the lowest rate must not pass for a hit."""
    codec = Codec(catalog.find("default"), device="cpu")
    pixels = np.ascontiguousarray(image.read(PARROTS).pixels[128:320, 256:512])
    picture = Picture(pixels, icc=np.random.default_rng(0).bytes(20_000))
    rest = codec.compress(Picture(pixels), target=Bytes(3_000))
    for target in (Bytes(23_000), Bpp(23_000 * 8 / (256 * 192))):
        whole = codec.compress(picture, target=target)
        assert 22_900 < whole.n_bytes <= 23_000
        assert whole.psnr_db > rest.psnr_db - 0.3
    with pytest.raises(TargetError, match=r"no setting gives 20010 bytes: .*quality 0"):
        codec.compress(picture, target=Bytes(20_010))


def test_no_search_rounds_away_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model for the eye has the nearest integers as symbols: less trim than none doubles its files, for nothing."""
    codec, trims = Codec(catalog.find_for("perceptual"), device="cpu"), []
    encode = codec.encode

    def recording(*args: Any, **options: Any) -> Encoded:
        trims.append(options["trim"])
        return encode(*args, **options)

    monkeypatch.setattr(codec, "encode", recording)
    picture = image.read(PARROTS)
    small = Picture(np.ascontiguousarray(picture.pixels[128:384, 256:512]))
    for n_bytes in range(3_000, 6_000, 200):
        codec.compress(small, target=Bytes(n_bytes))
    assert min(trims) == 0 < max(trims)


def test_a_profile_takes_its_model_along() -> None:
    data = compress(PARROTS, profile="perceptual", quality=20)
    assert np.asarray(decompress(data)).shape == (512, 768, 3)
    assert data != compress(PARROTS, profile="psnr", quality=20)
    with pytest.raises(ValueError, match="default has no rate profile 'perceptual'"):
        compress(PARROTS, profile="perceptual", model="default")
