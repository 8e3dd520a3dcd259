"15_refinement: what does not teach."
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jem_nb.data import load
from jem_nb.energy import EnergyClassifier
from jem_nb.refinement import RefinedClassifier


@pytest.fixture
def case(): # a network, images, labels
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))
    test = load('digits', 'test')
    return net.eval(), test.unit()[:64], test.y[:64]


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
