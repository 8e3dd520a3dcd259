"What 14_augment refuses, and what it says."
import pytest
import torch

from jem_nb.augment import add_noise, augment

BYTES = torch.zeros(4, 3, 9, 6, dtype=torch.uint8)
NOISE = {  # images, standard deviation, what is raised, part of its message
    'bytes': (BYTES, .1, TypeError, 'to_unit first'),
    'negative std': (BYTES.float(), -.1, ValueError, 'at least 0'),
}


@pytest.mark.parametrize('pad', [6, 9, -1])
def test_padding(pad):
    with pytest.raises(ValueError, match=f'pad={pad}: reflection needs 0 ≤ pad < 6'):
        augment(BYTES, pad, False, torch.Generator())


@pytest.mark.parametrize('case', NOISE)
def test_noise(case):
    x, std, kind, message = NOISE[case]
    with pytest.raises(kind, match=message): add_noise(x, std, torch.Generator())
