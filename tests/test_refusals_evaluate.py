"What 27_evaluate refuses, and what it says."
import pytest

from jem_nb.config import preset
from jem_nb.evaluate import evaluate_model


def test_unknown_part():
    with pytest.raises(ValueError, match='the parts are clean, ood'):
        evaluate_model(None, preset('digits'), ('speed',))
