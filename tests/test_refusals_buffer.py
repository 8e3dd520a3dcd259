"What 03_buffer refuses, and what it says."
import pytest
import torch

from jem_nb.buffer import ReplayBuffer, fit_gaussian_init, take_shard


def seeded(): return torch.Generator().manual_seed(0)


@pytest.mark.parametrize('n', [0, 1])
def test_a_class_without_two_images(n):
    y = torch.cat([torch.zeros(5), torch.ones(n)])
    with pytest.raises(ValueError, match=f'class 1 has {n} images: a Gaussian needs two'):
        fit_gaussian_init(torch.rand(5 + n, 1, 2, 2), y, 2)


BUFFERS = {  # arguments, part of the message
    'no chance': (dict(size=10, reinit_prob=1.2), 'at least one slot and a probability'),
    'no slot': (dict(size=0), 'at least one slot and a probability'),
    'unequal blocks': (dict(size=105, k=10), 'make it a multiple of 10'),
}


@pytest.mark.parametrize('case', BUFFERS)
def test_arguments(case):
    arguments, message = BUFFERS[case]
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(shape=(1,), generator=seeded(), **arguments)


DRAWS = {  # classes of the buffer, classes drawn for, part of the message
    'classes, not wanted': (0, torch.zeros(4, dtype=torch.long), 'no class slots: do not pass y'),
    'no classes, wanted': (10, None, '10 class slots: pass y'),
}


@pytest.mark.parametrize('case', DRAWS)
def test_draws(case):
    k, y, message = DRAWS[case]
    buffer = ReplayBuffer(100, (1,), seeded(), k=k)
    with pytest.raises(ValueError, match=message): buffer.sample(4, seeded(), y)


def test_more_states_than_slots():
    buffer = ReplayBuffer(50, (1, 2, 2), seeded())
    with pytest.raises(ValueError, match=r'states have shape \(3, 1, 2, 2\), 2 slots want'):
        buffer.update_(torch.tensor([0, 1]), torch.zeros(3, 1, 2, 2))


@pytest.mark.parametrize('k, message', [
    (5, '60 chains in 5 class blocks cannot be shared by 7 processes: .* a multiple of 35'),
    (0, '60 chains cannot be shared by 7 processes: .* a multiple of 7'),
], ids=['class blocks', 'no classes'])
def test_shards(k, message):
    with pytest.raises(ValueError, match=message): take_shard(torch.zeros(60, 2), k, 0, 7)
