"What 00_energy promises beside its theory: no trace, no wait, no loss of precision."
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import jem_nb  # noqa: F401 (before torchvision)
from torchvision.models import resnet18
from jem_nb.energy import (
    EnergyClassifier,
    energy_from_logits,
    grid_points,
    joint_energy_from_logits,
    log_p_y_from_logits,
)

Y = torch.tensor([3, 1, 4, 1])


@pytest.fixture(scope='module')
def images(): return 2 * torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return EnergyClassifier(resnet18(num_classes=10).eval())


def test_the_cells_of_a_grid():
    x, cell = grid_points(0, 2, n=2, dim=2)
    assert_close(x, torch.tensor([[.5, .5], [.5, 1.5], [1.5, .5], [1.5, 1.5]]))
    assert cell == 1.
    assert grid_points(-1, 1, n=7, dim=1)[0].shape == (7, 1)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_widened(dtype):
    logits = torch.tensor([[100., 99.]])
    readings = [(energy_from_logits, ()), (log_p_y_from_logits, ()),
                (joint_energy_from_logits, (torch.tensor([1]),))]
    for reading, more in readings:
        narrow = reading(logits.to(dtype), *more)
        assert narrow.dtype == torch.float32
        assert_close(narrow, reading(logits, *more))


def test_far_logits():
    far = torch.tensor([[1e4, -1e4, 0.], [-1e4, -1e4, -1e4]], dtype=torch.float64)
    exact = torch.tensor([-1e4, 1e4 - math.log(3)], dtype=torch.float64)
    assert_close(energy_from_logits(far), exact)
    x = far.float().requires_grad_()
    slope, = torch.autograd.grad(energy_from_logits(x).sum(), x)
    assert_close(slope, -torch.tensor([[1, 0, 0], [1/3, 1/3, 1/3]]))


def test_the_wrapper_adds_nothing(model, images):
    names = {n.removeprefix('model.') for n, _ in model.named_parameters()}
    assert names == {n for n, _ in model.model.named_parameters()}
    assert not model.training and not model.model.training  # it starts in the mode of what it wraps
    with torch.no_grad():
        assert_close(model.logits(images), model.model(images))
        assert_close(model(images), model.model(images))


def state_of(model): return {n: (p.requires_grad, p.grad) for n, p in model.named_parameters()}


def test_the_gradient_leaves_no_trace(model, images):
    before, x = state_of(model), images.clone()
    grads = model.grad_energy(x), model.grad_energy(x, Y)
    with torch.no_grad(): again = model.grad_energy(x), model.grad_energy(x, Y)
    with torch.inference_mode(): inferred = model.grad_energy(x.clone(), Y.clone())
    assert_close(again, grads)
    assert_close(inferred, grads[1])
    assert grads[0].shape == x.shape
    assert not grads[0].requires_grad and not x.requires_grad
    assert torch.equal(x, images)
    assert not model.training and not model.model.training
    assert state_of(model) == before


@pytest.mark.parametrize('classes', [(), (torch.tensor([0, 1, 2, 0]),)], ids=['E(x)', 'E(x,y)'])
def test_the_gradient_is_the_slope(classes):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.SiLU(), nn.Linear(16, 3)).double()
    small = EnergyClassifier(net).train().requires_grad_(False)
    energy = small.joint_energy if classes else small.energy
    x, h = torch.randn(4, 3, 2, 2, dtype=torch.float64), 1e-5
    v = torch.randn_like(x)
    slope = (energy(x + h * v, *classes) - energy(x - h * v, *classes)) / (2 * h)
    along = (small.grad_energy(x, *classes) * v).flatten(1).sum(1)
    assert_close(along, slope, rtol=1e-7, atol=1e-9)
    assert small.training and not any(p.requires_grad for p in small.parameters())


class CountReads(TorchDispatchMode):
    "Counts how often a value of a tensor is read, which on a GPU waits for the device."
    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


WAITS = {'energy': 1, 'joint_energy': 2, 'grad_energy': 1}  # with check=True; without there is none


@pytest.mark.parametrize('name', WAITS)
@pytest.mark.parametrize('check', [True, False], ids=['checked', 'unchecked'])
def test_waits(name, check, model, images):
    args = (images, Y) if name == 'joint_energy' else (images,)
    with CountReads() as reads: getattr(model, name)(*args, check=check)
    assert reads.n == (WAITS[name] if check else 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU, where waiting costs time')
def test_no_wait_on_a_gpu(images):
    on_gpu, x = EnergyClassifier(resnet18(num_classes=10).eval().cuda()), images.cuda()
    on_gpu.grad_energy(x)
    torch.cuda.set_sync_debug_mode('error')
    try: on_gpu.grad_energy(x, check=False)
    finally: torch.cuda.set_sync_debug_mode('default')
