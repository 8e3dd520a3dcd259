"Plumbing of 22_generation_metrics: randomness, names."
import torch

import jem_nb  # noqa: F401 (before torchmetrics)
from jem_nb.generation import InceptionExtractor, kernel_distance


def randn(*shape): return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).double()


def in_subsets(seed):
    generator = torch.Generator().manual_seed(seed)
    return kernel_distance(randn(400, 6), randn(300, 6) + 1, 10, 50, generator=generator)


def test_the_global_generator_does_not_move():
    before = torch.random.get_rng_state()
    in_subsets(1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_only_the_generator_chooses_the_subsets():
    first, other = in_subsets(1), in_subsets(2)
    torch.rand(1)  # where the global generator stands does not matter
    assert in_subsets(1) == first
    assert other.value != first.value


def test_the_name_that_makes_a_distance_fid():
    assert InceptionExtractor.name == 'inception-v3'
