"What 06_transport promises beyond its page: the pairing, the points, the term."
import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jem_nb.energy import EnergyClassifier
from jem_nb.transport import (COUPLINGS, Paths, couple, draw_paths, match_loss, path_energy,
    travel)


def seeded(seed=0): return torch.Generator().manual_seed(seed)
def images(n=6, seed=0): return torch.rand(n, 1, 2, 2, generator=seeded(seed)) * 2 - 1


# ---- the pairing ----

@pytest.mark.parametrize('seed', range(5))
def test_no_other_pairing_is_shorter(seed):
    "Against all 120 orders of five noises."
    x0, x1 = torch.randn(5, 3, generator=seeded(seed)), torch.randn(5, 3, generator=seeded(9))
    def length(noise): return (noise - x1).square().sum().item()
    every = [length(x0[list(order)]) for order in itertools.permutations(range(5))]
    assert length(couple(x0, x1)) == pytest.approx(min(every), rel=1e-6)


def test_within_classes():
    "With classes the noise of a class stays with its images, and each class is paired shortest."
    x0, x1, y = images(12, 1), images(12, 2), torch.arange(12) % 3
    found = couple(x0, x1, 'class', y)
    for c in range(3): assert_close(found[y == c], couple(x0[y == c], x1[y == c]))


@pytest.mark.parametrize('how', COUPLINGS)
def test_only_the_order_changes(how):
    x0, x1, y = images(8, 1), images(8, 2), torch.arange(8) % 2
    before = x0.clone()
    found = couple(x0, x1, how, y)
    rows = {tuple(row.flatten().tolist()) for row in found}
    assert rows == {tuple(row.flatten().tolist()) for row in x0}
    assert torch.equal(x0, before) and found.dtype == x0.dtype


# ---- the points ----

@pytest.mark.parametrize('coupling', COUPLINGS)
def test_points_lie_between(coupling):
    "x_t + (1 − t) u is the image, for one t in [0, 1] an image."
    x1, y = images(64), torch.arange(64) % 10
    paths = draw_paths(x1, y, seeded(), coupling)
    left = ((x1 - paths.x) / paths.velocity).flatten(1)    # 1 − t, the same in every pixel
    assert_close(left, left[:, :1].expand_as(left), rtol=1e-3, atol=1e-4)
    assert (left > -1e-4).all() and (left < 1 + 1e-4).all() and left.std() > .2


def test_points_are_a_function_of_the_generator():
    x1, y = images(), torch.arange(6)
    a, b, c = (draw_paths(x1, y, seeded(s)) for s in (3, 3, 4))
    assert all(torch.equal(i, j) for i, j in zip(a, b)) and not torch.equal(a.x, c.x)


@pytest.mark.parametrize('share', [0., 1.])
def test_share_of_classes(share):
    y = torch.arange(6)
    given = draw_paths(images(), y, seeded(), share_cond=share).y
    assert given.tolist() == (y.tolist() if share else [-1] * 6)


def test_images_without_label_serve_the_whole_energy():
    y = torch.tensor([0, -1, 2, -1, 4, 5])
    assert draw_paths(images(), y, seeded()).y.tolist() == y.tolist()


def test_rest_slows_the_end_alone():
    "Where less than δ of the way is left the speed falls in proportion; elsewhere nothing changes."
    x1, y = images(200), torch.zeros(200).long()
    fast, slow = (draw_paths(x1, y, seeded(), rest=rest) for rest in (0., .3))
    assert torch.equal(fast.x, slow.x)
    left = ((x1 - fast.x) / fast.velocity).flatten(1)[:, 0]
    factor = (slow.velocity / fast.velocity).flatten(1)[:, 0]
    assert_close(factor, (left / .3).clamp(max=1), rtol=1e-3, atol=1e-3)


# ---- the term ----

def network(): # smooth, float64, another one each time that torch is seeded otherwise
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 3)).double()


def drawn(n=12, share=.5):
    x1, y = images(n).double(), torch.arange(n) % 3
    paths = draw_paths(x1.float(), y, seeded(), 'independent', share)
    return Paths(paths.x.double().requires_grad_(), paths.velocity.double(), paths.y)


def test_mixed_energy():
    logits, y = torch.randn(4, 3, generator=seeded()), torch.tensor([-1, 0, 2, -1])
    model = -logits.logsumexp(1)
    want = torch.stack([model[0], -logits[1, 0], -logits[2, 2], model[3]])
    assert_close(path_energy(logits, y), want)


@pytest.mark.parametrize('share', [0., .5, 1.])
def test_gradient_of_the_term(share):
    "The gradient of every weight, against central differences (torch's gradcheck)."
    net, paths = network(), drawn(share=share)
    names, weights = zip(*net.named_parameters())

    def term(*values):
        logits = torch.func.functional_call(net, dict(zip(names, values)), (paths.x,))
        return match_loss(logits, paths, scale=2.)

    assert torch.autograd.gradcheck(term, weights, eps=1e-6, atol=1e-7)


def test_both_energies_in_one_term():
    "On average a mixed term is the mean of the term of E(x) and that of E(x, y)."
    net, x1, y = network(), images(4000).double(), torch.arange(4000) % 3

    def term(share):
        paths = draw_paths(x1.float(), y, seeded(), 'independent', share)
        x = paths.x.double().requires_grad_()
        return match_loss(net(x), Paths(x, paths.velocity.double(), paths.y)).item()

    assert term(.5) == pytest.approx((term(0.) + term(1.)) / 2, rel=.02)
    assert abs(term(0.) - term(1.)) > 1e-6


def test_scale():
    "The term of a scaled energy is that of a network whose logits are scaled, for E(x, y)."
    net, paths = network(), drawn(share=1.)
    assert_close(match_loss(net(paths.x), paths, 3.), match_loss(3 * net(paths.x), paths))


def test_travel_is_descent():
    net = network()
    model, x, y = EnergyClassifier(net), images().double(), torch.arange(6) % 3
    found = travel(model, x, 5, 4. / 50, y)
    for _ in range(5): x = x - 4. / 50 * model.grad_energy(x, y)
    assert_close(found, x)
