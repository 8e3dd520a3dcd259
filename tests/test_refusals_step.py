"What 18_step refuses, and what it says; and what it only warns of."
import dataclasses
import warnings

import pytest
import torch

from jem_nb.config import preset
from jem_nb.data import ImageSet
from jem_nb.step import check_data

CFG = preset('digits', batch_size=8, buffer_size=80)
LABELS = torch.arange(40)


def made(n=40, k=4, c=1, h=8, w=8, **fields):
    "A small set that is in order, but for what the caller breaks."
    g = torch.Generator().manual_seed(0)
    good = dict(
        x=torch.randint(256, (n, c, h, w), dtype=torch.uint8, generator=g),
        y=torch.arange(n) % k,
        name='made',
        split='train',
        classes=tuple('abcd'[:k]),
    )
    return ImageSet(**(good | fields))


def changed(**fields): return dataclasses.replace(CFG, **fields)


FIT = { # recipe, training split, validation split, processes, what is said
    'one image': (CFG, made(1), made(), 1, 'exceeds the 1 images'),
    'large batch': (changed(batch_size=64), made(), made(), 1,
                    'exceeds the 40 images.+make it smaller'),
    'one class': (CFG, made(k=1), made(), 1, 'has 1 classes'),
    'not square': (CFG, made(w=6), made(), 1, '8×6.+square'),
    'too small': (CFG, made(h=2, w=2), made(), 1, '4 at least, enlarge'),
    'empty class': (CFG, made(y=LABELS % 2 * 2), made(), 1, 'no image of class b.+add some'),
    'other channels': (CFG, made(), made(c=3), 1, 'do not match'),
    'no label in validation': (CFG, made(), made(y=LABELS % 5 - 1), 1, 'validation needs'),
    'no label': (CFG, made(y=LABELS % 5 - 1), made(), 1, 'set separate_batches'),
    'few labels': (changed(separate_batches=True, labels_per_class=11), made(), made(), 1,
                   'class a has 10 labelled'),
    'blocks': (changed(class_cond=True, buffer_size=82), made(), made(), 1, 'multiple of 4'),
    'shares of the buffer': (changed(buffer_size=81), made(), made(), 2,
                             '2 processes: make it a multiple of 2'),
    'shares of the batch': (CFG, made(), made(), 3, 'batch_size=8 cannot be shared equally by 3'),
}


@pytest.mark.parametrize('case', FIT)
def test_data_that_does_not_fit(case):
    cfg, train, valid, world, why = FIT[case]
    splits = dict(train=train, valid=valid)
    with pytest.raises(ValueError, match=why): check_data(cfg, splits, world)


def test_data_in_order():
    check_data(CFG, dict(train=made(), valid=made()))


NONE = dict(x=torch.zeros(0, 1, 8, 8, dtype=torch.uint8), y=torch.zeros(0, dtype=torch.long))
SETS = { # fields of the set, the exception, what is said
    'empty': (NONE, ValueError, 'no images'),
    'label above the classes': (dict(y=LABELS % 5), ValueError, 'but there are 4 classes'),
    'labels of another number': (dict(y=torch.arange(39)), ValueError, 'but labels of shape'),
    'NaN': (dict(x=torch.full((40, 1, 8, 8), float('nan'))), TypeError, 'to_uint8'),
    'float64': (dict(x=torch.zeros(40, 1, 8, 8, dtype=torch.double)), TypeError, 'to_uint8'),
}


@pytest.mark.parametrize('case', SETS)
def test_set_that_cannot_be(case):
    fields, kind, why = SETS[case]
    with pytest.raises(kind, match=why): made(**fields)


@pytest.mark.parametrize('levels', ['fixed', 'uniform'])
@pytest.mark.parametrize('clamp, noise, told', [(1., .3, 1), (2.2, .3, 0), (1., .03, 0)])
def test_tight_clamp(clamp, noise, told, levels):
    "A clamp without room for the noise is not refused, but said."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        cfg = changed(state_clamp=clamp, data_noise=noise, noise_levels=levels)
        check_data(cfg, dict(train=made(), valid=made()))
    assert len(said) == told
    if told: assert 'state_clamp=2.2' in str(said[0].message)
