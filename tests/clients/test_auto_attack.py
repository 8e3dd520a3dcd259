"The four attacks of the AutoAttack ensemble: on a plane border, and on a model of ours."
import pytest
import torch
from torch import nn

import jem_nb
from jem_nb.attacks import robust_accuracy
from jem_nb.data import load
from jem_nb.unit_box import UnitBox

pytest.importorskip('pyautoattack')
torch.set_num_threads(1)
ALL = 'apgd-ce', 'apgd-t', 'fab-t', 'square'


class Plane(nn.Module):
    "Two classes that a plane parts, images in [0, 1]; eight more that never win."
    def __init__(self, w):
        super().__init__()
        self.w = w

    def forward(self, x):
        z = (x - .5).flatten(1) @ self.w
        never = torch.full((len(x), 8), -10., device=x.device) - torch.arange(8.)
        return torch.cat([z[:, None], -z[:, None], never], 1)


def attacked(net, x, y, eps, name, norm='Linf', queries=2000):
    from pyautoattack.autoattack import AutoAttack
    a = AutoAttack(net, norm=norm, eps=eps, seed=0, version='custom', attacks=[name])
    a.apgd.n_restarts = a.fab.n_restarts = a.apgd_targeted.n_restarts = 1
    a.fab.n_target_classes = a.apgd_targeted.n_target_classes = 9
    a.square.n_queries = queries
    found = a.run_standard_evaluation(x, y, batch_size=len(x))
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize('norm', ['Linf', 'L2'])
@pytest.mark.parametrize('name', ALL)
def test_a_plane_border_is_found_and_not_crossed_too_early(name, norm):
    g = torch.Generator().manual_seed(0)
    w = torch.randn(64, generator=g)
    x = .5 + .2 * (2 * torch.rand(4, 1, 8, 8, generator=g) - 1)
    net = Plane(w).eval()
    z = (x - .5).flatten(1) @ w
    y, far = (z < 0).long(), z.abs() / (w.abs().sum() if norm == 'Linf' else w.norm())
    # Square draws patches and knows no slope
    beyond = dict(Linf=1.3, L2=2.)[norm] if name == 'square' else 1.05
    for image, label, near in zip(x, y, far.tolist()):
        for factor, misread in ((beyond, True), (.97, False)):
            found = attacked(net, image[None], label[None], factor * near, name, norm)
            assert (net(found).argmax(1) != label).item() == misread, (name, norm, factor)


def test_on_a_model_of_ours_they_agree_with_ours():
    model, part = jem_nb.load('digits'), load('digits', 'test').take(60)
    net, x = UnitBox(model.model).eval(), (part.unit() + 1) / 2
    for eps in (.05, .1):
        ours = robust_accuracy(model.model, part.unit(), part.y, (0., eps), n_steps=40,
                               restarts=2, loss='margin',
                               generator=torch.Generator().manual_seed(0)).robust
        left = ours[0].clone()
        for name in ALL:
            found = attacked(net, x, part.y, eps, name, queries=500)
            assert (found - x).abs().max() <= eps + 1e-6 and 0 <= found.min() <= found.max() <= 1
            with torch.no_grad(): left &= net(found).argmax(1) == part.y
        assert abs(int(left.sum()) - int(ours[1].sum())) <= 2, eps # of sixty
