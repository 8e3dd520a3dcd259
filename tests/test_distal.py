"26_distal: what does not teach."
import pytest
import torch
from torch import nn

from jem_nb.distal import distal


def seeded(seed=3): return torch.Generator().manual_seed(seed)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10)).eval()


def test_a_shape_stands_for_uniform_noise(net):
    noise = torch.rand(3, 1, 8, 8, generator=seeded()) * 2 - 1
    drawn = distal(net, 3, (3, 1, 8, 8), 5, generator=seeded())
    assert torch.equal(drawn.x, distal(net, 3, noise, 5).x)


def test_nothing_to_do(net):
    start = torch.rand(3, 1, 8, 8, generator=seeded()) * 2 - 1
    left = distal(net, 3, start, 0)
    assert torch.equal(left.x, start) and left.confidence.shape == (1, 3)
    assert not left.steps.any()


def test_the_start_is_kept(net):
    start = torch.rand(3, 1, 8, 8, generator=seeded()) * 2 - 1
    kept = start.clone()
    distal(net, 3, start, 5)
    assert torch.equal(start, kept) and not start.requires_grad


def test_ascents_do_not_see_their_neighbours(net):
    start = torch.rand(10, 1, 8, 8, generator=seeded()) * 2 - 1
    together = distal(net, torch.arange(10), start, step_size=.1)
    alone = distal(net, 3, start[3:4], step_size=.1)
    torch.testing.assert_close(alone.x, together.x[3:4], rtol=0, atol=1e-3)
    assert all(p.grad is None for p in net.parameters())


def test_joint_ascent_climbs_the_logit(net):
    start = torch.rand(4, 1, 8, 8, generator=seeded()) * 2 - 1
    made = distal(net, 8, start, step_size=.02, objective='log_p_xy')
    assert (net(made.x)[:, 8] > net(start)[:, 8]).all()


def test_a_gradient_that_is_not_finite():
    class Root(torch.nn.Module): # its slope at 0 is infinite, times 0
        def forward(self, x):
            s = x.abs().flatten(1).sum(1).sqrt()
            return torch.stack([s, -s], 1)
    with pytest.raises(ValueError, match='the gradient is not finite'):
        distal(Root(), 0, torch.zeros(2, 1, 4, 4), n_steps=5, step_size=.01, conf=.999)
