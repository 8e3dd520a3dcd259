"What 02_sgld promises beside its ideas: no chain disturbs a network, options do what they say."
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jem_nb.energy import EnergyClassifier, energy_from_logits
from jem_nb.sgld import sgld, sgld_step, sgld_trace, show_strip


def seeded(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture
def start(): return torch.empty(10, 1, 8, 8).uniform_(-1, 1, generator=seeded(3))


@pytest.fixture
def net():
    "A small classifier with all that a chain could disturb."
    torch.manual_seed(0)
    norm, dropout = nn.BatchNorm1d(32), nn.Dropout(.5)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), norm, nn.SiLU(), dropout, nn.Linear(32, 10))


def naive(net, x, n_steps, step_size, noise_scale, generator):
    for _ in range(n_steps):
        x = x.detach().requires_grad_(True)
        (-net(x).logsumexp(1).sum()).backward()
        x = x - step_size * x.grad + noise_scale * torch.randn(x.shape, generator=generator)
    return x.detach()


def copies(net): return {k: v.clone() for k, v in net.state_dict().items()}


def unchanged(net, before):
    return all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


# ---- the step ----

def test_a_step_without_noise_is_that_of_an_optimizer():
    g = seeded()
    x, grad = torch.randn(3, 2, generator=g), torch.randn(3, 2, generator=g)
    p = x.clone().requires_grad_()
    p.grad = grad.clone()
    torch.optim.SGD([p], lr=.3).step()
    assert torch.equal(sgld_step(x, grad, .3, 0.), p.detach())


def test_a_step_leaves_its_argument_alone():
    x = torch.randn(3, 2, generator=seeded())
    before = x.clone()
    sgld_step(x, torch.ones(3, 2), .3, .1, seeded(5))
    assert torch.equal(x, before)


# ---- what a chain leaves as it was ----

def test_flags_state_and_gradients(net, start):
    net.train()
    net[4].eval()
    net[1].bias.requires_grad_(False)
    state, modes = copies(net), [m.training for m in net.modules()]
    wanted = [p.requires_grad for p in net.parameters()]
    end = sgld(EnergyClassifier(net), start, 5, generator=seeded())
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == wanted
    assert all(p.grad is None for p in net.parameters())
    assert unchanged(net, state)
    assert not end.requires_grad


def test_a_bare_classifier_and_a_caller_without_gradients(net, start):
    wrapped = sgld(EnergyClassifier(net), start, 5, generator=seeded())
    with torch.no_grad(): bare = sgld(net, start, 5, generator=seeded())
    assert torch.equal(wrapped, bare)
    with torch.inference_mode(): sgld(net, start, 2, noise_scale=0.)


class Fails(nn.Module):
    "A network that breaks in the middle of a chain."
    def __init__(self):
        super().__init__()
        self.net, self.calls = nn.Linear(64, 3), 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 2: raise RuntimeError('broke')
        return self.net(x.flatten(1))


def test_flags_after_an_error(start):
    fails = Fails()
    with pytest.raises(RuntimeError, match='broke'): sgld(fails, start, 5, noise_scale=0.)
    assert fails.training and all(p.requires_grad for p in fails.parameters())


def test_batch_statistics(net, start):
    "The plain chain of a network in training mode; the running statistics do not move."
    net[4].p = 0.
    net.train()
    state = copies(net)
    ours = sgld(net, start, 3, generator=seeded(), batch_stats=True)
    assert unchanged(net, state)
    assert net[2].training and net[2].track_running_stats
    evaluation = sgld(net, start, 3, generator=seeded())
    plain = naive(net, start, 3, 1., .01, seeded())
    assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert (evaluation - plain).abs().max() > 1e-3  # evaluation mode is another energy


# ---- equal to other ways to walk ----

class Scaled(nn.Module):
    "A classifier that happens to have a part called model."
    def __init__(self, net):
        super().__init__()
        self.model = net

    def forward(self, x): return self.model(2 * x)


def test_a_classifier_with_a_part_called_model(net, start):
    scaled = Scaled(net).eval()
    ours = sgld(scaled, start, 2, noise_scale=0.)
    assert_close(ours, naive(scaled, start, 2, 1., 0., seeded()), rtol=1e-5, atol=1e-6)


def test_one_step_goes_down(net, start):
    model = EnergyClassifier(net.eval())
    end = sgld(model, start, 1, step_size=.1, noise_scale=0.)
    assert_close(end, start - .1 * model.grad_energy(start))
    wrong_way = start + .1 * model.grad_energy(start)
    assert (model.energy(end) < model.energy(start)).all()
    assert (model.energy(wrong_way) > model.energy(start)).all()


def test_autocast(net, start):
    "The network in bfloat16, the state not; the same as autocast written by hand, bit for bit."
    net.eval()
    seen = []
    hook = net.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    where = [p.data_ptr() for p in net.parameters()]
    half = sgld(net, start, 3, noise_scale=0., autocast=torch.bfloat16)
    hook.remove()
    assert set(seen) == {torch.bfloat16} and half.dtype == torch.float32
    assert [p.data_ptr() for p in net.parameters()] == where
    assert all(p.dtype == torch.float32 for p in net.parameters())
    x = start.clone()
    for _ in range(3):
        x = x.detach().requires_grad_(True)
        with torch.autocast('cpu', torch.bfloat16): logits = net(x)
        x = x - torch.autograd.grad(energy_from_logits(logits).sum(), x)[0]
    assert torch.equal(half, x.detach())


def test_the_layout_changes_no_noise(net, start):
    last = start.contiguous(memory_format=torch.channels_last)
    ours, plain = (sgld(net, x, 3, generator=seeded(2)) for x in (last, start))
    assert_close(ours, plain, rtol=1e-4, atol=1e-5)


# ---- options and edges ----

class Bowl(nn.Module):
    "E(x) = 50‖x − 100‖² and a constant, so steep that a plain walk runs away; two equal classes."
    def forward(self, x):
        return -50 * (x - 100).flatten(1).square().sum(1, keepdim=True).expand(-1, 2)


def test_gradient_clamp(start):
    held = sgld(Bowl(), start, 1, step_size=1., noise_scale=0., grad_clamp=.1)
    assert (held - start).abs().max() <= .1 + 1e-6


def test_state_clamp(start):
    how = dict(step_size=1., noise_scale=0.)
    assert sgld(Bowl(), start, 3, state_clamp=1., **how).abs().max() <= 1
    assert sgld(Bowl(), start, 3, **how).abs().max() > 10


def test_step_end_of_one_is_off(net, start):
    how = dict(noise_scale=0.)
    assert torch.equal(sgld(net, start, 4, step_end=1., **how), sgld(net, start, 4, **how))


def test_no_step_no_change(net, start):
    end = sgld(net, start, 0)
    assert torch.equal(end, start) and end is not start


def test_no_chains(net, start): assert sgld(net, start[:0], 5).shape == (0, 1, 8, 8)


def test_a_strip_has_its_labels(net, start):
    trace = sgld_trace(net.eval(), start[:2], 4, 2, noise_scale=0.)
    ax = show_strip(trace, every=2, labels=['a', 'b'])
    assert [t.get_text() for t in ax.get_yticklabels()] == ['a', 'b']
    assert [t.get_text() for t in ax.get_xticklabels()] == ['0', '2', '4']
