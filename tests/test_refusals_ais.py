"What 08_ais refuses, and what it says."
import pytest
import torch

from jem_nb.ais import anneal


@pytest.mark.parametrize('betas', [[.1, 1.], [0., 1., 1.], [0., 2., 1.]])
def test_betas(betas):
    with pytest.raises(ValueError, match='they must ascend, from 0'):
        anneal(lambda x: x.sum(1), (2,), 4, torch.tensor(betas), torch.Generator())
