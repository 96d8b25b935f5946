"""Refinement of one picture's features: it pays, it stops when told, tiles fit together, and decoders do not notice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import picture

from hvcodec import codec as codec_module
from hvcodec.codec import ITERATIONS, Codec
from hvcodec.model import refine, strips
from hvcodec.model.config import lambda_of
from hvcodec.model.perceptual import error_map
from hvcodec.model.weights import save_weights
from hvcodec.picture import Picture

LEVEL = 24
GOLDEN_MODEL = Path(__file__).parents[1] / "golden" / "models" / "tiny.safetensors"


def rows_of(codec: Codec, shown: Picture) -> strips.PixelRows:
    return codec._pixel_rows([shown])


def cost(codec: Codec, shown: Picture, effort: int) -> float:
    """R + lambda D of the real file, in bits per pixel."""
    encoded = codec.encode(shown, [LEVEL] * 5, effort=effort)
    return encoded.bpp + lambda_of(LEVEL) * 10 ** (-encoded.psnr_db / 10)


def test_effort_pays(tiny_codec: Codec) -> None:
    shown = picture(192, 128, seed=3)
    none, plain, little, much = (cost(tiny_codec, shown, effort) for effort in (0, 1, 3, 6))
    assert plain < none
    assert little < plain
    assert much < plain


def test_a_model_for_the_eye_is_refined_for_the_eye(tiny_codec: Codec, tmp_path: Path) -> None:
    shares = {"ms_ssim": 0.3, "ssimulacra2": 0.5}
    save_weights(tmp_path / "eye.safetensors", tiny_codec.model, tiny_codec.tables, shares)
    eye = Codec(tmp_path / "eye.safetensors", device="cpu")
    assert (eye.distortion, tiny_codec.distortion) == (shares, {})
    assert eye.model_id == tiny_codec.model_id  # what an encoder aims at is no affair of the decoder's
    shown = picture(192, 128, seed=3)

    def cost_to_the_eye(codec: Codec, effort: int) -> float:
        encoded = codec.encode(shown, [LEVEL] * 5, effort=effort)
        original, decoded = (
            torch.from_numpy(p.pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
            for p in (shown, encoded.decoded())
        )
        return encoded.bpp + lambda_of(LEVEL) * float(error_map(original, decoded, shares).mean())

    assert eye.encode(shown, [LEVEL] * 5).data == tiny_codec.encode(shown, [LEVEL] * 5, effort=0).data
    assert cost_to_the_eye(eye, 4) < 0.99 * cost_to_the_eye(eye, 1)
    assert cost_to_the_eye(eye, 4) < cost_to_the_eye(tiny_codec, 4)


STEPS = 14
GROUPS = 5


def descent_of(codec: Codec, shown: Picture, steps: int = STEPS) -> refine._Descent:
    pixels = rows_of(codec, shown)(0, shown.height)
    return refine._Descent(refine.Task(codec.model, torch.full((1, GROUPS), float(LEVEL))), pixels, steps)


def test_the_best_is_kept_and_never_worse_than_the_start(tiny_codec: Codec) -> None:
    shown = picture(192, 128, seed=4)
    descent = descent_of(tiny_codec, shown)
    costs: list[float] = []
    cells: dict[int, list[torch.Tensor]] = {}
    for _ in range(STEPS + 1):
        descent.step()
        costs.append(float(descent.cost))
        cells.setdefault(descent.group, []).append(descent.lowest)
    assert list(cells) == list(range(GROUPS))
    assert all((b <= a).all() for of_group in cells.values() for a, b in itertools.pairwise(of_group))
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]
    chosen = descent.finish()
    assert float(descent.cost) <= costs[-1]
    again = descent_of(tiny_codec, shown)
    again.nudges = chosen
    again.step()
    assert float(again.cost) == pytest.approx(float(descent.cost), rel=1e-5)


@pytest.mark.parametrize(("group", "cell"), [(0, 64), (3, 8)])
def test_each_cell_decides_for_itself(tiny_codec: Codec, group: int, cell: int) -> None:
    descent = descent_of(tiny_codec, picture(384, 64, seed=6))
    while descent.group < group or descent.steps == 0:
        descent.step()
    assert descent.lowest.shape == (1, 1, 64 // cell, 384 // cell)
    before = descent.best[-1]
    descent.nudges = [nudge + 0.5 for nudge in descent.best]
    descent.lowest = torch.full_like(descent.lowest, math.inf)
    descent.lowest[..., -1] = 0.0  # cannot be better than that
    descent.step()
    is_changed = descent.best[-1] != before
    last = cell // 4  # positions at the finest stride
    assert is_changed[..., :-last].all()
    assert not is_changed[..., -last:].any()


def test_all_cells_move_at_first_then_some_of_them(tiny_codec: Codec) -> None:
    descent = descent_of(tiny_codec, picture(192, 128, seed=4), steps=50)
    shares: dict[int, list[float]] = {}
    for _ in range(51):
        descent.step()
        shares.setdefault(descent.group, []).append(float(descent.moves.float().mean()))
    for group in (3, 4):  # which have hundreds of cells
        first, later = shares[group][: refine.AT_ONCE], shares[group][refine.AT_ONCE :]
        assert set(first) == {1.0}
        assert all(share < refine.MOVING + 0.1 for share in later)  # those that go back do not move either
        assert max(later) > refine.MOVING - 0.1


def test_coarse_groups_rest_while_finer_ones_move(tiny_codec: Codec) -> None:
    descent = descent_of(tiny_codec, picture(192, 128, seed=4))
    moved: dict[int, list[bool]] = {}
    for _ in range(STEPS + 1):
        descent.step()
        moved[descent.group] = [
            not torch.equal(now, best) for now, best in zip(descent.nudges, descent.chosen, strict=True)
        ]
    for group, of_group in moved.items():
        assert not any(of_group[:group])
        assert all(of_group[group:])


@pytest.mark.parametrize("group", range(GROUPS))
def test_what_latents_see_strongly_moves_no_further_than_the_rest(tiny_codec: Codec, group: int) -> None:
    transform = tiny_codec.model.transform
    latents = list(transform.rung(group).latents)
    with torch.no_grad():
        condition = transform.condition(torch.full((2, GROUPS), float(LEVEL)))
        gains = [step.gain.clone() for step in condition.steps]
        gains[latents[0].index][1, 0] /= 10  # in the second picture
        condition = condition._replace(
            steps=tuple(step._replace(gain=gain) for step, gain in zip(condition.steps, gains, strict=True))
        )
        basis = torch.cat([x.analysis[..., 0, 0] / gains[x.index][..., 0] for x in latents], dim=1)
        evened = basis @ refine._evened(latents, condition)
    before, after = torch.linalg.svdvals(basis), torch.linalg.svdvals(evened)
    assert before[1, 0] > 6 * before[1, -1]
    assert (after[:, 0] < 1.6 * after[:, -1]).all()
    assert torch.allclose(after.norm(dim=1), before.norm(dim=1), rtol=1e-3)  # steps as long as before


def stopping_after(count: int) -> tuple[Callable[[float], bool], list[float]]:
    told: list[float] = []

    def go_on(done: float) -> bool:
        told.append(done)
        return len(told) <= count

    return go_on, told


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
def test_the_mode_of_the_caller_does_not_matter(
    mode: Callable[[], AbstractContextManager[object]], tiny_codec: Codec
) -> None:
    shown, mask = picture(64, 64, seed=5), np.full((64, 64), 99, np.uint8)
    expected = tiny_codec.encode(shown, [LEVEL] * 5, effort=2, roi=mask, masking=0.5)
    codec_module._load.cache_clear()
    with mode():
        fresh = Codec(GOLDEN_MODEL, device="cpu")
        inside = fresh.encode(shown, [LEVEL] * 5, effort=2, roi=mask, masking=0.5)
    afterwards = fresh.encode(shown, [LEVEL] * 5, effort=2, roi=mask, masking=0.5)
    assert inside.data == afterwards.data == expected.data


def test_it_stops_when_told(tiny_codec: Codec) -> None:
    shown = picture(64, 64, seed=5)
    go_on, told = stopping_after(3)
    stopped = tiny_codec.encode(shown, [LEVEL] * 5, effort=9, go_on=go_on)
    assert len(told) == 4
    assert np.array_equal(tiny_codec.decode(stopped.data).pixels, stopped.decoded().pixels)


def test_progress_rises_to_the_end(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "TILE", 64)
    go_on, told = stopping_after(10**9)
    tiny_codec.encode(picture(100, 100, seed=5), [LEVEL] * 5, effort=2, go_on=go_on)
    assert len(told) == 4 * (ITERATIONS[2] + 1) + 1
    assert told == sorted(told) and told[0] == 0 and 0.9 < told[-2] < told[-1] == 1


def test_tiles_cover_the_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "TILE", 128)
    for side in (64, 128, 192, 448):
        covered = np.zeros(side // 4, int)
        for tile in refine._tiles(side):
            for stride in (64, 32, 16, 8, 4):
                own, keep = tile.place(stride)
                assert own.stop - own.start == keep.stop - keep.start
                assert keep.start * stride + tile.read.start == tile.own.start
            covered[tile.place(4)[0]] += 1
            assert tile.read.start >= 0 and tile.read.stop <= side
        assert (covered == 1).all()


def test_tiles_are_as_good_as_the_whole(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = picture(256, 192, seed=6)
    plain, whole = cost(tiny_codec, shown, 1), cost(tiny_codec, shown, 3)
    monkeypatch.setattr(refine, "TILE", 64)
    assert cost(tiny_codec, shown, 3) == pytest.approx(whole, rel=0.02)
    assert cost(tiny_codec, shown, 3) < plain


def test_strips_use_the_nudges_of_their_rows(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = picture(96, 320, seed=7)
    rho = torch.full((1, 5), float(LEVEL))
    pixels = rows_of(tiny_codec, shown)
    with torch.no_grad():
        nudges = [
            np.random.default_rng(g).normal(0, 0.02, (1, s.width, 320 // s.stride, 128 // s.stride)).astype(np.float16)
            for g, s in enumerate(tiny_codec.model.config.stages)
        ]
        choice = strips.Choice(nudges=nudges)
        whole = strips.analyze(tiny_codec.model, pixels, rho, 320, 128, choice).symbols
        plain = strips.analyze(tiny_codec.model, pixels, rho, 320, 128).symbols
        monkeypatch.setattr(strips, "STRIP_PIXELS", 128 * 64)
        cut = strips.analyze(tiny_codec.model, pixels, rho, 320, 128, choice).symbols
    differing = sum(int((a != b).sum()) for a, b in zip(whole, cut, strict=True))
    assert differing <= 0.001 * sum(a.size for a in whole)  # float sums at the borders of rounding
    assert any(not np.array_equal(a, b) for a, b in zip(whole, plain, strict=True))


def test_important_pixels_get_the_bits(tiny_codec: Codec) -> None:
    noise = np.random.default_rng(8).uniform(0.2, 0.8, (128, 128, 3))
    shown = picture(128, 128, values=noise)
    rho = torch.full((1, 5), 40.0)
    pixels = rows_of(tiny_codec, shown)
    importance = torch.full((1, 1, 128, 128), 0.1)
    importance[..., :64] = 1.0
    with torch.no_grad():
        alike = strips.analyze(tiny_codec.model, pixels, rho, 128, 128).symbols
    nudges = refine.refine(refine.Task(tiny_codec.model, rho, importance=importance), pixels, 128, 128, 6)
    with torch.no_grad():
        choice = strips.Choice(nudges=nudges, importance=importance)
        weighed = strips.analyze(tiny_codec.model, pixels, rho, 128, 128, choice).symbols

    def spent(symbols: list[np.ndarray], side: int) -> int:
        return sum(int(np.abs(np.array_split(layer, 2, axis=3)[side]).sum()) for layer in symbols)

    assert spent(weighed, 1) < 0.8 * spent(alike, 1)
    assert spent(weighed, 0) > 0.9 * spent(alike, 0)


@pytest.mark.parametrize("effort", [0, 2, 4])
def test_files_of_every_effort_decode_to_what_the_encoder_expects(tiny_codec: Codec, effort: int) -> None:
    pictures = [picture(70, 90, seed=i) for i in range(2)]
    for encoded in tiny_codec.encode_batch(pictures, [[LEVEL] * 5, [40] * 5], effort=effort):
        assert np.array_equal(tiny_codec.decode(encoded.data).pixels, encoded.decoded().pixels)
        assert math.isfinite(encoded.psnr_db)


@pytest.mark.parametrize("effort", [-1, 10, 2.5])
def test_other_efforts_do_not_exist(tiny_codec: Codec, effort: float) -> None:
    with pytest.raises(ValueError, match=r"effort must be a whole number 0\.\.9"):
        tiny_codec.encode(picture(64, 64), [LEVEL] * 5, effort=effort)  # type: ignore[arg-type]
