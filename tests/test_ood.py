"Plumbing of 23_ood_scores: types, and a model that is left as it was."
import torch
from torch import nn

from jem_nb.energy import EnergyClassifier
from jem_nb.ood import ood_scores


def test_the_model_is_left_as_it_was():
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(288, 5)
    net = EnergyClassifier(nn.Sequential(*layers).double())
    scores = ood_scores(net, torch.rand(7, 3, 8, 8).double(), batch_size=3)
    assert net.training
    for p in net.parameters(): assert p.requires_grad and p.grad is None
    for s in scores.values(): assert s.dtype == torch.float64 and s.shape == (7,)
