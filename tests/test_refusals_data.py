"What 11_data refuses, and what it says."
from dataclasses import replace

import pytest
import torch

from jem_nb.data import (
    ImageSet,
    available,
    load,
    resize,
    show_images,
    split_indices,
    to_uint8,
    to_unit,
)

BYTE = torch.arange(256, dtype=torch.uint8)
NAN, INF = float('nan'), float('inf')
SIX = ImageSet(torch.zeros(6, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 2, 0, 1, -1]),
               'lesson', 'train', ('a', 'b', 'c'))

UNITS = {  # function, images, what is raised, part of its message
    'floats to unit': (to_unit, torch.zeros(3), TypeError, 'wants uint8'),
    'bytes to bytes': (to_uint8, BYTE, TypeError, 'wants float'),
    'nan and inf': (to_uint8, torch.tensor([0., NAN, INF]), ValueError,
                    '2 of 3 values are NaN or inf'),
}

FIELDS = {  # what is wrong in an ImageSet, what is raised, part of its message
    'float images': (dict(x=SIX.unit()), TypeError, 'uint8 images'),
    'int32 labels': (dict(y=SIX.y.int()), TypeError, 'int64 labels'),
    'channels last': (dict(x=SIX.x.permute(0, 2, 3, 1)), ValueError, 'shape'),
    'no channels': (dict(x=SIX.x[:, 0]), ValueError, 'shape'),
    'fewer labels': (dict(y=SIX.y[:5]), ValueError, '6 images but labels'),
    'too few classes': (dict(classes=('a', 'b')), ValueError, 'there are 2 classes'),
    'label below -1': (dict(y=SIX.y - 1), ValueError, 'labels run from -2 to 1'),
}

TAKEN = {  # what is taken of six images, part of the message
    'none': (SIX.y == 7, 'no images'),
    'seven': (7, 'cannot take 7'),
    'zero': (0, 'cannot take 0'),
}

NAMES = {  # arguments of load, part of the message
    'set': (('digit',), 'did you mean digits'),
    'split': (('digits', 'validation'), 'did you mean valid'),
    'split that it lacks': (('celeba', 'train'), 'There are test'),
    'made, not loaded': (('letters',), r"load_ood\('letters', like, n, generator\)"),
}

HOLDOUTS = {  # set, holdout, part of the message
    'digits has one division': ('digits', 'last', "choose holdout='usual'"),
    'unknown': ('cifar10', 'first', 'choose usual or last'),
}


@pytest.mark.parametrize('case', UNITS)
def test_units(case):
    function, x, kind, message = UNITS[case]
    with pytest.raises(kind, match=message): function(x)


@pytest.mark.parametrize('case', FIELDS)
def test_image_set(case):
    wrong, kind, message = FIELDS[case]
    with pytest.raises(kind, match=message): replace(SIX, **wrong)


@pytest.mark.parametrize('case', TAKEN)
def test_take(case):
    which, message = TAKEN[case]
    with pytest.raises(ValueError, match=message): SIX.take(which)


def test_resize():
    with pytest.raises(ValueError, match='at least 1 pixel'): resize(SIX, 0)


@pytest.mark.parametrize('case', HOLDOUTS)
def test_holdout(case):
    name, holdout, message = HOLDOUTS[case]
    with pytest.raises(ValueError, match=message): split_indices(name, 'valid', 1797, holdout)


@pytest.mark.parametrize('case', NAMES)
def test_names(case):
    what, message = NAMES[case]
    with pytest.raises(ValueError, match=message): load(*what)


def test_available(tmp_path):
    with pytest.raises(ValueError, match='did you mean cifar10'):
        available('cifar-10', root=tmp_path)


def test_images_without_channels():
    with pytest.raises(ValueError, match='shape'): show_images(torch.zeros(4, 4), 2)
