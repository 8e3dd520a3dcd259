"What 24_attacks refuses, and what it says."
import pytest
import torch
from torch import nn

from jem_nb.attacks import perturbation_norm, pgd, robust_accuracy, vote

X = torch.linspace(-1, 1, 4 * 64).view(4, 1, 8, 8)
Y = torch.arange(4)
NET = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
WIDE = torch.tensor([-2., 2.]).repeat(32).view(1, 1, 8, 8)


class Infinite(nn.Module):
    def forward(self, x): return NET(x) * float('inf')


def attack(x=X, y=Y, eps=.1, norm='linf', model=NET, **how):
    return pgd(model, x, y, eps, norm, generator=torch.Generator().manual_seed(0), **how)


CASES = {
    '8 instead of 8/255': (dict(eps=8), ValueError, r'outside \[0, 1\]'),
    'negative eps': (dict(eps=-.1), ValueError, r'outside \[0, 1\]'),
    'wider than the box in L2': (dict(eps=128, norm='l2'), ValueError, r'outside \[0, 8\]'),
    'unknown loss': (dict(loss='cw'), ValueError, "loss='cw' is unknown"),
    'unknown norm': (dict(norm='l1'), ValueError, "norm='l1' is unknown"),
    'pixels outside the box': (dict(x=WIDE, y=Y[:1]), ValueError, 'x runs from -2 to 2'),
    'pixels that are NaN': (dict(x=X * float('nan')), ValueError, 'x runs from nan'),
    'bytes': (dict(x=X.to(torch.uint8)), TypeError, 'uint8'),
    'no images': (dict(x=X[:0], y=Y[:0]), ValueError, 'nothing to attack'),
    'label too large': (dict(y=Y + 10), ValueError, 'y runs from 10 to 13'),
    'target negative': (dict(targeted=Y - 1), ValueError, 'targeted runs from -1'),
    'too few labels': (dict(y=Y[:-1]), ValueError, 'need int64 of shape'),
    'negative steps': (dict(n_steps=-1), ValueError, 'n_steps=-1'),
    'no restart': (dict(restarts=0), ValueError, 'restarts=0'),
    'infinite logits': (dict(model=Infinite()), ValueError, 'not finite'),
}


@pytest.mark.parametrize('case', CASES)
def test_pgd(case):
    how, kind, message = CASES[case]
    with pytest.raises(kind, match=message): attack(**how)


def test_random_start_without_generator():
    with pytest.raises(ValueError, match='needs a generator'): pgd(NET, X, Y, .1)


def test_unknown_norm_of_a_perturbation():
    with pytest.raises(ValueError, match='is unknown'): perturbation_norm(X, X, 'l1')


@pytest.mark.parametrize('grid, y, message', [
    ([.1, 0.], Y, 'ascend'),
    ([], Y, 'at least one'),
    ([0.], -torch.ones_like(Y), 'y runs from -1 to -1'),
    ([0., 2.], Y, 'outside'),
], ids=['falling grid', 'empty grid', 'negative labels', 'eps too large'])
def test_robust_accuracy(grid, y, message):
    with pytest.raises(ValueError, match=message):
        robust_accuracy(NET, X, y, grid, generator=torch.Generator())


def test_vote():
    with pytest.raises(ValueError, match='not finite'): vote(Infinite(), X)
    with pytest.raises(ValueError, match='n_votes=0'): vote(NET, X, 0)
