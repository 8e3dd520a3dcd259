"The error of a paired difference, on worlds where the true difference is known."
import pytest
import torch

from jem_nb.results import paired_difference


def world(g, seeds=3, n=400, scatter=.1):
    "Two recipes that are equally good: images differ, and so do the seeds of each recipe."
    ease = torch.rand(n, generator=g)
    def recipe():
        luck = scatter * torch.randn(seeds, 1, generator=g)
        return (torch.rand(seeds, n, generator=g) < ease + luck).double()
    return recipe(), recipe()


@pytest.mark.parametrize('scatter, share', [(0., .01), (.03, .07), (.1, .14)])
def test_how_often_two_errors_are_exceeded(scatter, share):
    "As 20_results says: three seeds are few, and the more they scatter the rougher the guess."
    g = torch.Generator().manual_seed(0)
    found = [paired_difference(*world(g, scatter=scatter)) for _ in range(1600)]
    z = torch.tensor([mean / error for mean, error in found])
    assert abs(z.clamp(-4, 4).mean()) < 4 * z.clamp(-4, 4).std() / 40
    beyond = (z.abs() > 2).float().mean().item()
    assert abs(beyond - share) < 4 * (share * (1 - share) / 1600)**.5


def test_more_seeds_mend_it():
    "With twenty seeds two errors are what they should be."
    g = torch.Generator().manual_seed(0)
    found = [paired_difference(*world(g, seeds=20)) for _ in range(400)]
    assert sum(abs(mean) > 2 * error for mean, error in found) / 400 < .09


def test_images_alone_where_there_is_one_seed():
    "Then the error is that of a mean over images, and knows nothing of seeds."
    g = torch.Generator().manual_seed(1)
    a, b = world(g, seeds=1)
    mean, error = paired_difference(a, b)
    assert abs(mean - (a - b).mean().item()) < 1e-12
    assert abs(error - ((a - b)[0].var() / 400).sqrt().item()) < 1e-12
