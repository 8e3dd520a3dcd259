"What 15_refinement refuses, and what it says."
import pytest
from torch import nn

from jem_nb.energy import EnergyClassifier
from jem_nb.refinement import RefinedClassifier

NET = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
MODEL = EnergyClassifier(NET)


def test_needs_an_energy():
    with pytest.raises(TypeError, match='EnergyClassifier'): RefinedClassifier(NET)


@pytest.mark.parametrize('setting, message', [
    (dict(grad='bpda'), "grad='bpda' is unknown"),
    (dict(n_steps=-1), 'n_steps=-1'),
    (dict(step_size=-1.), 'step_size=-1'),
    (dict(noise_scale=-1.), 'noise_scale=-1'),
    (dict(n_chains=0), 'n_chains=0'),
    (dict(data_noise=-1.), 'data_noise=-1'),
], ids=lambda v: '-'.join(v) if isinstance(v, dict) else '')
def test_setting(setting, message):
    with pytest.raises(ValueError, match=message): RefinedClassifier(MODEL, **setting)
