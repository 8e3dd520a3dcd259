"What 27_evaluate refuses, and what it says."
import pytest

from jem_nb.config import preset
from jem_nb.evaluate import evaluate_model, standing


def test_unknown_part():
    with pytest.raises(ValueError, match='the parts are clean, ood'):
        evaluate_model(None, preset('digits'), ('speed',))


def test_who_stood_is_not_known():
    "Older records kept only the share that stood."
    shares = dict(n=100, linf={'0': dict(eps=[0.], accuracy=[1.])})
    with pytest.raises(KeyError, match='attack the model again'): standing(shares)
