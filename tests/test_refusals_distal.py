"What 26_distal refuses, and what it says."
import pytest
import torch
from torch import nn

from jem_nb.distal import distal

NET = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


@pytest.mark.parametrize('target, shape, setting, message', [
    (8, (1, 1, 8, 8), dict(conf=1.), 'conf=1'),
    (10, (1, 1, 8, 8), {}, 'target runs from 10'),
    (torch.arange(3), (4, 1, 8, 8), {}, 'need int64 of shape'),
    (8, (1, 1, 8, 8), dict(objective='p'), "objective='p' is unknown"),
    (8, (1, 1, 8, 8), dict(n_steps=-1), 'n_steps=-1'),
    (8, (1, 1, 8, 8), dict(momentum=-1.), 'momentum=-1'),
], ids=['certainty', 'no such class', 'too few targets', 'objective', 'steps', 'momentum'])
def test_refusal(target, shape, setting, message):
    with pytest.raises(ValueError, match=message):
        distal(NET, target, shape, generator=torch.Generator(), **setting)


def test_noise_without_generator():
    with pytest.raises(ValueError, match='needs a generator'): distal(NET, 8, (1, 1, 8, 8))
