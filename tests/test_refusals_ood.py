"What 23_ood_scores refuses, and what it says."
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from jem_nb.energy import EnergyClassifier
from jem_nb.ood import (
    aupr,
    auroc,
    auroc_difference,
    auroc_interval,
    fpr95,
    ood_record,
    ood_scores,
    plot_score_histograms,
)

NAN = float('nan')
TWENTY = torch.arange(1., 21)
IMAGES = torch.zeros(7, 3, 8, 8)


def classifier(**how):
    return EnergyClassifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), **how)


SETS = {  # images, batch size, whether the model checks, what is raised, part of its message
    'empty': (IMAGES[:0], 256, True, ValueError, 'n > 0'),
    'no batch': (IMAGES, 0, True, ValueError, 'batch_size'),
    'bytes': (IMAGES.to(torch.uint8), 256, True, TypeError, 'float tensor'),
    'nan': (IMAGES * NAN, 256, True, ValueError, 'x holds NaN or inf in 7 of 7 rows'),
    'nan, unchecked by the model': (IMAGES * NAN, 256, False, ValueError,
                                    'log_p_x is not finite for 7 of 7'),
}


@pytest.mark.parametrize('case', SETS)
def test_sets(case):
    x, batch_size, check, kind, message = SETS[case]
    with pytest.raises(kind, match=message): ood_scores(classifier(check=check), x, batch_size)


def test_what_is_no_energy_classifier():
    with pytest.raises(TypeError, match='Sequential is no EnergyClassifier: wrap the network'):
        ood_scores(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), IMAGES)


SCORES = {  # in-distribution scores, other scores, what is raised, part of its message
    'nan': (TWENTY, torch.tensor([1., NAN]), ValueError, 'score_out holds NaN'),
    'empty': (TWENTY, TWENTY[:0], ValueError, 'n > 0'),
    'a table': (TWENTY[:, None], TWENTY, ValueError, 'score_in has shape'),
    'a list': (TWENTY, [1., 2.], TypeError, 'list'),
}


@pytest.mark.parametrize('measure', [auroc, fpr95, aupr, auroc_interval])
@pytest.mark.parametrize('case', SCORES)
def test_measures(case, measure):
    score_in, score_out, kind, message = SCORES[case]
    with pytest.raises(kind, match=message): measure(score_in, score_out)


def test_intervals_of_one_image():
    with pytest.raises(ValueError, match='needs two images of each set'):
        auroc_interval(TWENTY, TWENTY[:1])
    record = ood_record({'log_p_x': TWENTY}, {'log_p_x': TWENTY[:1]})
    assert record['log_p_x']['interval'] is None


def test_differences_of_other_images():
    with pytest.raises(ValueError, match='the same are wanted'):
        auroc_difference((TWENTY, TWENTY), (TWENTY, TWENTY[:5]))


@pytest.mark.parametrize('pair', [
    ({'log_p_x': TWENTY}, {'max_p_y': TWENTY}),
    ({}, {}),
], ids=['other scores', 'none'])
def test_record(pair):
    with pytest.raises(ValueError, match='scores differ'): ood_record(*pair)


def test_histograms():
    with pytest.raises(ValueError, match='NaN'):
        plot_score_histograms(Figure().subplots(), torch.tensor([NAN]), {})
