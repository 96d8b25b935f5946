"""Every objective on a Gaussian source, where the optimum is known in closed form.

Component g has variance s_g; spending R_g bits on it leaves the distortion D_g = s_g 4^-R_g, so
dR_g/dD_g = -1 / (2 ln 2 D_g): whatever weighs D against R fixes D_g.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hvcodec.errors import ConfigError
from hvcodec.model.config import lambda_of
from hvcodec.train.objectives import (
    OBJECTIVES,
    ROUNDING,
    DistortionTarget,
    Objective,
    ObservationScale,
    PerLayerBeta,
    PixelScale,
    build,
    gaussian_bits,
)
from hvcodec.train.rho import FixedRho, RhoSampler, lambdas, rho_near_bpp, rho_near_mse

LN2 = math.log(2)
VARIANCES = (0.2, 0.05, 0.01, 0.002, 0.0004)


class Source(nn.Module):
    """A Gaussian source whose rates are trained directly; `uncoded` components take no bits at all."""

    def __init__(self, variances: tuple[float, ...] = VARIANCES, uncoded: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("variances", torch.tensor(variances))
        self.uncoded = uncoded
        self.theta = nn.Parameter(torch.ones(len(variances)))

    def rates(self) -> Tensor:
        return torch.nn.functional.softplus(4 * self.theta) / 4

    def parts(self) -> Tensor:
        return self.variances * torch.exp2(-2 * self.rates())

    def outcome(self) -> tuple[Tensor, Tensor]:
        """Distortion (1,) and rates (1, G)."""
        return self.parts().sum()[None] + self.uncoded, self.rates()[None]


def train(objective: Objective, source: Source, steps: int, noise: float = 0.0) -> None:
    """Train on batches of which some are harder than others: by a factor that is 1 on average."""
    factors = 1 + noise * (2 * np.random.default_rng(0).random(steps) - 1)
    optimizer = torch.optim.Adam([*source.parameters(), *objective.parameters()], 0.02)
    for step in range(steps):
        distortion, rates = source.outcome()
        distortion = distortion * factors[step]
        loss = objective.loss(distortion, rates, objective.rho.at(step, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.02 * max(1 - step / steps, 0.02)
        optimizer.step()
        objective.update(distortion.detach(), rates.detach())


def waterfill(level: float) -> Tensor:
    return torch.tensor(VARIANCES).clamp(max=level)


def waterlevel(total: Callable[[Tensor], float], target: float) -> float:
    """The level at which something that grows with it reaches the target, by bisection."""
    low, high = 1e-9, 1.0
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if total(waterfill(middle)) < target else (low, middle)
    return low


def total_rate(parts: Tensor) -> float:
    return float((torch.tensor(VARIANCES) / parts).log2().sum() / 2)


# --- one weight, one weight for each group ----------------------------------------------------------------


def test_beta_vae_reaches_the_water_level_of_its_lambda() -> None:
    source = Source()
    train(build("beta_vae", {"rho": 12}, groups=5), source, 600)
    level = 1 / (2 * LN2 * lambda_of(12))
    # A component below the level gets no bits: softplus only comes close to that.
    torch.testing.assert_close(source.parts().detach(), waterfill(level), rtol=0.03, atol=0)


def test_per_layer_beta_gives_every_group_its_own_water_level() -> None:
    rho = torch.tensor([[10, 20, 30, 40, 55]])
    objective = PerLayerBeta(5, 0, balance=0.0)
    source = Source()

    class Fixed(FixedRho):
        def at(self, step: int, batch: int, *args: object, **kwargs: object) -> Tensor:
            return rho

    objective.rho = Fixed(5, 0)
    train(objective, source, 600)
    expected = torch.minimum(1 / (2 * LN2 * lambdas(rho[0])), torch.tensor(VARIANCES))
    torch.testing.assert_close(source.parts().detach(), expected, rtol=0.02, atol=0)


def test_balance_weighs_the_pictures_of_a_batch_against_each_other() -> None:
    distortion, rates = torch.rand(4), torch.rand(4, 5)
    rho = torch.tensor([[24] * 5, [11] * 5, [50] * 5, [63, 0, 30, 44, 5]])
    plain, balanced = PerLayerBeta(5, 0, balance=0.0), PerLayerBeta(5, 0, balance=1.0)

    def losses(objective: PerLayerBeta) -> Tensor:
        return torch.stack([objective.loss(distortion[i, None], rates[i, None], rho[i, None]) for i in range(4)])

    # An octave is 13 levels, of which the groups of strides 16 and 8 decide: 24, 11, 50, 37.
    torch.testing.assert_close(losses(balanced) / losses(plain), torch.tensor([1.0, 2.0, 0.25, 0.5]))
    torch.testing.assert_close(balanced.loss(distortion, rates, rho), losses(balanced).mean())
    half = losses(PerLayerBeta(5, 0, balance=0.5)) / losses(plain)
    torch.testing.assert_close(half, torch.tensor([1.0, 2.0, 0.25, 0.5]).sqrt())


def test_per_layer_beta_with_equal_levels_is_beta_vae() -> None:
    distortion, rates = torch.rand(7), torch.rand(7, 5)
    rho = torch.arange(7)[:, None].expand(7, 5) * 9
    one = PerLayerBeta(5, 0, balance=0.0).loss(distortion, rates, rho)
    other = build("beta_vae", {}, groups=5).loss(distortion, rates, rho)
    torch.testing.assert_close(one, other)


def test_per_layer_beta_weighs_by_the_geometric_mean_of_its_reference() -> None:
    rho = torch.tensor([[0, 0, 6, 18, 63]])
    lam = [lambda_of(level) for level in rho[0].tolist()]
    bar = math.sqrt(lam[2] * lam[3])
    expected = bar * (0.5 + sum(0.1 / value for value in lam))
    loss = PerLayerBeta(5, 0, balance=0.0).loss(torch.tensor([0.5]), torch.full((1, 5), 0.1), rho)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert PerLayerBeta(3, 0).reference == [0, 1, 2]


# --- targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["distortion_target", "geco"])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_distortion_target_is_met_at_the_least_rate(name: str, noise: float) -> None:
    target = 0.003
    source = Source()
    objective = build(name, {"mse": target}, groups=5)
    train(objective, source, 1200, noise)
    reached = source.parts().detach()
    assert float(reached.sum()) == pytest.approx(target, rel=0.03)
    level = waterlevel(lambda parts: float(parts.sum()), target)
    assert total_rate(reached) == pytest.approx(total_rate(waterfill(level)), abs=0.1)
    assert abs(float(objective.report()["excess"])) < 0.03 + noise / 5


def test_the_lagrangian_starts_near_one_and_stays_in_its_limits() -> None:
    objective = DistortionTarget(5, 0, mse=0.01, speed=0.5)
    assert float(objective.multiplier) == pytest.approx(0.9999)
    seen = []
    for distortion in (0.001, 0.001, 0.001, 0.001, 0.9, 0.9, 0.9, 0.9):
        objective.update(torch.tensor([distortion]), torch.zeros(1, 5))
        seen.append(float(objective.multiplier))
    assert min(seen) == pytest.approx(1e-4)
    assert seen[-1] == pytest.approx(0.9999)


def test_the_first_step_of_the_multiplier_has_the_length_of_its_speed() -> None:
    # Adam with beta1 = 0 and bias correction: the first gradient is divided by its own size.
    objective = DistortionTarget(5, 0, mse=0.01, speed=0.01)
    objective.update(torch.tensor([0.004]), torch.zeros(1, 5))
    assert float(objective.multiplier) == pytest.approx(0.9999 - 0.01, abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_total_rate_is_met_at_the_least_distortion(noise: float) -> None:
    source = Source()
    train(build("rate_target", {"bpp": 6.0, "rho": 24}, groups=5), source, 1200, noise)
    reached = source.parts().detach()
    assert total_rate(reached) == pytest.approx(6.0, rel=0.03)
    level = waterlevel(lambda parts: -total_rate(parts), -6.0)
    assert float(reached.sum()) == pytest.approx(float(waterfill(level).sum()), rel=0.05)


@pytest.mark.parametrize("damped", [{}, {"damping": 1.0, "speed": 0.03}])
def test_a_rate_for_each_layer_is_met(damped: dict[str, float]) -> None:
    targets = [0.5, 2.0, 1.0, 0.25, 1.5]
    source = Source()
    objective = build("rate_target", {"bpp": targets, "rho": 40, **damped}, groups=5)
    train(objective, source, 1500)
    torch.testing.assert_close(source.rates().detach(), torch.tensor(targets), rtol=0.03, atol=0)
    # Reverse water-filling turned round: each multiplier is the slope 2 ln2 lambda D_g at its target.
    slopes = 2 * LN2 * lambda_of(40) * source.parts().detach()
    torch.testing.assert_close(objective.report()["multiplier"], slopes, rtol=0.05, atol=0)


def test_damping_answers_the_present_excess() -> None:
    objective = build("rate_target", {"bpp": 0.5, "rho": 32, "speed": 0.1, "damping": 3.0}, groups=5)
    plain = build("rate_target", {"bpp": 0.5, "rho": 32, "speed": 0.1}, groups=5)
    distortion, rates, rho = torch.tensor([0.001]), torch.full((1, 5), 0.12), torch.full((1, 5), 32)  # a fifth above
    for one in (objective, plain):
        one.update(distortion, rates)
    pull, m = (one.loss(torch.zeros(1), rates, rho) / rates.sum() for one in (objective, plain))
    assert float(m) == pytest.approx(math.exp(0.1 * 0.2), rel=1e-4)
    assert float(pull) == pytest.approx(math.exp((0.1 + 3.0) * 0.2), rel=1e-4)


def test_calibration_meets_the_target_where_it_is_validated() -> None:
    # Validation pictures are a quarter harder than training crops: aim lower by as much.
    source = Source()
    objective = build("geco", {"mse": 0.003}, groups=5)
    distortion, rates = source.outcome()
    objective.calibrate(distortion.detach(), rates.detach())  # before any step: nothing to compare
    for _ in range(6):
        train(objective, source, 250)
        distortion, rates = (t.detach() for t in source.outcome())
        objective.calibrate(1.25 * distortion, rates)
    train(objective, source, 250)
    assert 1.25 * float(source.parts().detach().sum()) == pytest.approx(0.003, rel=0.03)


@pytest.mark.parametrize("name", ["distortion_target", "geco", "rate_target"])
def test_a_batch_that_is_not_finite_leaves_no_trace(name: str) -> None:
    objective = build(name, PARAMS[name], groups=5)
    for bad in (math.nan, math.inf):
        objective.update(torch.tensor([bad]), torch.full((1, 5), bad))  # as the very first batch as well
        for _ in range(3):
            objective.update(torch.tensor([0.002]), torch.full((1, 5), 0.2))
    assert all(bool(torch.isfinite(value).all()) for value in objective.state_dict().values())
    assert float(objective.report()["excess"]) > 0.5


# --- learned observation scale ----------------------------------------------------------------------------


def test_one_scale_finds_the_variance_of_probabilistic_pca() -> None:
    # Maximum likelihood gives the mean of the variances that are not coded, and codes the rest down to it.
    coded = VARIANCES[:3]
    source = Source(coded)
    source.uncoded = 3 * 0.0003
    objective = ObservationScale(3, 0, rho=20)
    optimizer = torch.optim.Adam([*source.parameters(), *objective.parameters()], 0.01)
    for step in range(1500):
        total, bits = source.outcome()
        dimensions = 6  # three coded, three of variance 0.0003 not coded
        # The objective counts 3 dimensions for each bit of rate given; here there are 6.
        loss = objective.loss(total / dimensions, bits * 3 / dimensions, objective.rho.at(step, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    variance = float(objective.report()["sigma"]) ** 2
    assert variance == pytest.approx(0.0003 + 2 * ROUNDING, rel=0.03)
    torch.testing.assert_close(source.parts().detach(), torch.full((3,), variance), rtol=0.03, atol=0)


def test_pixel_scale_learns_where_the_picture_is_uncertain() -> None:
    torch.manual_seed(0)
    reconstruction = torch.full((4, 3, 16, 16), 0.2)
    reconstruction[..., 8:] = 0.8
    variance = torch.where(reconstruction[:, :1] < 0.5, 1e-4, 4e-3)
    objective = PixelScale(5, 0)
    optimizer = torch.optim.Adam(objective.parameters(), 2e-3)
    rates = torch.full((4, 5), 0.3)
    for step in range(500):
        pixels = reconstruction + variance.sqrt() * torch.randn_like(reconstruction)
        distortion = objective.distortion(pixels, reconstruction)
        loss = objective.loss(distortion, rates, objective.rho.at(step, 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = gaussian_bits(variance, (variance + ROUNDING).log()).mean() + 1.5 / 3
    distortion = torch.stack(
        [
            objective.distortion(reconstruction + variance.sqrt() * torch.randn_like(reconstruction), reconstruction)
            for _ in range(20)
        ]
    ).mean(dim=0)
    reached = float(objective.loss(distortion, rates, objective.rho.at(0, 4)).detach())
    assert reached == pytest.approx(float(best), abs=0.1)
    one_scale = gaussian_bits(variance.mean(), variance.mean().log()) + 1.5 / 3
    assert reached < float(one_scale) - 0.3


def test_gaussian_bits_bound_the_exact_cost_of_a_sample() -> None:
    # Exact: minus log2 of the mass between two neighbouring 8-bit values.
    for sigma in (0.5, 1.0, 4.0, 30.0):
        for error in (0.0, sigma, 3 * sigma):
            normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), sigma)
            upper, lower = (torch.tensor(error + d, dtype=torch.float64) for d in (0.5, -0.5))
            exact = -float((normal.cdf(-lower) - normal.cdf(-upper)).log2())
            log_variance = torch.tensor(2 * math.log(sigma / 255))
            bits = float(gaussian_bits(torch.tensor((error / 255) ** 2), log_variance))
            assert bits > exact - 1e-3
            if sigma >= 4:
                assert bits < exact + 0.1


# --- rate vectors -----------------------------------------------------------------------------------------


def test_rate_vectors_are_half_together_and_cover_all_levels() -> None:
    rho = RhoSampler(5, 3).at(0, 20_000)
    assert rho.shape == (20_000, 5)
    assert rho.dtype == torch.int64
    assert int(rho.min()) == 0
    assert int(rho.max()) == 63
    together = (rho == rho[:, :1]).all(dim=1)
    assert float(together.float().mean()) == pytest.approx(0.5, abs=0.02)
    counts = torch.bincount(rho[together, 0], minlength=64).float()
    assert counts.min() > 0.6 * counts.mean()
    inner = rho[~together & (rho > 20).all(dim=1) & (rho < 44).all(dim=1)].float()
    assert float((inner[:, 0] - inner[:, 1]).std()) > 5


def test_rate_vectors_depend_on_step_and_seed_alone() -> None:
    sampler = RhoSampler(5, 3)
    assert torch.equal(sampler.at(9, 8), RhoSampler(5, 3).at(9, 8))
    assert not torch.equal(sampler.at(9, 8), sampler.at(10, 8))
    assert not torch.equal(sampler.at(9, 8), RhoSampler(5, 4).at(9, 8))
    ranks = [sampler.at(9, 4, rank=rank, world=2) for rank in (0, 1)]
    assert torch.equal(torch.cat(ranks), sampler.at(9, 8))


def test_start_levels_follow_the_measured_curve() -> None:
    # Exploratory run: lambda 512 (level 24) gave 31.98 dB at 0.480 bpp.
    assert abs(rho_near_mse(10**-3.198) - 24) <= 2
    assert abs(rho_near_bpp(0.480) - 24) <= 3
    assert rho_near_mse(1.0) == 0
    assert rho_near_bpp(50.0) == 63


# --- building and resuming --------------------------------------------------------------------------------

PARAMS: dict[str, dict[str, object]] = {
    "distortion_target": {"mse": 0.001},
    "geco": {"mse": 0.001},
    "rate_target": {"bpp": 0.5},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_a_batch_of_pictures_and_resumes(name: str) -> None:
    torch.manual_seed(1)
    objective = build(name, PARAMS.get(name, {}), groups=5)
    fresh = build(name, PARAMS.get(name, {}), groups=5)
    pixels, rates = torch.rand(3, 3, 8, 8), torch.rand(3, 5)
    reconstruction = (pixels + 0.1 * torch.randn_like(pixels)).requires_grad_()
    rho = objective.rho.at(0, 3)
    distortion = objective.distortion(pixels, reconstruction)
    assert distortion.shape == (3,)
    loss = objective.loss(distortion, rates, rho)
    assert loss.shape == ()
    loss.backward()
    assert reconstruction.grad is not None
    assert reconstruction.grad.abs().sum() > 0
    for _ in range(3):
        objective.update(distortion.detach(), rates)
    fresh.load_state_dict(objective.state_dict())
    for piece in (objective, fresh):
        piece.update(distortion.detach(), rates)
    again = [piece.loss(piece.distortion(pixels, reconstruction), rates, rho) for piece in (objective, fresh)]
    assert torch.equal(again[0], again[1])
    assert all(not value.requires_grad for value in objective.report().values())


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("beta-vae", {}, "unknown objective 'beta-vae'; did you mean 'beta_vae'"),
        (
            "geco",
            {"mse": 0.1, "sped": 1},
            "unknown parameter 'sped' of objective 'geco'; did you mean 'speed'",
        ),
        ("geco", {}, "missing 1 required keyword-only argument: 'mse'"),
        ("geco", {"mse": -1.0}, "a target must be positive"),
        ("beta_vae", {"rho": 64}, "rho must lie in 0..63, not 64"),
        ("rate_target", {"bpp": [1.0, 2.0]}, "bpp must be one number or 5"),
        ("per_layer_beta", {"reference": [5]}, "reference must name some of the groups 0..4"),
        (
            "per_layer_beta",
            {"reference": [1.5]},
            "'reference' of objective 'per_layer_beta' must be a list, each a whole",
        ),
        ("per_layer_beta", {"balance": math.nan}, "'balance' of objective 'per_layer_beta' must be a finite number"),
        ("per_layer_beta", {"together": "a"}, "must be a finite number, not 'a'"),
        ("per_layer_beta", {"together": -3}, "together must lie in 0..1"),
        ("per_layer_beta", {"spread": -3}, "spread in 0..64"),
        ("per_layer_beta", {"spread": 1e30}, "spread in 0..64"),
        ("per_layer_beta", {"balance": 10**400}, "must be a finite number"),
        ("distortion_target", {"mse": 1e-3, "beta2": 1.0}, "beta2 must lie in 0..1, below 1"),
        ("geco", {"mse": 1e-3, "speed": -0.1}, "speed must be positive"),
        ("rate_target", {"bpp": 1, "damping": -1.0}, "damping must not be negative"),
        ("observation_scale", {"stretch": 0}, "stretch must be positive"),
        ("beta_vae", {"rho": 3.5}, "must be a whole number, not 3.5"),
        ("beta_vae", {"rho": True}, "must be a whole number, not True"),
        ("rate_target", {"bpp": [0.1, "x", 1, 1, 1]}, "must be a finite number or a list, each a finite number"),
        ("pixel_scale", {"width": 0}, "width and stretch must be positive"),
    ],
)
def test_a_wrong_objective_is_a_config_error(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, params, groups=5)
