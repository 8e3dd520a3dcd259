"15_refinement: what does not teach."
from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jem_nb.config import _Sampler, preset
from jem_nb.data import load
from jem_nb.energy import EnergyClassifier
from jem_nb.refinement import SAMPLER, RefinedClassifier
from jem_nb.sgld import sgld


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


OTHERWISE = dict(
    step_size=.3,
    noise_scale=.2,
    grad_clamp=.002,
    state_clamp=.5,
    step_end=.2,
)


def chains_of(model, cfg, x, seed, k=4): # as the training loop walks them
    how = dict(generator=torch.Generator().manual_seed(seed), grad_clamp=cfg.grad_clamp)
    return sgld(model, x, k, cfg.step_size, cfg.noise_scale, **how,
                state_clamp=cfg.state_clamp, step_end=cfg.step_end)


@pytest.mark.parametrize('grad', ['straight_through', 'unrolled'])
@pytest.mark.parametrize('field', OTHERWISE)
def test_every_field_of_the_sampler_arrives(case, field, grad):
    net, x, _ = case
    model, cfg = EnergyClassifier(net), preset('digits')
    changed = replace(cfg, **{field: OTHERWISE[field]})
    z = x.clone().requires_grad_(grad == 'unrolled')
    refined = RefinedClassifier.from_config(model, changed, 4, grad=grad, seed=5)
    wanted = model(chains_of(model, changed, x, 5))
    torch.testing.assert_close(refined(z), wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(wanted, model(chains_of(model, cfg, x, 5)), rtol=1e-3, atol=1e-3)


def test_no_field_of_the_sampler_is_forgotten():
    assert {f.name for f in fields(_Sampler)} == {'n_steps', *OTHERWISE} == {'n_steps', *SAMPLER}


def test_gradient_through_clamps():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Softplus(), nn.Linear(16, 10)).double()
    clamps = dict(grad_clamp=.02, state_clamp=.9)
    how = dict(step_size=.3, noise_scale=.05, fixed_noise=True, **clamps)
    unrolled = refined(net, grad='unrolled', **how)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: unrolled(z)[:, :3], x)
    through, straight = (torch.autograd.grad(c(x)[:, 0].sum(), x)[0]
                         for c in (unrolled, refined(net, **how)))
    assert not torch.allclose(through, straight, rtol=.1)
