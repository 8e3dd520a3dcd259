"What 04_loss refuses, and what it says."
import pytest
import torch

from jem_nb.loss import jem_loss, px_loss, slope_penalty

F_DATA = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
F_SAMPLE = torch.randn(8, 10, generator=torch.Generator().manual_seed(1))
Y = torch.arange(8)
ONLY_PXY = dict(px_weight=0, pyx_weight=0, pxy_weight=1)
ONLY_L2 = dict(px_weight=0, pyx_weight=0, energy_l2=1)

MISSING = {  # arguments, part of the message
    'samples': (dict(y=Y), 'needs samples of the model: pass logits_sample'),
    'samples of pxy': (dict(y=Y, y_sample=Y, **ONLY_PXY), 'needs samples'),
    'samples of l2': (dict(**ONLY_L2), 'needs samples'),
    'labels': (dict(logits_sample=F_SAMPLE), r'log p\(y\|x\) needs labels: pass y'),
    'labels of pxy': (dict(logits_sample=F_SAMPLE, y_sample=Y, **ONLY_PXY), 'needs labels'),
    'labels of the chains': (dict(logits_sample=F_SAMPLE, y=Y, **ONLY_PXY),
                             'labels that the chains walked on: pass y_sample'),
    'paths': (dict(y=Y, px_weight=0, match_weight=1), 'pass match, as jem_nb.transport.match_loss'),
    'weights': (dict(px_weight=0, pyx_weight=0), 'all weights are 0: nothing would be learned'),
}


@pytest.mark.parametrize('case', MISSING)
def test_missing(case):
    how, message = MISSING[case]
    with pytest.raises(ValueError, match=message): jem_loss(F_DATA, **how)


def test_logits():
    with pytest.raises(TypeError, match='floating point'): px_loss(F_DATA.long(), F_SAMPLE)


def test_a_slope_without_a_graph():
    with pytest.raises(ValueError, match='call x.requires_grad_'):
        slope_penalty(F_DATA, torch.zeros(8, 4))
