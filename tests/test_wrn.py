"What 01_wrn promises beside its ideas: equal to the released network in all, frugal, repeatable."
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from jem_nb.energy import EnergyClassifier
from jem_nb.wrn import (
    ACTIVATIONS,
    NORMS,
    BasicBlock,
    CifarResNet,
    ResNet110,
    WideBlock,
    WideResNet,
    from_released,
    map_mean,
    pick,
    released_arguments,
)

NBS = Path(__file__).parent.parent / 'nbs'
GOLDEN = json.loads((NBS / 'fixtures/official_wrn.json').read_text())  # no norm; batch norm
BOTH = pytest.mark.parametrize('case', GOLDEN, ids=['no norm', 'batch norm'])


# ---- the released network ----

@cache
def formulas():
    "The functions of the page that give weights and images by a formula, so that they exist once."
    page = json.loads((NBS / '01_wrn.ipynb').read_text(encoding='utf-8'))
    source, = [''.join(c['source']) for c in page['cells'] if c['id'] == 'golden-formulas']
    names = {'torch': torch}
    exec(source, names)
    return names['formula_tensor'], names['formula_images']


def released(case):
    formula_tensor, _ = formulas()
    return {name: formula_tensor(j, name, shape) for j, (name, shape) in enumerate(case['keys'])}


def network(case, kind=WideResNet, **changes):
    state_dict = released(case)
    net = kind(**{**released_arguments(state_dict), **changes}).eval()
    net.load_state_dict(from_released(state_dict))
    return net


def images_of(case): return formulas()[1](case['n'])


def deviation(net, case):
    "Largest error of the logits; largest relative errors of the gradient's norm and of its sum."
    model, x = EnergyClassifier(net), images_of(case)
    upward = -model.grad_energy(x)
    logits = (model(x) - torch.tensor(case['logits'])).abs().max()
    norm = upward.flatten(1).norm(dim=1) / torch.tensor(case['grad_norm']) - 1
    total = upward.sum((1, 2, 3)) / torch.tensor(case['grad_sum']) - 1
    return logits.item(), norm.abs().max().item(), total.abs().max().item()


@BOTH
def test_equal_to_the_released_network(case):
    logits, norm, total = deviation(network(case), case)
    assert logits < 1e-5 and norm < 1e-4 and total < 1e-4
    energy = EnergyClassifier(network(case)).energy(images_of(case))
    assert_close(-energy, torch.tensor(case['logsumexp']), atol=1e-5, rtol=0)


@BOTH
def test_equal_along_a_chain(case):
    """x ← x − ∂E/∂x + 0.01 cos(0.31 i + t), a formula in the place of noise; float64, so that every
    CPU says the same. A step raises −E by some 1e-5; the agreement asked for is ten times finer."""
    model, x, heights = EnergyClassifier(network(case).double()), images_of(case).double(), []
    phase = .31 * torch.arange(x.numel(), dtype=torch.float64)
    for t in range(len(case['chain_logsumexp'])):
        x = x - model.grad_energy(x) + .01 * torch.cos(phase + t).reshape(x.shape)
        heights.append(-model.energy(x).detach())
    ours = {'chain_final_mean': x.mean((1, 2, 3)), 'chain_final_std': x.flatten(1).std(1)}
    if heights: ours['chain_logsumexp'] = torch.stack(heights)
    for key, value in ours.items():
        assert_close(value, torch.tensor(case[key], dtype=torch.float64), atol=2e-6, rtol=0)


class PooledFirst(WideResNet):
    def features(self, x):
        maps = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.act(self.bn1(maps).mean((2, 3)))


def other_slope(case):
    net = network(case)
    for m in net.modules():
        if isinstance(m, nn.LeakyReLU): m.negative_slope = .19
    return net


def stride_first(case):
    net = network(case)
    for b in net.modules():
        if isinstance(b, WideBlock): b.conv1.stride, b.conv2.stride = b.conv2.stride, b.conv1.stride
    return net


WRONG = {  # networks that take the same weights and are wrong in one place
    'ReLU': lambda case: network(case, activation='relu'),
    'slope 0.19': other_slope,
    'stride on the first convolution': stride_first,
    'pool before activation': lambda case: network(case, PooledFirst),
}


@BOTH
@pytest.mark.parametrize('wrong', WRONG)
def test_wrong_networks_are_told_apart(wrong, case):
    logits, norm, _ = deviation(WRONG[wrong](case), case)
    assert logits > 1e-4 and norm > 1e-3


def test_the_whole_checkpoint():
    state_dict = released(GOLDEN[0])
    before = torch.get_rng_state()
    whole = dict(model_state_dict=state_dict, replay_buffer=torch.zeros(1, 3, 32, 32))
    ours = from_released(whole)
    assert ours.keys() == from_released(state_dict).keys()
    assert torch.equal(torch.get_rng_state(), before)  # loading draws no random numbers
    dropped = {k for k in state_dict if k.removeprefix('f.') not in ours}
    assert {k.rpartition('.')[0] for k in dropped} == {'f.linear', 'energy_output'}


# ---- the block that overwrites ----

def plainly(block, x):
    "A block's output with nothing overwritten."
    h = block.dropout(block.conv1(block.act(block.bn1(x))))
    return block.shortcut(x) + block.conv2(block.act(block.bn2(h)))


def outcome(forward, block, x):
    "Output and all gradients of a block, by one of two ways forward."
    torch.manual_seed(1)
    block.zero_grad()
    z = x.clone().requires_grad_()
    out = forward(block, z)
    out.pow(2).sum().backward()
    assert torch.equal(z.detach(), x)
    return [out.detach(), z.grad, *[p.grad.clone() for p in block.parameters()]]


@pytest.mark.parametrize('c_out, stride, dropout, training', [
    (8, 1, 0., True),
    (16, 2, 0., False),
    (16, 1, .3, True),
], ids=['same shape', 'evaluation', 'dropout'])
@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize('norm', [None, 'batch', 'group'])
def test_overwriting_changes_no_number(norm, activation, c_out, stride, dropout, training):
    block = WideBlock(8, c_out, stride, norm, activation, dropout).train(training)
    maps = torch.randn(2, 8, 8, 8)
    ours, plain = outcome(WideBlock.forward, block, maps), outcome(plainly, block, maps)
    for a, b in zip(ours, plain, strict=True): assert torch.equal(a, b)


def bytes_kept(forward, block, x):
    "Bytes of maps that wait for the way back."
    held = {}

    def keep(t):
        if t.ndim == 4 and len(t) == len(x): held[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t): forward(block, x)
    return sum(t.untyped_storage().nbytes() for t in held.values())


@pytest.mark.parametrize('activation, overwrites', [('leaky_relu', True), ('silu', False)])
def test_overwriting_saves_memory(activation, overwrites):
    block, maps = WideBlock(64, 64, activation=activation), torch.randn(4, 64, 16, 16)
    maps.requires_grad_()
    share = bytes_kept(WideBlock.forward, block, maps) / bytes_kept(plainly, block, maps)
    assert share < .8 if overwrites else share == 1


# ---- norm, mean, activations, layout, precision ----

def test_momentum():
    "PyTorch's 0.1 is kept; the released code sets 0.9, almost the last batch alone."
    norm = pick('norm', 'batch', NORMS)(1)
    for _ in range(3): norm(torch.ones(2, 1, 2, 2))
    assert_close(norm.running_mean, torch.tensor([1 - .9**3]))


def test_an_image_alone_has_its_energy_in_a_batch():
    torch.manual_seed(0)
    model = EnergyClassifier(WideResNet(10, 1, channels=1, image_size=8))
    x = torch.rand(16, 1, 8, 8) * 2 - 1
    alone = torch.cat([model.energy(image[None]) for image in x])
    assert_close(model.energy(x), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
def test_mean_of_a_map(layout):
    maps = torch.randn(2, 6, 4, 3).to(memory_format=layout).requires_grad_()
    mean = map_mean(maps)
    assert_close(mean, maps.mean((2, 3)))
    grad, = torch.autograd.grad(mean.square().sum(), maps)
    assert grad.is_contiguous(memory_format=layout)
    assert_close(grad, (2 * maps.mean((2, 3), keepdim=True) / 12).expand_as(maps),
                 check_stride=False)


@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_gradients_are_finite(activation):
    torch.manual_seed(0)
    net = WideResNet(10, 1, channels=1, image_size=8, activation=activation).double()
    x = torch.rand(9, 1, 8, 8, dtype=torch.float64) * 2 - 1
    assert EnergyClassifier(net).grad_energy(x).isfinite().all()


@pytest.fixture
def two_layouts():
    "The same smooth network twice, the second in channels_last; four images."
    torch.manual_seed(0)
    net = WideResNet(10, 2, activation='silu')  # no gradient jumps where rounding differs
    last = WideResNet(10, 2, activation='silu').to(memory_format=torch.channels_last)
    last.load_state_dict(net.state_dict())
    return EnergyClassifier(net), EnergyClassifier(last), formulas()[1](4)


def test_channels_last(two_layouts):
    model, last, x = two_layouts
    x_last = x.contiguous(memory_format=torch.channels_last)
    assert_close(last(x_last), model(x), atol=1e-5, rtol=1e-4)
    grad = model.grad_energy(x)
    assert (last.grad_energy(x_last) - grad).norm() < 1e-3 * grad.norm()


def test_bfloat16(two_layouts):
    "Eight bits of mantissa: the gradient must point the same way."
    model, last, x = two_layouts
    with torch.autocast('cpu', torch.bfloat16):
        logits, grad = last(x), last.grad_energy(x)
    assert logits.dtype == torch.bfloat16 and grad.dtype == torch.float32
    assert (logits.float() - model(x)).norm() < .05 * model(x).norm()
    assert cosine_similarity(grad.flatten(1), model.grad_energy(x).flatten(1)).min() > .95


# ---- sizes ----

def test_other_shapes():
    net = WideResNet(10, 1, n_classes=7, channels=1, image_size=8)
    x = torch.zeros(5, 1, 8, 8)
    assert net(x).shape == (5, 7)
    assert net.features(x).shape == (5, net.n_features)


def weights(seed):
    torch.manual_seed(seed)
    return WideResNet(10, 1).state_dict()


def test_weights_come_from_the_seed():
    first, again = weights(1), weights(1)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first['conv1.weight'], weights(2)['conv1.weight'])


def multiply_adds(net):
    "An image's, by the definition: elements of each output times the weights behind one."
    total = 0

    def count(layer, given, out):
        nonlocal total
        total += out[0].numel() * layer.weight[0].numel()

    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)): layer.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 32, 32, device='meta'))
    assert counter.get_total_flops() == 2 * total
    return total


@pytest.mark.parametrize('kind, arguments', [
    (WideResNet, (10, 2)),
    (WideResNet, (28, 10)),
    (CifarResNet, (110,)),
], ids=['WRN-10-2', 'WRN-28-10', 'ResNet-110'])
def test_multiply_adds(kind, arguments):
    with torch.device('meta'): net = kind(*arguments)
    assert multiply_adds(net) > 1e6


def reach(depth):
    """Side, in pixels, of the square that an element of the last map sees. A 3×3 convolution adds 2
    pixels times the distance between neighbours in its input, which is 1, then 2, then 4; the first
    block of stages 2 and 3 works on the finer grid."""
    m = (depth - 4)//6
    return 3 + 4*m + (4 + 8*(m - 1)) + (8 + 16*(m - 1))


def pixels_seen(depth, size=64):
    "The same by the gradient, with all weights positive."
    net = WideResNet(depth, 1, channels=1, image_size=size).double()
    for p in net.parameters(): nn.init.constant_(p, 1/16)
    x = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    last_map = net.layer3(net.layer2(net.layer1(net.conv1(x))))
    grad, = torch.autograd.grad(last_map[0, 0, size//8, size//8], x)
    return (grad[0, 0] != 0).any(0).sum().item()


@pytest.mark.parametrize('depth', [10, 16])
def test_reach(depth): assert pixels_seen(depth) == reach(depth)


def test_reach_on_the_page(): assert (reach(10), reach(28)) == (19, 103)


# ---- the reference classifier ----

def test_basic_block_is_its_shortcut():
    block, x = BasicBlock(4, 6, stride=2).eval(), torch.randn(2, 4, 8, 8)
    nn.init.zeros_(block.conv2.weight)
    out = block(x)
    assert torch.equal(out[:, :4], x[:, :, ::2, ::2].relu())
    assert (out[:, 4:] == 0).all()


def test_resnet110():
    net, x = ResNet110(n_classes=100), torch.zeros(2, 3, 32, 32)
    assert net(x).shape == (2, 100)
    assert net.features(x).shape == (2, 64)
    kernels = {layer.kernel_size for layer in net.modules() if isinstance(layer, nn.Conv2d)}
    assert kernels == {(3, 3)}


def test_spectral_norm_bounds_every_weight():
    "After some passes in training mode the largest singular value of each weight is 1."
    net = WideResNet(10, 1, channels=1, norm='spectral', image_size=8).train()
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        for _ in range(50): net(images)
    layers = [m for m in net.modules() if hasattr(m, 'parametrizations')]
    assert len(layers) == sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
                              for m in net.modules())
    for m in layers:
        largest = torch.linalg.matrix_norm(m.weight.detach().flatten(1), 2)
        torch.testing.assert_close(largest, torch.tensor(1.), atol=.02, rtol=0)
    net.eval()
    before = net(images)
    torch.testing.assert_close(net(images), before, rtol=0, atol=0)  # nothing moves any more
