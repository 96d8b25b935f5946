"""What all tests share: one thread, seeds, tiny models, and how long hypothesis searches."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from hvcodec.catalog import DEFAULT_VARIABLE, SEARCH_PATH_VARIABLE
from hvcodec.codec import Codec
from hvcodec.entropy import Tables
from hvcodec.model import Model, tiny_config
from hvcodec.model.weights import save_weights
from hvcodec.rate import Knot, Profile

GOLDEN_MODEL = Path(__file__).parent / "golden" / "models" / "tiny.safetensors"

torch.set_num_threads(1)

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

PROFILE = Profile(
    "psnr",
    "a made-up path for tests",
    (Knot(0.0, (20, 16, 10, 4, 0)), Knot(50.0, (40, 36, 30, 24, 20)), Knot(100.0, (63,) * 5)),
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The weights of a tiny model, which is also what `tiny` and `default` stand for while tests run."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    torch.manual_seed(0)
    save_weights(path, Model(tiny_config()), Tables.logistic())
    path.with_suffix(".profiles.json").write_text(json.dumps([PROFILE.to_dict()]), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SEARCH_PATH_VARIABLE, str(path.parent))
        patch.setenv(DEFAULT_VARIABLE, "tiny")
        yield path


@pytest.fixture(scope="session")
def tiny_codec() -> Codec:
    """The golden model on the processor: a tiny one that compresses, always the same (golden/make_model.py)."""
    return Codec(GOLDEN_MODEL, device="cpu")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
