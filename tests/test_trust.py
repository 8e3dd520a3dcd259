"Refusals and plumbing of the room of trust, 60_calibration_measures to 67_smoothing."
import sys

import pytest
import torch

import jem_nb  # noqa: F401 (before torchvision)
from jem_nb.calibration import ece
from jem_nb.calibration_measures import (aurc, brier_parts, classwise_ece, confidence_gap,
    full_calibration, mce, risk_coverage)
from jem_nb.config import rng
from jem_nb.data import load
from jem_nb.energy import EnergyClassifier
from jem_nb.ood_family import as_detector, family, pytorch_ood, refinement_gain, score_by
from jem_nb.people import cross_entropy, human_shares
from jem_nb.shift import CORRUPTIONS, LEVELS, corrupted
from jem_nb.smoothing import certify
from jem_nb.train import load_pretrained
from jem_nb.unit_box import DataUnits
from jem_nb.worst_case import moved_score


def seeded(): return torch.Generator().manual_seed(0)


def predictions(n=300, k=4): # whatever
    g = seeded()
    probs = (2 * torch.randn(n, k, generator=g, dtype=torch.float64)).softmax(1)
    return probs, torch.randint(k, (n,), generator=g)


# ---- calibration ----

@pytest.mark.parametrize('measure', [mce, classwise_ece, brier_parts])
def test_logits_are_refused(measure):
    with pytest.raises(ValueError, match='these look like logits'):
        measure(torch.tensor([[3., -1.]]), torch.tensor([0]))


def test_two_classes():
    "With two classes both are one question, and the confidence is one half of it."
    p = torch.tensor([[.8, .2], [.3, .7], [.6, .4]])
    y = torch.tensor([0, 1, 1])
    of_first = [(p[i, 0], float(y[i] == 0)) for i in range(3)]
    by_hand = sum(abs(c - r) for c, r in of_first) / 3 # each in a bin of its own
    assert abs(classwise_ece(p, y) - by_hand) < 1e-6


@pytest.mark.parametrize('n_bins', [1, 7, 20])
def test_the_parts_of_the_brier_score_add_up(n_bins):
    parts = brier_parts(*predictions(), n_bins)
    total = parts['reliability'] - parts['resolution'] + parts['uncertainty'] + parts['within']
    assert abs(total - parts['score']) < 1e-12
    if n_bins == 1: assert parts['resolution'] < 1e-12


def test_order_of_ties_does_not_matter():
    sure = torch.tensor([.9, .5, .5, .5, .2])
    right = torch.tensor([True, False, True, True, False])
    swapped = [0, 3, 2, 1, 4]
    assert torch.allclose(risk_coverage(sure, right), risk_coverage(sure[swapped], right[swapped]))
    assert abs(risk_coverage(sure, right)[1].item() - 1 / 6) < 1e-9 # a third of an error in two


def test_the_best_order_has_no_excess():
    right = torch.rand(50, generator=seeded()) < .7
    area, excess = aurc(right.float(), right)
    assert abs(excess) < 1e-12 and area > 0
    assert aurc(-right.float(), right)[1] > .1


@pytest.mark.parametrize('sure, right, message', [
    (torch.ones(3), torch.ones(2), 'two lists of one length'),
    (torch.ones(0), torch.ones(0), 'two lists of one length'),
    (torch.tensor([1., float('nan')]), torch.ones(2), 'NaN or infinity'),
])
def test_no_curve(sure, right, message):
    with pytest.raises(ValueError, match=message): risk_coverage(sure, right.bool())


def test_the_gap_has_a_sign_and_an_error():
    probs = torch.tensor([[.9, .1], [.7, .3]])
    gap, error = confidence_gap(probs, torch.tensor([0, 0]))
    assert abs(gap + .2) < 1e-6 and abs(error - .1) < 1e-6
    assert confidence_gap(probs, torch.tensor([1, 1]))[0] > .7
    with pytest.raises(ValueError, match='two at least'):
        confidence_gap(probs[:1], torch.tensor([0]))


def test_the_whole_record_is_of_its_parts():
    probs, y = predictions()
    found = full_calibration(probs, y, generator=seeded())
    assert (found['ece'], found['ece_15']) == (ece(probs, y), ece(probs, y, 15))
    assert found['gap'] == pytest.approx(found['confidence'] - found['accuracy'])


# ---- shift ----

@pytest.fixture(scope='module')
def images(): return load('digits', 'test').unit()[:20]


@pytest.mark.parametrize('kind', CORRUPTIONS)
def test_shapes_and_box(images, kind):
    for x in (images, images.expand(-1, 3, -1, -1)):
        out = corrupted(x, kind, LEVELS[kind][-1], generator=seeded())
        assert out.shape == x.shape and out.dtype == x.dtype and out.abs().max() <= 1
    assert len(LEVELS[kind]) == 5


def test_what_cannot_be_corrupted(images):
    with pytest.raises(ValueError, match='no corruption .blurr., did you mean blur?'):
        corrupted(images, 'blurr', 1., generator=seeded())
    for wrong in (images * 2, images[0], images.expand(-1, 2, -1, -1), images * float('nan')):
        with pytest.raises(ValueError, match=r'in \[-1, 1\] are wanted'):
            corrupted(wrong, 'blur', 1., generator=seeded())


# ---- people ----

def test_no_file_of_people(tmp_path):
    with pytest.raises(FileNotFoundError, match='cifar10h_counts.npz'): human_shares(tmp_path)


def test_an_answer_that_nobody_gave_costs_nothing():
    q, log_p = torch.tensor([[1., 0.]]), torch.tensor([[0., -float('inf')]])
    assert cross_entropy(q, log_p).tolist() == [0.]
    with pytest.raises(ValueError, match='two tables of one shape'): cross_entropy(q, log_p[:, :1])


# ---- the family of scores ----

@pytest.fixture(scope='module')
def jem(): return load_pretrained('digits')


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorch_ood.detector', None)
    with pytest.raises(ImportError, match='pip install pytorch-ood'): pytorch_ood('detector')


def test_both_directions(jem, images):
    "A score that becomes a detector and comes back is the same."
    ours = as_detector(jem[0], 'max_logit')
    there_and_back = score_by(ours, images, batch_size=7)
    direct = jem[0].logits(images).double().max(1).values
    torch.testing.assert_close(there_and_back, direct, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match='no score'): as_detector(jem[0], 'log_p')(images)


def test_a_score_that_is_not_finite(images):
    class Broken:
        def predict(self, x): return torch.full((len(x),), float('nan'))
    with pytest.raises(ValueError, match='Broken: scores that are not finite'):
        score_by(Broken(), images)


def test_a_network_without_features():
    net = EnergyClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))
    with pytest.raises(TypeError, match='has no features'): family(net, load('digits', 'train'))


def test_the_gain_of_no_walk(jem, images):
    from jem_nb.config import Config
    cfg = Config(**jem[2]['config'])
    assert refinement_gain(jem[0], cfg, images, n_steps=0).abs().max() == 0
    ends = [refinement_gain(jem[0], cfg, images, seed=s) for s in (0, 0, 1)]
    assert torch.equal(*ends[:2]) and not torch.equal(*ends[1:])
    noise = torch.rand(images.shape, generator=rng(0, 'noise')) * 2 - 1
    assert refinement_gain(jem[0], cfg, noise).mean() < ends[0].mean() # noise gains more


# ---- the worst case, other units, certificates ----

@pytest.mark.parametrize('how, message', [
    (dict(method='log_p'), 'no score .log_p.'),
    (dict(eps=-.1), 'at least 0 is wanted'),
    (dict(eps=float('nan')), 'at least 0 is wanted'),
])
def test_what_cannot_be_moved(jem, images, how, message):
    with pytest.raises(ValueError, match=message):
        moved_score(jem[0], images, generator=seeded(), **how)


def test_images_outside_the_box_are_not_moved(jem, images):
    with pytest.raises(ValueError, match=r'in \[-1, 1\]'):
        moved_score(jem[0], 1.5 * images, generator=seeded())


@pytest.mark.parametrize('method', ['log_p_x', 'max_p_y', 'max_logit'])
def test_a_wider_attack_reaches_as_far(jem, images, method):
    "Raised is above the score itself, lowered below, and neither leaves the model changed."
    before = [p.clone() for p in jem[0].parameters()]
    def moved(eps, up): return moved_score(jem[0], images, method, eps, up, 5, generator=seeded())
    own = moved(0., True)
    assert torch.equal(own, moved(0., False)) and own.dtype == torch.float64
    assert (moved(.02, True) >= own).all() and (moved(.02, False) <= own).all()
    assert moved(.1, True).mean() > moved(.02, True).mean() > own.mean()
    assert all(torch.equal(a, b) for a, b in zip(before, jem[0].parameters()))
    assert all(p.requires_grad for p in jem[0].parameters())


def test_a_std_of_zero():
    with pytest.raises(ValueError, match='numbers above 0 are wanted'):
        DataUnits(torch.nn.Identity(), (0.,), (0.,))


@pytest.mark.parametrize('how, message', [
    (dict(sigma=0.), 'noise above 0'), (dict(alpha=0.), 'a chance between'),
    (dict(alpha=1.), 'a chance between'), (dict(n_bound=0), 'at least 1 of each'),
    (dict(batch_size=0), 'at least 1 of each'),
])
def test_no_certificate(jem, images, how, message):
    how = dict(sigma=.25) | how
    with pytest.raises(ValueError, match=message):
        certify(jem[0], images[:1], generator=seeded(), **how)


class Coin(torch.nn.Module): # class 0 as often as class 1
    def forward(self, x): return torch.stack([x.flatten(1)[:, 0], -x.flatten(1)[:, 0]], 1)


def test_who_cannot_decide_abstains():
    found = certify(Coin(), torch.zeros(3, 4), .5, n_bound=400, generator=seeded())
    assert found.label.tolist() == [-1] * 3 and found.radius.tolist() == [0.] * 3
    assert (found.share < .5).all()


def test_how_the_draws_are_batched_does_not_matter(jem, images):
    a, b = (certify(jem[0], images[:2], .25, 20, 60, batch_size=size, generator=seeded())
            for size in (60, 20))
    assert torch.equal(a.label, b.label) and (a.share - b.share).abs().max() < .1
