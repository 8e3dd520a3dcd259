"What 12_outside refuses, and what it says."
from dataclasses import replace

import pytest
import torch

from jem_nb.data import ImageSet, load
from jem_nb.outside import load_ood

TEST = load('digits', 'test')


def colour(n, height=32, width=32): # black images without labels
    x = torch.zeros(n, 3, height, width, dtype=torch.uint8)
    return ImageSet(x, torch.full((n,), -1), 'lesson', 'test')


CASES = {  # name, like, n, part of the message
    'unknown name': ('leters', TEST, 5, 'did you mean letters'),
    'itself': ('digits', TEST, 5, 'in-distribution set itself'),
    'itself, larger': ('mnist', replace(TEST, name='mnist_14'), 5, 'in-distribution set itself'),
    'more than there are': ('digits', colour(30), 361, '360 test images here, 361 were asked for'),
    'none': ('uniform', TEST, 0, 'n ≥ 1 are wanted, got 8×8 and n=0'),
    'not square': ('uniform', colour(2, 6, 7), 5, 'square images .* got 6×7'),
    'one image': ('interpolations', TEST.take(1), 5, 'at least two images'),
    'too large for photographs': ('photos', colour(1, 600, 600), 5, 'too small for patches of 600'),
}


@pytest.mark.parametrize('case', CASES)
def test_load_ood(case):
    name, like, n, message = CASES[case]
    with pytest.raises(ValueError, match=message): load_ood(name, like, n, torch.Generator())


def test_set_that_is_not_here(tmp_path):
    with pytest.raises(FileNotFoundError, match='svhn test: not in'):
        load_ood('svhn', TEST, 5, torch.Generator(), tmp_path)
