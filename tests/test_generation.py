"Plumbing of 22_generation_metrics: randomness, names."
import torch

import jem_nb  # noqa: F401 (before torchmetrics)
from jem_nb.generation import (InceptionExtractor, frechet_distance, frechet_interval,
                               kernel_distance)


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


def test_an_interval_without_the_floor():
    "Two halves of one Gaussian: the value is the floor, the interval reaches down to 0."
    x, g = randn(400, 16), torch.Generator().manual_seed(1)
    halves = x[:200], x[200:]
    low, high = frechet_interval(*halves, n_resamples=40, generator=g)
    assert low == 0 and high < frechet_distance(*halves).value


def test_an_interval_narrows_with_its_level():
    def width(level):
        ends = frechet_interval(randn(200, 4), randn(200, 4) + 1, level, 40,
                                generator=torch.Generator().manual_seed(1))
        return ends[1] - ends[0]
    assert 0 < width(.5) < width(.95)


def test_the_name_that_makes_a_distance_fid():
    assert InceptionExtractor.name == 'inception-v3'


def test_a_spread_that_is_none():
    "Where every subset is the whole, nothing scatters; and one subset says nothing of others."
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, 4, generator=g), torch.randn(40, 4, generator=g)
    assert kernel_distance(a, b, 5, generator=g).std is None
    assert kernel_distance(a, b, 1, 20, generator=g).std is None
    assert kernel_distance(a, b, 5, 20, generator=g).std > 0
