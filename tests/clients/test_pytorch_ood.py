"pytorch-ood's own Benchmark on a model of ours: it finds the AUROCs that ours has."
import pytest
import torch
from torch.utils.data import TensorDataset

import jem_nb
from jem_nb.config import rng
from jem_nb.data import load, load_ood
from jem_nb.ood import auroc, log_p_x
from jem_nb.ood_family import as_detector, score_by

pytest.importorskip('pytorch_ood')
torch.set_num_threads(1)
OTHERS = 'letters', 'photos', 'interpolations', 'uniform', 'constant'


def other(name, test): return load_ood(name, test, 200, rng(0, 'ood', name)).unit()


@pytest.mark.parametrize('name', ['digits', 'digits_baseline'])
def test_its_benchmark_finds_our_aurocs(name):
    from pytorch_ood.benchmark import Benchmark
    from pytorch_ood.detector import EnergyBased, MaxSoftmax
    model, test = jem_nb.load(name).model, load('digits', 'test')

    class Digits(Benchmark):
        ood_names = list(OTHERS)

        def train_set(self): return TensorDataset(load('digits', 'train').unit())

        def test_sets(self, known=True, unknown=True):
            out = {s: other(s, test) for s in OTHERS}
            labels = torch.cat([test.y, torch.full((200,), -1)]) # below zero: out
            return [TensorDataset(torch.cat([test.unit(), x]), labels) for x in out.values()]

    asked = [EnergyBased(model), as_detector(model), MaxSoftmax(model)]
    with torch.no_grad():
        rows = Digits().evaluate(asked, loader_kwargs=dict(batch_size=100))
        assert len(rows) == len(OTHERS) * len(asked)
        for row, detector in zip(rows, asked * len(OTHERS)):
            images = test.unit(), other(row['Dataset'], test)
            ours = auroc(*(score_by(detector, x) for x in images)) # its sign turned round
            assert abs(row['AUROC'] - ours) < 1e-6, (name, row)
            if row['Detector'] != 'MaxSoftmax': # rounds to float32 first, so it has ties
                assert abs(row['AUROC'] - auroc(*(log_p_x(model, x) for x in images))) < 1e-6
