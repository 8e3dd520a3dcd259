"Plumbing of 21_calibration_metrics: precision of the scores, what the figure draws."
import matplotlib

matplotlib.use('Agg')

import jem_nb  # noqa: F401, I001 (before torchmetrics)
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fastcore.test import test_close as check_close
from sklearn.metrics import log_loss

from jem_nb.calibration import (ReliabilityBins, adaptive_bins, adaptive_ece, draw_bins, ece,
                                fit_offsets, nll, plot_reliability)


def test_small_probabilities_are_not_clipped():
    "scikit-learn raises every probability below 2e-16 to that."
    probs, y = torch.tensor([[1e-30, 1.], [0., 1.]], dtype=torch.float64), torch.tensor([0, 1])
    check_close(nll(probs, y), 15 * np.log(10), eps=1e-9)
    assert log_loss(y, probs) < 20


def predictions(n):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 5, generator=g).softmax(1), torch.randint(5, (n,), generator=g)


@pytest.mark.parametrize('adaptive', [False, True], ids=['equal width', 'equal count'])
@pytest.mark.parametrize('n', [1, 12, 300])
def test_the_figure_counts_every_prediction(adaptive, n):
    probs, y = predictions(n)
    _, ax = plt.subplots()
    b = plot_reliability(ax, probs, y, label='a model', adaptive=adaptive)
    strip, = ax.child_axes
    assert sum(int(t.get_text()) for t in strip.texts) == b.count.sum() == n
    assert strip.get_title().startswith('a model\n')
    plt.close('all')


def test_the_hatched_area_is_the_adaptive_error():
    probs, y = predictions(300)
    b = adaptive_bins(probs, y, 6)
    heights = (b.confidence - b.accuracy).abs()
    widths = (torch.cat([torch.zeros(1), b.count.cumsum(0) / 300])).diff()
    check_close((heights * widths).sum().item(), adaptive_ece(probs, y, 6), eps=1e-6)


def test_offsets_are_the_priors_that_were_left_out():
    "Logits log p(x|y) of two normals on the line: what is missing is log p(y), and T is 1."
    g = torch.Generator().manual_seed(0)
    n, prior = 20_000, torch.tensor([.8, .2]).double()
    y = (torch.rand(n, generator=g) < .2).long()
    x = torch.randn(n, generator=g).double() + 2 * y
    logits = -(x[:, None] - torch.tensor([0., 2.]).double())**2 / 2
    T, b = fit_offsets(logits, y)
    wanted = prior.log() - prior.log().mean()
    assert abs(T - 1) < .05 and (b - wanted).abs().max() < .05  # s.e. about .01 and .02
    p = (logits / T + b).softmax(1)
    excess = p - torch.nn.functional.one_hot(y)
    assert excess.mean(0).abs().max() < 1e-4                    # as often as it occurs
    assert (excess * logits).sum(1).mean().abs() < 1e-4         # the mean logit of the labels


def test_offsets_do_not_depend_on_the_scale_of_the_logits():
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(500, 4, generator=g, dtype=torch.float64)
    p = (logits + torch.tensor([0., 1., 2., 0.])).softmax(1)
    y = torch.multinomial(p, 1, generator=g)[:, 0]
    T, b = fit_offsets(logits, y)
    for factor in (1e-3, 1e4):
        other, same = fit_offsets(factor * logits, y)
        assert other / factor == pytest.approx(T, rel=1e-3)
        torch.testing.assert_close(same, b, atol=1e-3, rtol=0)


def test_bins_of_a_record_are_drawn_as_the_predictions_are():
    probs, y = predictions(300)
    _, (left, right) = plt.subplots(1, 2)
    b = plot_reliability(left, probs, y, label='a model')
    kept = {k: getattr(b, k).nan_to_num().tolist() for k in ('count', 'confidence', 'accuracy')}
    draw_bins(right, ReliabilityBins.kept(**kept), 'a model')
    said = [ax.child_axes[0].get_title() for ax in (left, right)]
    assert said[0] == said[1] and said[0].endswith('n = 300')
    plt.close('all')


@pytest.mark.parametrize('kept', [([1, 2], [.5], [.5]), ([], [], [])])
def test_bins_of_a_broken_record_are_refused(kept):
    with pytest.raises(ValueError, match='one number a bin'): ReliabilityBins.kept(*kept)


def test_the_class_is_chosen_in_float64():
    "Two classes that float32 cannot tell apart."
    p = torch.tensor([[.3, .3 + 1e-9, .2, .2 - 1e-9]] * 4, dtype=torch.float64)
    assert abs(ece(p, torch.ones(4, dtype=torch.long)) - .7) < 1e-6


def test_bins_that_hold_nothing():
    with pytest.raises(ValueError, match='no bin has a prediction'):
        ReliabilityBins.kept([0, 0], [0, 0], [0, 0]).ece


@pytest.mark.parametrize('scale', [1e-6, 1., 2e6])
def test_offsets_know_no_scale(scale):
    logits = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double()
    y = (logits + torch.randn(200, 3, generator=torch.Generator().manual_seed(1))).argmax(1)
    T, _ = fit_offsets(logits, y)
    assert abs(fit_offsets(scale * logits, y)[0] / scale / T - 1) < 1e-4


def test_logits_that_say_nothing():
    with pytest.raises(ValueError, match='all logits are the same'):
        fit_offsets(torch.zeros(6, 3), torch.arange(6) % 3)
