"24_attacks: what it leaves as it was, and what does not teach."
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jem_nb.attacks import _inside, margin, pgd, robust_accuracy, vote
from jem_nb.data import load
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


class BlindTo(nn.Module):
    "The network, with no gradient on images of some classes: an attacker who cannot see those."
    def __init__(self, net, classes):
        super().__init__()
        self.net, self.classes = net, torch.tensor(classes)

    def forward(self, x):
        logits = self.net(x)
        seen = ~torch.isin(logits.argmax(1, keepdim=True), self.classes)
        return torch.where(seen, logits, logits.detach())


def test_what_one_attacker_misses_another_breaks(case):
    "Every image counts as broken that falls to any attacker, in whichever order they come."
    net, x, y = case
    even, odd = BlindTo(net, [1, 3, 5, 7, 9]), BlindTo(net, [0, 2, 4, 6, 8])
    how = dict(norm='linf', random_start=False, n_steps=20)
    def left(*attackers):
        return robust_accuracy(net, x, y, [.3], attackers=attackers, **how).robust[0]

    clean = net(x).argmax(1) == y
    assert not left(net).any()                             # a whole attacker breaks everything
    assert torch.equal(left(even), clean & (y % 2 == 1))   # half an attacker one half
    assert torch.equal(left(odd), clean & (y % 2 == 0))
    assert not left(even, odd).any() and not left(odd, even).any()


@pytest.mark.parametrize('norm', ('linf', 'l2'))
def test_an_attack_that_leaves_the_ball_is_refused(case, monkeypatch, norm):
    model, x, y = case
    class Faulty:
        def run(self, victim, x, goal, epsilon): # uniformly further than it may
            step = torch.ones_like(x)
            size = 1 if norm == 'linf' else step[0].norm()
            return x / 4 + 1.01 * epsilon * step / size
    monkeypatch.setattr('jem_nb.attacks._attack', lambda *_: Faulty())
    with pytest.raises(RuntimeError, match='came back'):
        pgd(model, x / 4, y, .1, norm, generator=torch.Generator().manual_seed(0))

@pytest.mark.parametrize('norm', ('linf', 'l2'))
def test_one_pixel_that_is_no_number_is_refused(case, norm):
    _, x, _ = case
    broken = x.clone()
    broken[0, 0, 0, 0] = float('nan')
    with pytest.raises(RuntimeError, match='came back'): _inside(broken, x, .1, norm)


def test_an_attack_that_leaves_the_box_is_refused(case, monkeypatch):
    model, x, y = case
    class Faulty:
        def run(self, victim, x, goal, epsilon): return torch.full_like(x, 1.1)
    monkeypatch.setattr('jem_nb.attacks._attack', lambda *_: Faulty())
    with pytest.raises(RuntimeError, match='came back'):
        pgd(model, torch.ones_like(x), y, .1, generator=torch.Generator().manual_seed(0))


def test_vote_averages_fresh_draws(case):
    net, x, _ = case
    noisy = RefinedClassifier(EnergyClassifier(net), 3, .05, seed=3)
    voted = vote(noisy, x, 2)
    noisy.reseed(3)
    torch.testing.assert_close(voted, (noisy(x) + noisy(x)) / 2, rtol=1e-4, atol=1e-4)


MOVED = """
from jem_nb.attacks import *
from jem_nb.attacks import Distal as D, RefinedClassifier as R, distal as d
import jem_nb.attacks, jem_nb.distal, jem_nb.refinement
from jem_nb.distal import distal as function
assert (Distal, RefinedClassifier, distal) == (D, R, d)
assert (D, d, d) == (jem_nb.distal.Distal, jem_nb.distal.distal, function)
assert R is jem_nb.refinement.RefinedClassifier and d is jem_nb.attacks.distal and callable(d)
"""


def test_names_that_moved(): # in a fresh process, in which nothing else was imported before
    subprocess.run([sys.executable, '-c', MOVED], check=True)


def test_no_other_name():
    import jem_nb.attacks
    with pytest.raises(AttributeError, match="no attribute 'nothing'"): jem_nb.attacks.nothing
