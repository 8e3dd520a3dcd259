"What 00_energy refuses, and what it says."
import math

import pytest
import torch
from torch import nn

from jem_nb.energy import (
    EnergyClassifier,
    energy_from_logits,
    grid_points,
    joint_energy_from_logits,
    log_p_y_from_logits,
    log_z_grid,
)

LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
X = 2 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 1


class Answers(nn.Module):
    "A model whose logits are any function of its input."
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x): return self.answer(x)


def flat(x): return x.flatten(1)


MODEL = EnergyClassifier(Answers(lambda x: flat(x)[:, :10]))


BOXES = {  # arguments of grid_points, part of the message
    'three dimensions': (dict(lo=0, hi=2, dim=3), 'dim is 3: the grid is for 1 or 2 dimensions'),
    'edges that touch': (dict(lo=2, hi=2), r'the box \[2, 2\] with 200 cells is empty'),
    'no cells': (dict(lo=0, hi=2, n=0), r'the box \[0, 2\] with 0 cells is empty'),
}


@pytest.mark.parametrize('case', BOXES)
def test_boxes(case):
    how, message = BOXES[case]
    with pytest.raises(ValueError, match=message): grid_points(**how)


def test_energy_of_a_wrong_shape():
    with pytest.raises(ValueError, match=r'shape \(16, 2\) for 16 points: it must be \(16,\)'):
        log_z_grid(lambda x: x, -1, 1, 4)


ANSWERS = {  # what the model returns, what is raised, part of the message
    'a vector': (lambda x: flat(x).sum(1), ValueError, r'must be \(n,k\)'),
    'one column': (lambda x: flat(x)[:, :1], ValueError, 'one column'),
    'fewer rows': (lambda x: flat(x)[:1], ValueError, '4 inputs gave 1 rows'),
    'a tuple': (lambda x: (flat(x), x), TypeError, 'returned a tuple, not a tensor'),
    'a dict': (lambda x: dict(logits=flat(x)), TypeError, r"dict with keys \['logits'\]"),
    'integers': (lambda x: flat(x).long(), TypeError, 'logits are torch.int64: they must be float'),
    'inf': (lambda x: flat(x) / 0, ValueError,
            'x is finite, but the model returned NaN or inf in 4 of 4 rows'),
}


@pytest.mark.parametrize('case', ANSWERS)
def test_answers(case):
    answer, kind, message = ANSWERS[case]
    with pytest.raises(kind, match=message): EnergyClassifier(Answers(answer)).energy(X)


@pytest.mark.parametrize('reading', [energy_from_logits, log_p_y_from_logits,
                                     lambda x: joint_energy_from_logits(x, torch.zeros(5).long())],
                         ids=['energy', 'log p(y|x)', 'joint energy'])
def test_logits(reading):
    with pytest.raises(TypeError, match='returned a list'): reading(LOGITS.tolist())
    with pytest.raises(TypeError, match='floating point'): reading(LOGITS.long())
    with pytest.raises(ValueError, match=r'must be \(n,k\)'): reading(LOGITS[0])
    with pytest.raises(ValueError, match='one column'): reading(LOGITS[:, :1])


LABELS = {  # labels of five rows of three logits, what is raised, part of the message
    'too large': (torch.tensor([0, 1, 2, 3, 0]), ValueError, r'from 0 to 3, outside 0\.\.2'),
    'unlabelled': (-torch.ones(5).long(), ValueError, r'outside 0\.\.2 \(a label of -1 says'),
    'a column': (torch.zeros(5, 1).long(), ValueError,
                 r'5 rows of logits need labels of shape \(5,\)'),
    'int32': (torch.zeros(5).int(), TypeError, 'y is torch.int32: labels must be a torch.int64'),
    'a list': ([0, 1, 2, 0, 1], TypeError, 'y is list: labels must be a torch.int64 tensor'),
}


@pytest.mark.parametrize('case', LABELS)
def test_labels(case):
    y, kind, message = LABELS[case]
    with pytest.raises(kind, match=message): joint_energy_from_logits(LOGITS, y)


def with_value(value):
    x = X.clone()
    x[2, 0, 0, 5] = value
    return x


INPUTS = {  # x, what is raised, part of the message
    'bytes': (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), TypeError, 'x is torch.uint8'),
    'a list': (X.tolist(), TypeError, 'x is list: an energy needs a float tensor'),
    'no batch': (X[0, 0, 0], ValueError, 'the batch in front'),
    'nan': (with_value(math.nan), ValueError, 'x holds NaN or inf in 1 of 4 rows, first in row 2'),
}


@pytest.mark.parametrize('case', INPUTS)
def test_inputs(case):
    x, kind, message = INPUTS[case]
    with pytest.raises(kind, match=message): MODEL.energy(x)


def test_a_bad_pixel_that_the_network_hides():
    hides = EnergyClassifier(Answers(lambda x: flat(x).relu()))
    with pytest.raises(ValueError, match='x holds NaN or inf in 1 of 4 rows'):
        hides.energy(with_value(-math.inf))


def test_a_label_out_of_range():
    with pytest.raises(ValueError, match=r'outside 0\.\.9'):
        MODEL.grad_energy(X, torch.tensor([3, 1, 4, 10]))


def test_no_module():
    with pytest.raises(TypeError, match='model is a function: it must be an nn.Module'):
        EnergyClassifier(lambda x: x)


def test_no_gradient():
    detached = EnergyClassifier(Answers(lambda x: flat(x).detach()))
    with pytest.raises(ValueError, match='do not depend on x through autograd'):
        detached.grad_energy(X)


def test_values_are_looked_at_only_when_asked():
    x = with_value(math.nan)
    assert MODEL.energy(x, check=False).isnan().tolist() == [False, False, True, False]
    unchecked = EnergyClassifier(MODEL.model, check=False)
    assert unchecked.energy(x).isnan().tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match='x holds NaN or inf'): unchecked.energy(x, check=True)
