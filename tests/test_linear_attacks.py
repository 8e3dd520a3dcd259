"Where the border is a plane the nearest misread image is known. Every attack must come to it."
import math
import foolbox as fb
import numpy as np
import pytest
import torch
from torch import nn
from jem_nb.attacks import perturbation_norm, pgd


class Plane(nn.Module): # two classes, images in [0, 1]; class 0 where (x - 1/2)·w > 0
    def __init__(self, w):
        super().__init__()
        self.w = w

    def forward(self, x):
        z = ((x - .5).flatten(1) @ self.w).tanh() # bent, so that no step lands on the border
        return torch.stack([z, -z], 1)


class DataUnits(Plane): # the same for images in [-1, 1]
    def forward(self, x): return super().forward((x + 1) / 2)


@pytest.fixture(scope='module')
def known(): # network, images, classes, distance of each image in L2 and in L∞
    g = torch.Generator().manual_seed(0)
    w = torch.randn(16, generator=g)
    x = .5 + .2 * (2 * torch.rand(6, 1, 4, 4, generator=g) - 1)
    z = (x - .5).flatten(1) @ w
    return Plane(w), x, (z < 0).long(), z.abs() / w.norm(), z.abs() / w.abs().sum()


ATTACKS = { # name: (attack, norm, how much farther than the nearest it may end)
    'DDN': (fb.attacks.DDNAttack(steps=200), 2, .05),
    'FMN': (fb.attacks.LInfFMNAttack(steps=200), math.inf, .05),
    'boundary': (fb.attacks.BoundaryAttack(steps=3000), 2, .15),
    'HopSkipJump, L2': (fb.attacks.HopSkipJumpAttack(steps=15), 2, .15),
    'HopSkipJump, L∞': (fb.attacks.HopSkipJumpAttack(steps=15, constraint='linf'), math.inf, .35),
}


@pytest.mark.parametrize('name', ATTACKS)
def test_the_nearest_image_is_found(known, name):
    net, x, y, l2, linf = known
    attack, order, room = ATTACKS[name]
    torch.manual_seed(0)
    np.random.seed(0)
    victim = fb.PyTorchModel(net.eval(), bounds=(0, 1), device='cpu')
    start = {} if name in ('DDN', 'FMN') else dict(starting_points=1 - x) # the mirrored image
    found = attack.run(victim, x, fb.criteria.Misclassification(y), **start).detach()
    assert (net(found).argmax(1) != y).all()
    nearest = l2 if order == 2 else linf
    ratio = torch.linalg.vector_norm((found - x).flatten(1), order, dim=1) / nearest
    assert ratio.min() > .999 # nobody comes nearer than the border
    assert ratio.median() < 1 + room


def fewest(net, image): # pixels that must change, each as far as it may, to cross the border
    z = ((image - .5).flatten() * net.w).sum()
    side = z.sign()
    ends = torch.where(side * net.w > 0, 0., 1.) # where a pixel works most against the answer
    gains = (side * net.w * (image.flatten() - ends)).sort(descending=True).values
    return int((gains.cumsum(0) < z.abs()).sum()) + 1


def test_pointwise_changes_no_pixel_in_vain(known):
    net, x, y, *_ = known
    np.random.seed(0)
    victim = fb.PyTorchModel(net.eval(), bounds=(0, 1), device='cpu')
    ends = (torch.where(y == 0, 1., -1.)[:, None] * net.w < 0).float().view_as(x)
    found = fb.attacks.PointwiseAttack().run(
        victim, x, fb.criteria.Misclassification(y), starting_points=ends)
    assert (net(found).argmax(1) != y).all()
    for image, attacked, label in zip(x, found, y):
        changed = (attacked != image).flatten().nonzero().flatten()
        assert fewest(net, image) <= len(changed) < image.numel()
        for pixel in changed: # set back alone, each of them undoes it
            back = attacked.clone().flatten()
            back[pixel] = image.flatten()[pixel]
            assert net(back.view(1, *image.shape)).argmax() == label


@pytest.mark.parametrize('norm', ['linf', 'l2'])
@pytest.mark.parametrize('loss', ['ce', 'margin'])
def test_ours_succeeds_just_beyond_the_border(known, norm, loss):
    net, x, y, l2, linf = known

    ours = DataUnits(net.w)
    for image, label, near in zip(x, y, l2 if norm == 'l2' else linf):
        for factor, misread in ((1.03, True), (.97, False)):
            eps = factor * near.item()
            at = pgd(ours, 2 * image[None] - 1, label[None], eps, norm, n_steps=100, loss=loss,
                     restarts=2, generator=torch.Generator().manual_seed(0))
            assert perturbation_norm(at, 2 * image[None] - 1, norm) <= eps + 1e-5
            assert (ours(at).argmax(1) != label).item() == misread
