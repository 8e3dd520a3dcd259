"Detector: what it refuses to promise, and what stays as it was."
import pytest
import torch
from torch import nn

from jem_nb.checkpoint import load_checkpoint, save_checkpoint
from jem_nb.detector import SCORES, Detector, ood_score, threshold_of
from jem_nb.energy import EnergyClassifier


@pytest.fixture
def model():
    torch.manual_seed(0)
    return EnergyClassifier(nn.Linear(4, 3))


IMPOSSIBLE = {  # scores, rate, part of the message
    'rate 0': (torch.arange(9.), 0., 'a share between 0 and 1'),
    'rate 1': (torch.arange(9.), 1., 'a share between 0 and 1'),
    'too few': (torch.arange(18.), .05, 'needs at least 19'),
    'far too few': (torch.arange(50.), .01, 'needs at least 99'),
    'NaN': (torch.tensor([1., float('nan')]), .5, 'NaN or infinity'),
}


@pytest.mark.parametrize('case', IMPOSSIBLE)
def test_refused_thresholds(case):
    scores, rate, message = IMPOSSIBLE[case]
    with pytest.raises(ValueError, match=message): threshold_of(scores, rate)


def test_enough_is_enough():
    "19 images can promise one in twenty: the smallest score is the threshold."
    assert threshold_of(torch.arange(19.), .05) == 0.
    assert threshold_of(torch.arange(99.), .01) == 0.


def test_ties_are_accepted():
    assert threshold_of(torch.ones(39), .05) == 1.


def test_an_unknown_score(model):
    with pytest.raises(ValueError, match='did you mean max_logit'):
        Detector.fit(model, torch.randn(30, 4), .1, 'max_logits')


@pytest.mark.parametrize('method', SCORES)
def test_mode_and_gradients_stay(model, method):
    model.train()
    x = torch.randn(40, 4)
    detector = Detector.fit(model, x, .1, method)
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    few, many = (ood_score(model, x, method, batch_size) for batch_size in (7, 40))
    torch.testing.assert_close(few, many, atol=1e-6, rtol=1e-6) # CPUs sum a batch in other orders
    assert (~detector.accepts(model, x)).sum() == 3  # below the fourth smallest of 40
    assert detector.predict(model, x).count(None) == 3


def test_a_file_without_one(model, tmp_path):
    path = save_checkpoint(tmp_path / 'm.safetensors', dict(model.model.state_dict()), dict(arch=1))
    with pytest.raises(ValueError, match='has no detector'): Detector.load(path)
    detector = Detector.fit(model, torch.randn(30, 4), .1)
    detector.save_into(path)
    tensors, meta = load_checkpoint(path)
    assert Detector.load(path) == detector and meta['arch'] == 1
    assert torch.equal(tensors['weight'], model.model.weight)


@pytest.mark.parametrize('x, error, message', [
    ('digits', TypeError, 'x must be a float tensor'),
    (torch.zeros(3, 4, dtype=torch.uint8), TypeError, 'x must be a float tensor'),
    (torch.zeros(0, 4), ValueError, r'shape \(0, 4\): \(n, \*d\) with n > 0 is wanted'),
], ids=['no tensor', 'bytes', 'empty'])
def test_what_is_no_images(model, x, error, message):
    with pytest.raises(error, match=message): ood_score(model, x)


def test_a_score_that_a_later_version_dropped(model):
    with pytest.raises(ValueError, match='gone'):
        Detector('gone', 0., .1, 30).accepts(model, torch.zeros(2, 4))
