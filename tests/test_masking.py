"Attacks through the sampler: what would be seen if a gradient were masked, and is not."
import math

import foolbox as fb
import numpy as np
import pytest
import torch
from torch import nn

from jem_nb.attacks import RefinedClassifier, pgd
from jem_nb.cli import recorded_model
from jem_nb.config import rng
from jem_nb.data import load
from jem_nb.unit_box import UnitBox

EPS, N, STEPS = .1, 12, 10


@pytest.fixture(scope='module')
def case(): # network, recipe, images that it reads rightly, labels
    model, cfg = recorded_model('digits', 'jem')
    test = load('digits', 'test').take(2 * N)
    with torch.no_grad(): right = model(test.unit()).argmax(1) == test.y
    return model, cfg, test.unit()[right][:N], test.y[right][:N]


def through(model, cfg, grad='straight_through', seed=0, **how):
    return RefinedClassifier.from_config(model, cfg, STEPS, grad=grad, seed=seed, **how)


@torch.no_grad()
def withstood(judge, attacked, y): return judge(attacked).argmax(1) == y


def white_box(seen, judge, x, y, n_steps=20, eps=EPS): # which images withstand every attacker
    left = torch.ones(len(x), dtype=bool)
    for i, net in enumerate(seen):
        g = rng(0, 'masking', i)
        found = pgd(net, x, y, eps, n_steps=n_steps, loss='margin', generator=g)
        left &= withstood(judge, found, y)
    return left


def black_box(seen, judge, x, y, rounds=4, asked=100, eps=EPS): # HopSkipJump: answers only
    victim = fb.PyTorchModel(UnitBox(seen).eval(), bounds=(0, 1), device='cpu')
    attack = fb.attacks.HopSkipJumpAttack(steps=rounds, constraint='linf',
                                          initial_gradient_eval_steps=50,
                                          max_gradient_eval_steps=asked)
    torch.manual_seed(0)
    np.random.seed(0)
    inside = (x + 1) / 2
    start = torch.stack([inside[(y != label).nonzero()[0, 0]] for label in y])
    goal = fb.criteria.Misclassification(y)
    found = attack.run(victim, inside, goal, starting_points=start).detach()
    near = (found - inside).flatten(1).norm(math.inf, dim=1) <= eps
    return withstood(judge, 2 * found - 1, y) | ~near


def check_black_box(white, black): # raises where the answers alone tell more than the gradient
    missed = int((white & ~black).sum())
    assert missed <= 1, f'{missed} images fall to a black box and to no gradient: it is masked'


def test_a_black_box_is_not_stronger_through_the_sampler(case):
    model, cfg, x, y = case
    judge = through(model, cfg, seed=99)
    seen = [through(model, cfg), through(model, cfg, 'unrolled'), model]
    white = white_box(seen, judge, x, y)
    assert white.sum() < N                       # the attack does something
    asked = through(model, cfg, fixed_noise=True) # HopSkipJump wants the same answer twice
    check_black_box(white, black_box(asked, judge, x, y))


def test_more_steps_never_help_the_defender(case):
    model, cfg, x, y = case
    judge = through(model, cfg, seed=99)
    left = [int(white_box([through(model, cfg), model], judge, x, y, n).sum())
            for n in (0, 1, 5, 20)]
    assert all(more <= fewer + 1 for fewer, more in zip(left, left[1:])), left
    assert left[-1] < left[0] - 2


class Masked(nn.Module):
    "The same answers, and a slope that is zero everywhere."
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x): return self.model(x.detach()) + 0 * x.sum()


def test_a_masked_gradient_is_noticed(case):
    model, _, x, y = case
    masked = Masked(model)
    white = white_box([masked], masked, x, y, eps=.2)
    black = black_box(masked, masked, x, y, 12, 1000, eps=.2)
    with pytest.raises(AssertionError, match='it is masked'): check_black_box(white, black)
