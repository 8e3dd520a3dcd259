"24_attacks, 15_refinement and 26_distal: what they leave as it was, and what does not teach."
import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jem_nb.attacks import margin, pgd, robust_accuracy, vote
from jem_nb.data import load
from jem_nb.distal import distal
from jem_nb.energy import EnergyClassifier
from jem_nb.refinement import RefinedClassifier


def seeded(seed=3): return torch.Generator().manual_seed(seed)


@pytest.fixture
def case(): # a network trained for a second, images, labels
    train, test = load('digits', 'train'), load('digits', 'test')
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        loss = F.cross_entropy(net(train.unit()), train.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.zero_grad(set_to_none=True)
    return net.eval(), test.unit()[:64], test.y[:64]


def test_the_generator_decides_and_nothing_else(case):
    net, x, y = case
    one, two, other = (pgd(net, x, y, .1, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_the_world_is_left_as_it_was(case):
    net, x, y = case
    net.train()
    world, kept = torch.get_rng_state(), x.clone()
    pgd(net, x, y, .1, generator=seeded())
    assert torch.equal(torch.get_rng_state(), world) and torch.equal(x, kept)
    assert net.training and all(p.grad is None and p.requires_grad for p in net.parameters())


def test_attacked_in_evaluation_mode(case):
    net, x, y = case
    dropping = nn.Sequential(net, nn.Dropout(.9)).train()
    attacked = pgd(dropping, x, y, .1, generator=seeded())
    assert torch.equal(attacked, pgd(net.eval(), x, y, .1, generator=seeded()))
    assert dropping.training


def test_more_restarts_only_help(case):
    net, x, y = case
    runs = [pgd(net, x, y, .1, n_steps=3, restarts=r, generator=seeded()) for r in (1, 2, 8)]
    one, two, eight = (margin(net(v), y) for v in runs)
    assert (two >= one).all() and (eight >= two).all() and (eight > one).any()


def test_more_steps_do_not_help_the_model(case):
    net, x, y = case
    left = []
    for k in (0, 1, 5, 40, 160):
        attacked = pgd(net, x, y, .1, n_steps=k, step_size=2.5 / 40, generator=seeded())
        left.append((net(attacked).argmax(1) == y).float().mean().item())
    assert all(b <= a + .05 for a, b in zip(left, left[1:])) and left[-1] < left[0] - .2


def test_batches_do_not_matter(case):
    net, x, y = case
    how = dict(random_start=False, n_steps=10)
    a, b = (robust_accuracy(net, x, y, [0., .1], batch_size=n, **how).robust for n in (16, 64))
    assert (a != b).float().mean() < .02


def refined(net, k=3, **how):
    return RefinedClassifier(EnergyClassifier(net), k, **{'step_size': .05, **how})


def test_noise_of_a_refined_classifier(case):
    net, x, _ = case
    fixed, fresh = refined(net, fixed_noise=True), refined(net)
    assert torch.equal(fixed(x), fixed(x)) and not torch.equal(fresh(x), fresh(x))
    fresh.reseed(3)
    assert torch.equal(fresh(x), refined(net, seed=3)(x))
    assert torch.equal(refined(net, 0, n_chains=3)(x), net(x))
    assert not torch.equal(refined(net, 0, data_noise=.03)(x), net(x))
    assert all(p.grad is None for p in net.parameters())


def test_equal_chains(case):
    net, x, _ = case
    four, one = (refined(net, noise_scale=0., n_chains=m)(x) for m in (4, 1))
    torch.testing.assert_close(four, one, rtol=1e-4, atol=1e-4)


def test_vote_averages_fresh_draws(case):
    net, x, _ = case
    voted = vote(refined(net, seed=3), x, 2)
    fresh = refined(net, seed=3)
    torch.testing.assert_close(voted, (fresh(x) + fresh(x)) / 2, rtol=1e-4, atol=1e-4)


def test_gradient_through_noisy_chains():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Softplus(), nn.Linear(16, 10)).double()
    noise = dict(noise_scale=.05, data_noise=.02, fixed_noise=True)
    chains = refined(net, grad='unrolled', step_size=.3, n_chains=2, **noise)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: chains(z)[:, :3], x)


def test_no_step_no_difference(case):
    net, x, y = case
    grads = []
    for grad in ('unrolled', 'straight_through'):
        z = x.clone().requires_grad_()
        loss = F.cross_entropy(refined(net, grad=grad, step_size=0., fixed_noise=True)(z), y)
        grads.append(torch.autograd.grad(loss, z)[0])
    torch.testing.assert_close(*grads)


def test_ascents_do_not_see_their_neighbours(case):
    net, x, _ = case
    start = torch.rand(10, 1, 8, 8, generator=seeded()) * 2 - 1
    together = distal(net, torch.arange(10), start, step_size=.1)
    alone = distal(net, 3, start[3:4], step_size=.1)
    torch.testing.assert_close(alone.x, together.x[3:4], rtol=0, atol=1e-3)
    assert all(p.grad is None for p in net.parameters())


def test_joint_ascent_climbs_the_logit(case):
    net, x, _ = case
    start = torch.rand(4, 1, 8, 8, generator=seeded()) * 2 - 1
    made = distal(net, 8, start, step_size=.02, objective='log_p_xy')
    assert (net(made.x)[:, 8] > net(start)[:, 8]).all()


def test_names_that_moved():
    attacks = importlib.import_module('jem_nb.attacks')
    from jem_nb.attacks import Distal, RefinedClassifier as Moved, distal as moved # noqa: F401
    assert Moved is RefinedClassifier and moved is distal
    with pytest.raises(AttributeError, match='no attribute'): attacks.nothing
