"10_config: every field is an option, every recipe goes with every model."
import argparse
import dataclasses
import json
import pickle

import pytest

from jem_nb.config import (
    MODELS,
    PRESETS,
    Config,
    add_options,
    config_from_options,
    differences,
    given_options,
    matched,
    model_config,
    preset,
    recipe,
    same_recipe,
)

FIELDS = [f.name for f in dataclasses.fields(Config)]


def options(words): return add_options(argparse.ArgumentParser()).parse_args(words.split())


def test_order():
    "Records, options and positional arguments follow the groups in this order."
    places = {
        'dataset': 0,
        'px_weight': 8,
        'n_steps': 24,
        'n_chains': 30,
        'holdout': 36,
        'optimizer': 45,
        'retries': 60,
        'seed': 63,
    }
    assert {name: FIELDS.index(name) for name in places} == places
    assert len(FIELDS) == 70 and FIELDS[-1] == 'keep_ckpts'


def test_every_field_is_an_option():
    parser = add_options(argparse.ArgumentParser())
    shown = parser.format_help()
    for f in dataclasses.fields(Config): assert '--' + f.name.replace('_', '-') in shown
    destinations = {a.dest for a in parser._actions}
    assert destinations == {*FIELDS, 'preset', 'help'}


GIVEN = {
    '': {},
    '--lr 5e-4': dict(lr=5e-4),
    '--n-steps 5 --flip yes': dict(n_steps=5, flip=True),
    '--decay-epochs 3,4 --remedies lr,n_steps': dict(
        decay_epochs=(3, 4), remedies=('lr', 'n_steps')),
    '--channels-last yes --precision auto': dict(channels_last=True, precision='auto'),
    '--channels-last auto': dict(channels_last='auto'),
    '--channels-last no': dict(channels_last=False),
}


@pytest.mark.parametrize('words', GIVEN)
def test_options(words):
    args = options('--preset digits ' + words)
    assert given_options(args) == GIVEN[words]
    assert config_from_options(args) == preset('digits', **GIVEN[words])


def test_the_default_preset(): assert config_from_options(options('')) == preset('digits')


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('name', PRESETS)
def test_every_model_of_every_preset(name, model):
    "A model changes no field but its own, and its configuration survives JSON and pickle."
    cfg = model_config(preset(name), model)
    of_matched = 'n_epochs', 'batch_size', 'lr', 'ema' # which differ with the data
    its_own = {*MODELS[model], *(of_matched if model == 'matched' else ())}
    assert set(differences(preset(name), cfg)) <= its_own
    assert Config(**json.loads(json.dumps(dataclasses.asdict(cfg)))) == cfg
    assert pickle.loads(pickle.dumps(cfg)) == cfg


def test_changes_to_a_model():
    "What a model is wins over a change; of the matched model every number may be changed."
    assert recipe('digits', 'baseline', px_weight=2.).px_weight == 0
    assert recipe('digits', 'direct').class_cond
    # log p(x|y) weighs what log p(x) weighs in the JEM, however often the model is named
    of_mnist = recipe('mnist', 'direct')
    assert of_mnist.pxy_weight == recipe('mnist').px_weight == .05
    assert model_config(of_mnist, 'direct') == of_mnist
    joint = recipe('digits', 'direct', pxy_form='joint') # draws its labels from the model
    assert (joint.pxy_form, joint.pxy_weight, joint.class_cond) == ('joint', 1., False)
    cfg = recipe('digits', 'matched', match_rest=.1, n_epochs=2, px_weight=.3, px_delay=9)
    assert (cfg.match_rest, cfg.n_epochs, cfg.px_weight) == (.1, 2, .3)
    assert recipe('digits', 'matched', dataset='mnist').energy_scale == 784 / 64
    assert config_from_options(options('--match-rest .1'), 'matched').match_rest == .1
    with pytest.raises(ValueError, match='did you mean match_rest'):
        recipe('digits', 'matched', match_reste=.1)


def test_scale_of_the_matched_model():
    "The energy is scaled by the pixels, and a chain's step is a fiftieth of the way at any size."
    for n_pixels in 64, 3072:
        cfg = matched(preset('digits'), n_pixels)
        assert cfg.energy_scale == n_pixels / 64
        assert cfg.step_size == pytest.approx(cfg.energy_scale / 50)
    temperature = cfg.noise_scale**2 / (2 / 50)
    assert temperature == pytest.approx(.1, rel=.01)


def test_conversions():
    "A whole number is stored as a float, a list as a tuple, a choice as it is."
    assert type(Config(lr=1).lr) is float
    assert Config(decay_epochs=[3, 4]).decay_epochs == (3, 4)
    assert Config(channels_last='auto').channels_last == 'auto'


def test_auto_is_any_arithmetic():
    half, full = (preset('digits', precision=p) for p in ('bfloat16', 'float32'))
    assert same_recipe(half, preset('digits')) and same_recipe(preset('digits'), full)
    assert not same_recipe(half, full)
