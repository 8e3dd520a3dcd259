"27_evaluate: what its parts return, on a model that ships."
import dataclasses

import pytest
import torch

from jem_nb.checkpoint import load_checkpoint
from jem_nb.config import Config
from jem_nb.data import ImageSet, load
from jem_nb.evaluate import (evaluate_model, fresh_samples, from_hex, histograms,
                             measure_robustness)
from jem_nb.evaluate import class_samples, measure_lowered, measure_samples
from jem_nb.refinement import SAMPLER
from jem_nb.train import load_pretrained, load_weights, weights_file

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
    clean = {'test', 'scaled', 'offset', 'temperature', 'eval_noise', 'noisy', 'energy', 'lowered',
             'right'}
    assert set(measured[1]) == clean | {'ood', 'energies', 'generation', 'robust', 'distal'}


@pytest.fixture(scope='module')
def jem():
    model, _, about = load_pretrained('digits')
    return model, Config(**about['config']), load('digits', 'test')


@pytest.mark.parametrize('k', [0, 2])
def test_an_unbounded_attack_leaves_nothing(jem, k):
    "Where every image may become grey, none is read rightly but by chance."
    out = measure_robustness(*jem, refine=(k,), n=20, attack_steps=10, norms=('linf',),
                             eps=dict(linf=(0., .5)))
    clean, attacked = out['linf'][str(k)]['accuracy']
    assert clean > .9 and attacked <= .1


def test_the_recipe_s_sampler_is_attacked(jem):
    "A recipe that holds the state near 0 leaves a refined classifier nothing to read."
    model, cfg, test = jem
    blind = dataclasses.replace(cfg, state_clamp=.01)
    out = measure_robustness(model, blind, test, refine=(0, 1), n=50, attack_steps=1,
                             norms=('linf',), eps=dict(linf=(0.,)))
    plain, refined = (out['linf'][k]['accuracy'][0] for k in '01')
    assert plain > .9 and refined < .6
    assert out['sampler'] == {name: getattr(blind, name) for name in SAMPLER}


def test_energy_of_the_test_images(measured):
    model, m = measured
    e = model.energy(load('digits', 'test').unit())
    assert m['energy']['mean'] == pytest.approx(e.mean().item(), abs=1e-4)
    assert m['energy']['sd'] == pytest.approx(e.std().item(), rel=1e-4)


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


def test_starts_of_two_kinds(jem):
    "Samples of init='mixed' start at the Gaussians; those that start in noise stand beside them."
    model, cfg, test = jem
    mixed = dataclasses.replace(cfg, init='mixed')
    how = dict(n_per_class=2, n_steps=3)
    for init in ('informative', 'uniform'):
        x, y = fresh_samples(model, dataclasses.replace(cfg, init=init), test, **how)
        again, classes = fresh_samples(model, mixed, test, init=init, **how)
        assert torch.equal(x, again) and torch.equal(y, classes)
    usual, _ = fresh_samples(model, mixed, test, **how)
    assert torch.equal(usual, fresh_samples(model, mixed, test, init='informative', **how)[0])
    out = measure_samples(model, mixed, test, test, **how)
    assert out['start'] == 'informative'
    near, far = (v['frechet_pixels']['value'] for v in (out, out['from_noise']))
    assert near < far # after three steps


def test_a_model_that_knows_no_classes(jem):
    "Its samples walk on E(x), and no share of classes is given."
    model, cfg, test = jem
    blind = dataclasses.replace(cfg, pyx_weight=0.)
    how = dict(n_per_class=2, n_steps=3)
    x, y = fresh_samples(model, blind, test, **how)
    assert torch.equal(x, class_samples(model, y, cfg, (1, 8, 8), 3, free=True))
    assert not torch.equal(x, fresh_samples(model, cfg, test, **how)[0])
    known, out = (measure_samples(model, c, test, test, **how) for c in (cfg, blind))
    assert set(known) - set(out) == {'own_accuracy', 'judged_accuracy'}


@pytest.mark.parametrize('name', ['mnist_jem', 'mnist_matched'])
def test_no_impossible_background_is_preferred(name):
    "An image is not made more likely by a page that is darker than any page can be."
    file = weights_file(name)
    model, _, about = load_weights(file)
    x = load_checkpoint(file)[0]['samples']  # of the model itself, 10 of each class
    labels = torch.arange(10).repeat_interleave(10)
    images = ImageSet(x, labels, about['config']['dataset'], 'test', tuple('0123456789'))
    assert (x == 0).float().mean() > .2
    assert measure_lowered(model, images, .15)['shift'] > 0


def test_bits_say_which_images_stand(jem):
    "The kept bits are the accuracy, and an image that fell at one ε stays down at the next."
    out = measure_robustness(*jem, refine=(0,), n=20, attack_steps=3, norms=('l2',),
                             eps=dict(l2=(0., .5, .7)), restarts=2)
    of, n = out['l2']['0'], out['n']
    kept = [from_hex(text, n) for text in of['kept']]
    shares = torch.stack(kept).float().mean(1)
    assert torch.allclose(shares, torch.tensor(of['accuracy']))
    assert 0 < kept[-1].sum() < kept[0].sum()
    assert not (kept[1] & ~kept[0]).any() and not (kept[2] & ~kept[1]).any()
