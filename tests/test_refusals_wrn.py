"What 01_wrn refuses, and what it says."
import re

import pytest
import torch

from jem_nb.wrn import (
    ACTIVATIONS,
    NORMS,
    CifarResNet,
    ResNet110,
    WideBlock,
    WideResNet,
    from_released,
    pick,
    released_arguments,
)


def refused(message, kind=ValueError): return pytest.raises(kind, match=re.escape(message))


@pytest.mark.parametrize('what, name, table, message', [
    ('activation', 'swish', ACTIVATIONS,
     "unknown activation 'swish'; known: 'leaky_relu', 'relu', 'silu'"),
    ('norm', 'layer', NORMS, "unknown norm 'layer'; known: None, 'none', 'batch', 'group'"),
], ids=['activation', 'norm'])
def test_names(what, name, table, message):
    with refused(message): pick(what, name, table)


WIDE = {  # arguments, part of the message
    'depth': (dict(depth=12), 'depth must be 6m+4 with m ≥ 1 (10, 16, 22, 28, …), not 12'),
    'width': (dict(depth=10, width=0), 'must be at least 1, not 0, 10, 3'),
    'image size': (dict(depth=10, width=1, image_size=2), 'image_size must be at least 4'),
    'norm': (dict(depth=10, width=1, norm='layer'), "known: None, 'none', 'batch', 'group'"),
}


@pytest.mark.parametrize('case', WIDE)
def test_arguments(case):
    arguments, message = WIDE[case]
    with refused(message): WideResNet(**arguments)


IMAGES = {  # shape, part of the message
    'channels': ((5, 3, 8, 8), 'takes images (n, 1, 8, 8), not (5, 3, 8, 8)'),
    'size': ((5, 1, 32, 32), 'not (5, 1, 32, 32); resize the images'),
    'one image': ((1, 8, 8), 'not (1, 8, 8)'),
}


@pytest.mark.parametrize('case', IMAGES)
def test_images(case):
    shape, message = IMAGES[case]
    net = WideResNet(10, 1, n_classes=7, channels=1, image_size=8)
    with refused(message): net(torch.zeros(shape))


def test_stored_pixels():
    net = WideResNet(10, 1, channels=1, image_size=8)
    with refused('takes float images in [-1,1], not torch.uint8', TypeError):
        net(torch.zeros(5, 1, 8, 8, dtype=torch.uint8))


def test_hook_before_the_overwriting_activation():
    block = WideBlock(4, 4)
    block.conv1.register_full_backward_hook(lambda *given: None)
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    with refused('modified inplace', RuntimeError): block(x)
    block.act2.inplace = False
    block(x).sum().backward()


def released(**changes):
    "The state dict of a small network under its released names."
    weights = WideResNet(10, 1).state_dict()
    named = {k if k.startswith('class_output') else f'f.{k}': v for k, v in weights.items()}
    return {**named, **changes}


def test_released_fits(): assert released_arguments(released())['depth'] == 10


STATES = {  # state dict, part of the message
    'missing': ({k: v for k, v in released().items() if k != 'f.layer2.0.conv1.bias'},
                'missing layer2.0.conv1.bias'),
    'unexpected': (released(**{'f.extra': torch.zeros(1)}), 'unexpected extra'),
    'misshapen': (released(**{'class_output.bias': torch.zeros(11)}),
                  'class_output.bias is (11,), not (10,)'),
    'another network': ({'weight': torch.zeros(1)},
                        "not the released network: 'f.conv1.weight' is missing"),
    'our own names': (WideResNet(10, 1).state_dict(), 'not the released network'),
}


@pytest.mark.parametrize('case', STATES)
def test_state_dicts(case):
    state_dict, message = STATES[case]
    with refused(message): from_released(state_dict)


@pytest.mark.parametrize('arguments, message', [
    (dict(depth=28), 'depth must be 6m+2 with m ≥ 1 (8, 14, 20, …, 110), not 28'),
    (dict(depth=8, image_size=3), 'image_size must be at least 4'),
], ids=['depth', 'image size'])
def test_cifar_resnet(arguments, message):
    with refused(message): CifarResNet(**arguments)


def test_cifar_resnet_images():
    with refused('takes images (n, 3, 32, 32), not (2, 1, 32, 32)'):
        ResNet110()(torch.zeros(2, 1, 32, 32))
