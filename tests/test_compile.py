"A run with `compile` is the run without it: same numbers up to rounding, and files that know nothing of it."
import torch
from torch import nn

from helpers import SMALL
from jem_nb.checkpoint import checkpoints, load_checkpoint
from jem_nb.train import load_weights, main

WORDS = [*SMALL, '--n-epochs', '1', '--max-iters', '6', '--precision', 'float32']


def test_compiled_run(tmp_path, monkeypatch):
    "The network is traced for chains, training and evaluation; PyTorch's own runner stands for generated kernels, which need a C++ compiler."
    shapes = []
    def runner(graph, inputs):
        shapes.append([tuple(t.shape) for t in inputs if isinstance(t, torch.Tensor)])
        return graph.forward
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, 'compile', lambda self, **how: compiled(self, backend=runner, **how))
    for name, flag in (('plain', 'no'), ('compiled', 'yes')):
        assert main([*WORDS, '--compile', flag, '--out', str(tmp_path / name)]) == 0
        assert bool(shapes) == (flag == 'yes')
    assert len(shapes) > 1                                         # more than one use of the network was traced
    a, b = (load_checkpoint(checkpoints(tmp_path / name)[-1])[0] for name in ('plain', 'compiled'))
    assert set(a) == set(b)
    for k in a: torch.testing.assert_close(a[k], b[k], rtol=1e-4, atol=1e-5, msg=lambda m: f'{k}: {m}')
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    e, f = (load_weights(tmp_path / name / 'model.safetensors')[0].energy(x) for name in ('plain', 'compiled'))
    torch.testing.assert_close(e, f, rtol=1e-4, atol=1e-5)
