"What 02_sgld refuses, and what it says."
import pytest
import torch
from torch import nn

from jem_nb.sgld import sgld, sgld_step, sgld_trace, temperature

X = torch.zeros(10, 4)
NET = nn.Linear(4, 3)


def test_noise_without_a_generator():
    with pytest.raises(ValueError, match='noise_scale > 0 needs a generator'):
        sgld_step(X, X, .3, .1)


@pytest.mark.parametrize('step_size', [0., -1.])
def test_temperature_without_a_step(step_size):
    with pytest.raises(ValueError, match=f'step_size={step_size}: a temperature needs a step'):
        temperature(step_size, .01)


CHAINS = {  # steps, further arguments, part of the message
    'fewer than no steps': (-1, {}, 'n_steps=-1: at least 0'),
    'labels of other chains': (1, dict(y=torch.arange(3)), r'y has shape \(3,\), 10 chains want'),
}


@pytest.mark.parametrize('case', CHAINS)
def test_chains(case):
    n_steps, more, message = CHAINS[case]
    with pytest.raises(ValueError, match=message): sgld(NET, X, n_steps, **more)


@pytest.mark.parametrize('every', [3, 0])
def test_traces(every):
    with pytest.raises(ValueError, match=f'every={every} must be at least 1 and divide n_steps=10'):
        sgld_trace(NET, X, 10, every)


def test_a_trace_of_steps_that_shrink():
    with pytest.raises(ValueError, match='step_end shrinks the steps over one call'):
        sgld_trace(NET, X, 10, 5, step_end=.1)
