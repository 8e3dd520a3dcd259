"What 08_ais refuses, and what it says."
import pytest
import torch

from jem_nb.ais import anneal


@pytest.mark.parametrize('betas', [[.1, 1.], [0., 1., 1.], [0., 2., 1.], [0.], []])
def test_betas(betas):
    with pytest.raises(ValueError, match='two at least, that ascend from 0'):
        anneal(lambda x: x.sum(1), (2,), 4, torch.tensor(betas), torch.Generator())


@pytest.mark.parametrize('samples, message', [
    (torch.zeros(4, 3), r'samples have shape \(4, 3\), states \(2,\)'),
    (torch.full((4, 2), 1.5), 'outside the box of half width 1'),
    (torch.full((4, 2), torch.nan), 'outside the box'),
])
def test_samples(samples, message):
    with pytest.raises(ValueError, match=message):
        anneal(lambda x: x.sum(1), (2,), 4, [0., 1.], torch.Generator(), samples=samples)
