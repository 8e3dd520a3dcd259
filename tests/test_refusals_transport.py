"What 06_transport refuses, and what it says."
import pytest
import torch

from jem_nb.transport import Paths, couple, draw_paths, match_loss

X = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
Y = torch.arange(4) % 3


def test_shapes():
    with pytest.raises(ValueError, match='one noise an image is wanted'): couple(X[:3], X)


def test_unknown_pairing():
    with pytest.raises(ValueError, match="coupling 'nearest': choose one of optimal"):
        draw_paths(X, Y, torch.Generator(), coupling='nearest')


def test_no_classes():
    with pytest.raises(ValueError, match='needs the classes of the images: pass y'):
        couple(X, X, 'class')


@pytest.mark.parametrize('requires_grad', [False, True])
def test_logits_of_other_points(requires_grad):
    "Logits that were not computed from the points under autograd have no slope there."
    paths = Paths(X.clone().requires_grad_(requires_grad), X, Y)
    weight = torch.ones(4, 3, requires_grad=True)
    with pytest.raises(ValueError, match='call paths.x.requires_grad_()'):
        match_loss(weight * 2, paths)
