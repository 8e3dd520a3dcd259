"The comparators of Table 1 that our loop trains learn something; the flows' tests are on 25_flow."
from dataclasses import replace

import pytest
import torch

from jem_nb.config import recipe, rng
from jem_nb.data import load, load_ood
from jem_nb.ood import auroc, log_p_x
from jem_nb.step import architecture, build_model
from jem_nb.train import load_weights, train


def trained(model, folder, **changes):
    cfg = replace(recipe('digits', model), **changes)
    record = train(cfg, folder, progress=False)
    return record, load_weights(folder / 'model.safetensors')[0]


def test_a_deep_resnet_learns_the_classes(tmp_path):
    record, _ = trained('resnet110', tmp_path, depth=20, n_epochs=4)
    assert record['metrics']['valid_acc'] > .7 # chance is a tenth


@pytest.mark.parametrize('model', ['igebm', 'igebm_uncond'])
def test_igebm_learns_what_a_digit_is(model, tmp_path):
    cfg, test = recipe('digits', model), load('digits', 'test')
    noise = load_ood('uniform', test, 360, rng(0, 'ood', 'uniform')).unit()
    def tells(net): # AUROC of its energy
        with torch.no_grad(): return auroc(log_p_x(net, test.unit()), log_p_x(net, noise))
    assert tells(build_model(architecture(cfg, test))) < .7 # a fresh network knows nothing
    assert tells(trained(model, tmp_path, n_epochs=4)[1]) > .95
