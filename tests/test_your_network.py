"Networks of others: ten architectures, what is refused, and what a file may name."
import dataclasses

import jem_nb
import pytest
import torch
from torch import nn

from jem_nb.config import preset
from jem_nb.step import start_state, train_step
from jem_nb.your_data import from_tensors
from jem_nb.your_network import (
    IMAGENET, OwnNetwork, build_own, check_network, confirmed, from_arch, made_by, network,
    strides_over_a_pixel)

CFG = preset('digits', network='own', n_steps=1, batch_size=8, buffer_size=16, precision='float32',
             channels_last=False, init='uniform', data_noise=.03)
G = torch.Generator().manual_seed(0)


@pytest.fixture(scope='module')
def colour():
    "24 images of 3×32×32 in three classes."
    x = torch.randint(0, 256, (24, 3, 32, 32), generator=G, dtype=torch.uint8)
    return from_tensors(x, torch.arange(24) % 3, ['a', 'b', 'c'], test=0.)


ARCHITECTURES = [
    'timm:resnet10t', 'timm:convnext_atto', 'timm:mobilenetv3_small_050', 'timm:regnetx_002',
    'timm:edgenext_xx_small', 'timm:lcnet_050', 'timm:vit_tiny_patch16_224',
    'torchvision:resnet18', 'torchvision:shufflenet_v2_x0_5', 'torchvision:squeezenet1_1',
    'torchvision:mnasnet0_5', 'torchvision:mobilenet_v3_small']


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_an_architecture_takes_a_step(name, colour):
    how = dict(img_size=32) if 'vit' in name else {}
    own = network(name, 3, **how)
    check_network(own, colour['train'])
    assert confirmed(own, colour['train'])
    before = {k: v.clone() for k, v in own.state_dict().items()}
    numbers = train_step(start_state(CFG, colour['train'], own=own), CFG, colour['train'])
    assert all(torch.tensor(v).isfinite() for v in numbers.values()), numbers
    assert 'e_sample' in numbers and any(not torch.equal(v, before[k])
                                         for k, v in own.state_dict().items())


def test_timm_knows_what_made_it(colour):
    import timm
    for how in (dict(num_classes=3), dict(num_classes=3, in_chans=1)):
        net = timm.create_model('mobilenetv3_small_050', **how)
        made_of = made_by(net)
        again = build_own(made_of).eval()
        again.load_state_dict(net.state_dict())
        x = torch.rand(2, how.get('in_chans', 3), 32, 32, generator=G)
        assert torch.equal(again(x), net.eval()(x))


def test_a_description_that_is_wrong_is_not_believed(colour):
    import timm
    changed = timm.create_model('resnet10t', num_classes=3, act_layer=nn.SiLU)
    own = OwnNetwork(changed)
    assert own.arch['made_of'] is not None     # the weights have the same names and shapes
    assert not confirmed(own, colour['train']) # and the function is another


class Plain(nn.Sequential):
    "Needs no arguments, so its name is enough."
    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))


def test_a_class_that_needs_no_arguments(colour):
    own = OwnNetwork(Plain())
    assert own.arch['made_of'] == dict(factory=f'{__name__}:Plain', arguments={})
    assert confirmed(own, colour['train'])
    assert isinstance(from_arch(own.arch).net, Plain)


@pytest.mark.parametrize(
    'place', ['os:system', 'builtins:eval', 'jem_nb.data:load', 'torch:Tensor'])
def test_a_file_runs_nothing_but_networks(place):
    with pytest.raises(ValueError, match='is not a class of networks'):
        build_own(dict(factory=place, arguments={}))


def test_names_that_are_not_there():
    with pytest.raises(ValueError, match='timm:resnet_18 cannot be made'):
        network('timm:resnet_18', 3)
    with pytest.raises(ValueError, match='cannot be made'): network('torchvision:no_such_net', 3)
    with pytest.raises(ImportError, match='no_such_package cannot be imported'):
        network('no_such_package:Net')


class Dict(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Plain()
    def forward(self, x): return dict(logits=self.net(x), features=x)


class Object(Dict):
    def forward(self, x):
        found = type('Output', (), {})()
        found.logits = self.net(x)
        return found


class Cut(Dict):
    def forward(self, x): return self.net(x.detach())


def test_logits_that_are_elsewhere(colour):
    x = colour['train'].unit()[:4]
    for net in (Dict(), Object()):
        own = OwnNetwork(net, output='logits')
        check_network(own, colour['train'])
        assert torch.equal(own(x), net.net(x))


REFUSED = dict(
    dict=(Dict, r'returns a value of type \w+ with logits, features, not a tensor.*output='),
    object=(Object, r'returns a value of type Output, not a tensor'),
    cut=(Cut, 'do not depend on x through autograd'),
    classes=(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 7)),
             r'gives \(2, 7\).*num_classes=3'),
    log_softmax=(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 3), nn.LogSoftmax(1)),
                 'returns log-probabilities.*leave its last layer out'),
    softmax=(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 3), nn.Softmax(1)),
             'returns probabilities.*leave its last layer out'),
    channels=(lambda: nn.Conv2d(1, 3, 3), 'cannot take images of 3×32×32'),
    size=(lambda: nn.Sequential(nn.Flatten(), nn.Linear(10, 3)), 'cannot take images of 3×32×32'),
)


@pytest.mark.parametrize('make, words', REFUSED.values(), ids=REFUSED)
def test_refused(make, words, colour):
    with pytest.raises(ValueError, match=words): check_network(OwnNetwork(make()), colour['train'])


def test_refused_by_the_matched_model(colour):
    relu = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 3))
    norm = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(900, 3))
    for net, words in ((relu, 'ReLU is straight'), (norm, 'batch norm makes depend')):
        check_network(OwnNetwork(net), colour['train'])
        with pytest.raises(ValueError, match=words):
            check_network(OwnNetwork(net), colour['train'], matched=True)


def test_units():
    net = nn.Identity()
    x = torch.full((1, 3, 1, 1), -1.) # pixel 0
    found = OwnNetwork(net, IMAGENET)(x).flatten()
    mean, std = (torch.tensor(IMAGENET[k]) for k in ('mean', 'std'))
    torch.testing.assert_close(found, -mean / std)
    assert not OwnNetwork(net, IMAGENET).state_dict() # the units are described, not weights


def test_a_network_and_its_recipe_go_together(colour):
    with pytest.raises(ValueError, match='go together'): start_state(CFG, colour['train'])
    ours = dataclasses.replace(CFG, network='wrn')
    with pytest.raises(ValueError, match='go together'):
        start_state(ours, colour['train'], own=OwnNetwork(Plain()))


def test_dropout_is_repeatable(colour):
    def numbers():
        torch.manual_seed(0)
        net = OwnNetwork(nn.Sequential(nn.Flatten(), nn.Dropout(.5), nn.Linear(3072, 3)))
        state = start_state(CFG, colour['train'], own=net)
        torch.rand(7) # whatever else has drawn from the global generator
        return [train_step(state, CFG, colour['train'])['loss'] for _ in range(3)]
    one = numbers()
    torch.rand(100)
    assert one == numbers()


def test_a_pixel_before_a_stride():
    net = network('torchvision:resnet18', 3)
    assert strides_over_a_pixel(net, torch.zeros(1, 3, 16, 16))
    assert not strides_over_a_pixel(net, torch.zeros(1, 3, 64, 64))
    assert net.training


def test_the_package_makes_networks():
    assert jem_nb.network is network and jem_nb.OwnNetwork is OwnNetwork
