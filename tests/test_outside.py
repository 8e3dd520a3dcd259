"Plumbing of 12_outside: sizes, channels and seeds; real sets where they are on this computer."
from dataclasses import replace

import pytest
import torch

from jem_nb.data import MADE_SETS, SETS, ImageSet, available, load
from jem_nb.outside import _MAKERS, OOD_SETS, load_ood

REAL = 'svhn', 'cifar100', 'celeba', 'dtd10', 'tiny_imagenet', 'cinic10'


def seeded(seed=0): return torch.Generator().manual_seed(seed)


def random_bytes(*shape): return torch.randint(256, shape, dtype=torch.uint8, generator=seeded())


TEST = load('digits', 'test')
COLOUR = ImageSet(random_bytes(30, 3, 32, 32), torch.zeros(30, dtype=torch.long),
                  'lesson', 'test', ('one',))


def test_names():
    assert tuple(_MAKERS) == MADE_SETS
    assert OOD_SETS == (*MADE_SETS, *SETS)


@pytest.mark.parametrize('like', [TEST, COLOUR], ids=['gray', 'colour'])
@pytest.mark.parametrize('name', MADE_SETS)
def test_only_the_generator_decides(name, like):
    first, same, other = [load_ood(name, like, 50, seeded(seed)) for seed in (0, 0, 1)]
    assert first.x.shape == (50, *like.x.shape[1:]) and first.x.dtype == torch.uint8
    assert torch.equal(first.x, same.x) and not torch.equal(first.x, other.x)
    assert (first.split, first.source) == ('ood', f'made like {like.name}')


def test_two_images_have_one_interpolation():
    first, second = COLOUR.take(2).x.int()
    x = load_ood('interpolations', COLOUR.take(2), 3, seeded()).x
    for image in x: assert torch.equal(image.int(), (first + second + 1) // 2)


def test_constant_images_have_one_colour():
    x = load_ood('constant', COLOUR, 9, seeded()).x
    assert x.flatten(2).unique(dim=2).shape[2] == 1


def test_uniform_noise():
    "Mean 0 and variance 1/3 in data units, the mean up to four standard errors."
    x = load_ood('uniform', COLOUR, 300, seeded()).unit()
    assert x.mean().abs() < 4 * (1 / 3)**.5 / x.numel()**.5
    assert (x.var() - 1 / 3).abs() < .01


def test_a_real_set_is_resized_and_gets_three_channels():
    digits = load_ood('digits', COLOUR, 360, seeded())
    assert digits.x.shape == (360, 3, 32, 32)
    assert digits.y.sort().values.tolist() == TEST.y.sort().values.tolist()
    assert digits.split == 'ood'


@pytest.mark.skipif(not available('cifar10', 'test'), reason='CIFAR-10 is not on this computer')
@pytest.mark.parametrize('name', [*REAL, 'interpolations', 'photos', 'letters'])
def test_beside_cifar10(name):
    if name in REAL and not available(name): pytest.skip(f'{name} is not on this computer')
    assert load_ood(name, load('cifar10', 'test'), 12, seeded()).x.shape == (12, 3, 32, 32)


@pytest.mark.skipif(not available('emnist_letters'), reason='EMNIST is not on this computer')
@pytest.mark.parametrize('size', [8, 28])
def test_handwritten_letters(size):
    like = replace(TEST, x=random_bytes(360, 1, size, size))
    assert load_ood('emnist_letters', like, 100, seeded()).x.shape == (100, 1, size, size)
