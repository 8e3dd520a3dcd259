"Flows: what is refused, and that a seed decides everything and touches nothing else."
import sys

import numpy as np
import pytest
import torch

from jem_nb.data import load
from jem_nb.flow import FLOWS, FlowConfig, make_flow, train_flow

SHORT = dict(n_blocks=1, hidden=8, n_iters=3, batch_size=16)


def test_an_unknown_kind():
    with pytest.raises(ValueError, match='the flows are glow, residual'): FlowConfig('real_nvp')


def test_sides_that_cannot_be_halved():
    with pytest.raises(ValueError, match='3 scales halve the sides 3 times: 28×28'):
        make_flow(FlowConfig(n_levels=3), (1, 28, 28))


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'normflows', None)
    with pytest.raises(ImportError, match='pip install normflows'):
        make_flow(FlowConfig(), (1, 8, 8))


def test_a_loss_that_is_not_finite():
    with pytest.raises(FloatingPointError, match='try a smaller lr'):
        train_flow(FlowConfig(**{**SHORT, 'n_iters': 200}, lr=1e6), load('digits', 'train'))


@pytest.mark.parametrize('kind', FLOWS)
def test_the_seed_decides(kind):
    "Two trainings are equal bit for bit, and the global generators are where they were."
    torch.manual_seed(5)
    np.random.seed(5)
    images, cfg = load('digits', 'train'), FlowConfig(kind, **SHORT)
    first, y = train_flow(cfg, images), torch.arange(10)
    assert np.random.get_state()[2] == np.random.RandomState(5).get_state()[2]
    assert torch.equal(torch.randn(2), torch.randn(2, generator=torch.Generator().manual_seed(5)))
    again = train_flow(cfg, images)
    for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    x = first.sample(y, 3)
    assert torch.equal(x, again.sample(y, 3)) and x.shape == (10, 1, 8, 8)
    assert not torch.equal(x, first.sample(y, 4))
    other = train_flow(FlowConfig(kind, **SHORT, seed=1), images)
    assert not torch.equal(other.sample(y, 3), x)


@pytest.mark.parametrize('kind', FLOWS)
def test_the_image_stays_as_it_was(kind):
    flow = make_flow(FlowConfig(kind, **SHORT), (1, 8, 8)).eval()
    x = load('digits', 'test').unit()[:3]
    kept = x.clone()
    with torch.no_grad(): log_p = flow(x)
    assert torch.equal(x, kept) and not x.requires_grad and not log_p.requires_grad
    x.requires_grad_()
    slope, = torch.autograd.grad(flow(x).logsumexp(1).sum(), x)
    assert slope.isfinite().all() and slope.abs().max() > 0


def test_the_gradient_of_the_determinant():
    "An attack on a Residual Flow goes through its determinant too."
    torch.manual_seed(0)
    flow = make_flow(FlowConfig('residual', n_blocks=2, hidden=4), (3,)).double()
    x = torch.rand(8, 3).double()
    flow.latent(x) # the first batch sets the scales
    with torch.no_grad():
        for p in flow.parameters(): p += .1 * torch.randn_like(p)
    flow.eval()
    x = x[:2].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: flow.latent(v)[1], x)
    assert torch.autograd.grad(flow.latent(x)[1].sum(), x)[0].abs().max() > 1e-4
