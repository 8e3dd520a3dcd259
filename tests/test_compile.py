"""A run with `compile` is the run without it.

The numbers are the same up to rounding, and nothing in its files depends on `compile`.
"""
import pytest
import torch
from torch import nn

from helpers import SMALL
from jem_nb.checkpoint import checkpoints, load_checkpoint
from jem_nb.train import load_weights, main

WORDS = [*SMALL, '--n-epochs', '1', '--max-iters', '6', '--precision', 'float32']


@pytest.fixture
def traced(monkeypatch):
    """A list that grows by one each time the network is traced.

    PyTorch's own runner stands for generated kernels, which need a C++ compiler.
    """
    found, plain_compile = [], nn.Module.compile

    def runner(graph, inputs):
        found.append([tuple(t.shape) for t in inputs if isinstance(t, torch.Tensor)])
        return graph.forward

    def compile_by_runner(self, **how): return plain_compile(self, backend=runner, **how)

    monkeypatch.setattr(nn.Module, 'compile', compile_by_runner)
    return found


def last_tensors(folder): return load_checkpoint(checkpoints(folder)[-1])[0]


def energy_of(folder, x):
    model, *_ = load_weights(folder / 'model.safetensors')
    return model.energy(x)


def assert_near(a, b, what):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m: f'{what}: {m}')


def test_compiled_run(tmp_path, traced):
    "The network is traced for chains, training and evaluation, and computes the same."
    for name, flag in (('plain', 'no'), ('compiled', 'yes')):
        assert main([*WORDS, '--compile', flag, '--out', str(tmp_path / name)]) == 0
        assert bool(traced) == (flag == 'yes')
    assert len(traced) > 1  # more than one use of the network
    plain, compiled = last_tensors(tmp_path / 'plain'), last_tensors(tmp_path / 'compiled')
    assert set(plain) == set(compiled)
    for name in plain: assert_near(plain[name], compiled[name], name)
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    assert_near(energy_of(tmp_path / 'plain', x), energy_of(tmp_path / 'compiled', x), 'energy')
