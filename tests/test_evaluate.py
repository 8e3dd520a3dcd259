"27_evaluate: what its parts return, on a model that ships."
import dataclasses

import pytest
import torch

from jem_nb.config import Config
from jem_nb.data import load
from jem_nb.evaluate import evaluate_model, histograms
from jem_nb.train import load_pretrained

SMALL = dict(
    n_attacked=20,
    attack_steps=3,
    refine=(0, 1),
    eps=dict(linf=(0., .1), l2=(0., 1.)),
    n_per_class=3,
    sample_steps=5,
    distal_per_class=1,
    distal_steps=5,
)


@pytest.fixture(scope='module')
def measured():
    model, _, about = load_pretrained('digits')
    return model, evaluate_model(model, Config(**about['config']), **SMALL)


def test_all_parts_are_there(measured):
    wanted = {'test', 'scaled', 'temperature', 'eval_noise', 'noisy', 'lowered', 'right'}
    assert set(measured[1]) == wanted | {'ood', 'energies', 'generation', 'robust', 'distal'}


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_attacks_do_not_help(measured, norm):
    for curve in measured[1]['robust'][norm].values():
        clean, attacked = curve['accuracy']
        assert clean >= attacked - .1


def test_scores(measured):
    for scores in measured[1]['ood'].values():
        for r in scores.values():
            assert 0 <= r['auroc'] <= 1 and r['n_in'] == r['n_out'] == 360


def test_energies(measured):
    model, m = measured
    edges, shares = m['energies']['edges'], m['energies']['shares']
    for name, v in shares.items(): assert abs(sum(v) - 1) < 1e-3, name
    middles = [(a + b) / 2 for a, b in zip(edges, edges[1:])]
    mean = sum(v * e for v, e in zip(shares['digits'], middles))
    true = model.energy(load('digits', 'test').unit()).mean().item()
    assert abs(mean - true) < .03 * (edges[-1] - edges[0])


def test_histograms_count_what_lies_outside():
    wide = histograms({'a': torch.tensor([0., 0., 1., 2.]), 'b': torch.tensor([1.])}, bins=2)
    assert wide['shares'] == {'a': [.5, .5], 'b': [0., 1.]}


def test_a_plain_classifier_is_not_refined(measured):
    model, _, about = load_pretrained('digits')
    plain = dataclasses.replace(Config(**about['config']), px_weight=0.)
    found = evaluate_model(model, plain, ('robust', 'generation'), **SMALL)
    assert set(found) == {'robust'} and set(found['robust']['linf']) == {'0'}
