"What 21_calibration_metrics refuses, and what it says."
import pytest
import torch
from torch import tensor

from jem_nb.calibration import ece_noise_floor, fit_offsets, fit_temperature, nll, reliability_bins

NAN = float('nan')
GOOD = tensor([[.7, .3], [.2, .8], [.5, .5]])
LABELS = tensor([0, 1, 1])
NO_ROWS = torch.zeros(0, 3), torch.zeros(0).long()

TABLES = {  # probabilities, labels, what is raised, part of its message
    'logits': (tensor([[2., -1.]]), tensor([0]), ValueError, 'look like logits'),
    'rows do not sum to 1': (tensor([[.5, .4]]), tensor([0]), ValueError, 'must sum to 1'),
    'nan': (tensor([[NAN, 1.]]), tensor([0]), ValueError, 'NaN'),
    'unlabelled image': (GOOD, tensor([0, 1, -1]), ValueError, 'without a label'),
    'label too large': (GOOD, tensor([0, 1, 2]), ValueError, 'outside'),
    'empty': (*NO_ROWS, ValueError, 'no predictions'),
    'one column': (torch.ones(3, 1), LABELS, ValueError, 'one column'),
    'fewer labels': (GOOD, LABELS[:2], ValueError, 'shapes'),
    'float labels': (GOOD, LABELS.float(), TypeError, 'class indices'),
    'bool labels': (GOOD, LABELS.bool(), TypeError, 'class indices'),
    'integer probabilities': (GOOD.long(), LABELS, TypeError, 'floating point is wanted'),
    'a list': (GOOD.tolist(), LABELS, TypeError, 'must be tensors'),
}

LOGITS = {  # logits, labels, what is raised, part of its message
    'all right': (tensor([[2., 1.]]), tensor([0]), ValueError, 'largest logit'),
    'all wrong': (tensor([[2., 1.]]), tensor([1]), ValueError, 'favour wrong'),
    'nan': (tensor([[NAN, 1.]]), tensor([1]), ValueError, 'NaN'),
    'integers': (tensor([[2, 1]]), tensor([1]), TypeError, 'floating-point tensor'),
}


@pytest.mark.parametrize('case', TABLES)
def test_probabilities(case):
    probs, y, kind, message = TABLES[case]
    with pytest.raises(kind, match=message): nll(probs, y)


@pytest.mark.parametrize('case', LOGITS)
def test_temperature(case):
    logits, y, kind, message = LOGITS[case]
    with pytest.raises(kind, match=message): fit_temperature(logits, y)


@pytest.mark.parametrize('n_bins', [0, -1, True, 2.])
def test_bins(n_bins):
    with pytest.raises(ValueError, match=f'n_bins={n_bins}'): reliability_bins(GOOD, LABELS, n_bins)


def test_draws():
    with pytest.raises(ValueError, match='n_draws=0'):
        ece_noise_floor(GOOD, n_draws=0, generator=torch.Generator())


def test_offsets():
    with pytest.raises(ValueError, match='no image of class 1'):
        fit_offsets(tensor([[2., 1.], [0., 1.]]), tensor([0, 0]))
    with pytest.raises(ValueError, match='no finite minimum'):
        fit_offsets(tensor([[5., 1.], [4., 1.], [3., 1.], [2., 1.]]), tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match='NaN'): fit_offsets(tensor([[NAN, 1.]]), tensor([1]))


def test_offsets_of_logits_that_mislead():
    "Both labels occur on either side, the wrong one more often: the best slope is below 0."
    logits = tensor([[2., 0.], [2., 0.], [2., 0.], [0., 2.], [0., 2.], [0., 2.]])
    with pytest.raises(ValueError, match='favour wrong labels on average'):
        fit_offsets(logits, tensor([1, 1, 0, 0, 0, 1]))
