"What 22_generation_metrics refuses or warns of, and what it says."
import importlib.util

import pytest
import torch

import jem_nb  # noqa: F401 (before torchmetrics)
from jem_nb.data import load
from jem_nb.energy import EnergyClassifier
from jem_nb.generation import (
    ClassifierExtractor,
    Extractor,
    Features,
    InceptionExtractor,
    PixelExtractor,
    extract,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from jem_nb.wrn import WideResNet

NAN = float('nan')


def randn(*shape): return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


REAL, FAKE = randn(40, 6).double(), randn(30, 6).double()
PROBS = (2 * randn(20, 10)).softmax(1)

FEATURES = {  # real, fake, what is raised, part of its message
    'one sample': (REAL[:1], FAKE, ValueError, 'at least 2'),
    'dimensions': (REAL, FAKE[:, :5], ValueError, 'dimensions differ'),
    'nan': (REAL, FAKE * NAN, ValueError, 'NaN'),
    'extractors': (Features(REAL, 'pixels'), Features(FAKE, 'wrn'), ValueError,
                   'different extractors cannot be compared: pixels, wrn'),
    'one named': (Features(REAL, 'pixels'), FAKE, ValueError, 'different extractors'),
    'a vector': (REAL[0], FAKE, ValueError, 'shape'),
    'a list': (REAL.tolist(), FAKE, TypeError, 'tensor'),
}


@pytest.mark.parametrize('case', FEATURES)
def test_features(case):
    real, fake, kind, message = FEATURES[case]
    with pytest.raises(kind, match=message): frechet_distance(real, fake)
    with pytest.raises(kind, match=message):
        kernel_distance(real, fake, generator=torch.Generator())


def test_few_samples_are_warned_of():
    with pytest.warns(UserWarning, match='6 samples in 6 dimensions: the covariance is singular'):
        frechet_distance(REAL[:6], FAKE)


@pytest.mark.parametrize('wrong', [dict(subset_size=1000), dict(n_subsets=0)], ids=str)
def test_subsets(wrong):
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=f'{name}={value}'):
        kernel_distance(REAL, FAKE, **wrong, generator=torch.Generator())


IMAGES = {  # images, what is raised, part of its message
    'pixels of 0 to 255': (255 * torch.ones(2, 1, 8, 8), ValueError, '0..255'),
    'bytes': (load('digits', 'test').x, TypeError, 'unit'),
    'empty': (torch.ones(0, 1, 8, 8), ValueError, 'n > 0'),
    'one image': (torch.ones(1, 8, 8), ValueError, 'n > 0'),
    'nan': (NAN * torch.ones(2, 1, 8, 8), ValueError, 'NaN'),
}


@pytest.mark.parametrize('case', IMAGES)
def test_images(case):
    x, kind, message = IMAGES[case]
    with pytest.raises(kind, match=message): extract(PixelExtractor(), x)


def test_what_an_extractor_gives():
    class Whole(Extractor):
        def forward(self, x): return x

    with pytest.raises(ValueError, match=r'gave features \(2, 1, 8, 8\) for 2 images'):
        extract(Whole(), torch.ones(2, 1, 8, 8))
    with pytest.raises(NotImplementedError, match='defines forward'):
        extract(Extractor(), torch.ones(2, 1, 8, 8))


def test_classifiers():
    net = WideResNet(depth=10, width=1, channels=1, image_size=8, norm='batch')
    with pytest.raises(TypeError, match='no features'):
        ClassifierExtractor(torch.nn.Linear(3, 3), 'linear')
    for name in ('Inception', 'inception-v3', ''):
        with pytest.raises(ValueError, match='not Inception'): ClassifierExtractor(net, name)
        with pytest.raises(ValueError, match='not Inception'):
            ClassifierExtractor(EnergyClassifier(net), name)


SCORES = {  # probabilities, splits, part of the message
    'logits': (randn(5, 3), 1, 'softmax'),
    'more splits than images': (PROBS[:5], 6, 'splits=6'),
    'no splits': (PROBS[:5], 0, 'splits=0'),
    'nine images in eight parts': (PROBS[:9], 8, 'splits=8'),  # parts of two are five
    'a vector': (PROBS[0], 1, r'a tensor \(n, k\)'),
}


@pytest.mark.parametrize('case', SCORES)
def test_inception_score(case):
    probs, splits, message = SCORES[case]
    with pytest.raises(ValueError, match=message):
        inception_score(probs, splits, generator=torch.Generator())


@pytest.mark.skipif(importlib.util.find_spec('torch_fidelity') is not None, reason='it is there')
def test_inception_without_its_package():
    with pytest.raises(ModuleNotFoundError, match='(?i)torch-fidelity'): InceptionExtractor()
