"What 08_ais promises beyond its page: moves that keep a density, walls, shapes of images."
import math

import torch
from torch.testing import assert_close

from jem_nb.ais import anneal, fold, hmc, log_mean_exp


def seeded(seed=0): return torch.Generator().manual_seed(seed)


def test_log_mean_exp():
    v = torch.tensor([1., 2., 3.])
    assert abs(log_mean_exp(v) - v.exp().mean().log().item()) < 1e-6
    assert abs(log_mean_exp(v + 1000) - log_mean_exp(v) - 1000) < 1e-3


def test_fold_is_a_fan():
    "Folding twice changes nothing, and a width of the fan is four half widths of the box."
    z = 20 * torch.rand(1000, generator=seeded()) - 10
    for c in (.5, 1., 3.):
        x = fold(z, c)
        assert x.abs().max() <= c + 1e-5
        assert_close(fold(x, c), x)
        assert_close(fold(z + 4 * c, c), x, atol=2e-5, rtol=0)


def test_moves_keep_a_uniform_density():
    "Under a flat energy every move is accepted, and uniform points stay uniform, walls included."
    x = 2 * torch.rand(20_000, 3, generator=seeded()) - 1
    x, e, chance = hmc(lambda x: 0 * x.sum(1), x, 1., .7, seeded(1))
    assert chance == 1 and e.abs().max() == 0
    share = torch.histc(x[:, 0], 10, -1, 1) / len(x)
    assert (share - .1).abs().max() < 4.5 * (.09 / len(x))**.5


def test_moves_keep_a_gaussian_density():
    g = seeded()
    x = torch.randn(20_000, 2, generator=g) * .1
    for _ in range(3): x, _, chance = hmc(lambda x: x.square().sum(1) / .02, x, 1., .1, g)
    assert .5 < chance < 1
    assert abs(x.std().item() - .1) < 4 * .1 / (2 * x.numel())**.5


def test_a_bad_leap_is_refused():
    "An energy that is not a number somewhere is a place where no walk goes."
    def half(x): return torch.where(x[:, 0] > 0, x[:, 0].log(), torch.log(-torch.ones(len(x))))
    x, _, _ = hmc(half, torch.full((500, 1), .5), 1., .3, seeded())
    assert (x > 0).all() and (x != .5).any()


def test_infinite_energy_is_never_accepted():
    "Whatever the coin shows, an exact zero included."
    def wall(x): return torch.where(x[:, 0] > 0, 0 * x[:, 0], torch.inf)
    for seed in range(20):
        x, e, _ = hmc(wall, torch.full((5000, 1), .5), 1., .3, seeded(seed))
        assert (x > 0).all() and e.isfinite().all()


def test_images():
    "A flat energy of images has the volume of its box, from both ends, whatever the shape."
    flat = dict(energy=lambda x: 0 * x.flatten(1).sum(1) + 2, shape=(1, 4, 4), n=8)
    betas = torch.linspace(0, 1, 5)
    exact = 16 * math.log(2.4) - 2
    for samples in (None, torch.zeros(8, 1, 4, 4)):
        found = anneal(**flat, betas=betas, generator=seeded(), c=1.2, samples=samples)
        assert abs(found.log_z - exact) < 1e-3 and found.error < 1e-4 and found.ess > 7.99
        assert found.x.shape == (8, 1, 4, 4) and len(found.chance) == 3


def test_order_of_the_steps():
    "Few rungs: too low from the uniform density, too high from exact samples, by several nats."
    def gaussian(x): return x.flatten(1).square().sum(1) / (2 * .2**2)
    betas, exact = torch.linspace(0, 1, 9)**3, 8 * math.log(2 * math.pi * .2**2)
    samples = .2 * torch.randn(400, 1, 4, 4, generator=seeded(5))
    def walk(x): return anneal(gaussian, (1, 4, 4), 400, betas, seeded(), c=1.5, samples=x)
    below, above = walk(None), walk(samples)
    assert below.log_z < exact - .2 and above.log_z > exact + .2
    assert above.log_z - below.log_z < 30
