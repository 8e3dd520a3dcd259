"What 10_config refuses, and what it says."
import argparse
import dataclasses

import pytest

from jem_nb.config import (
    MODELS,
    PRESETS,
    Config,
    OneLineParser,
    add_options,
    model_config,
    preset,
    seed_shift,
)

SMOOTH = dict(match_weight=1., activation='silu')
RESNET = dict(network='resnet', depth=8, norm='batch', activation='relu')
FIELDS = { # what is wrong with the fields: the fields, the exception, a part of the message
    # one field
    'chance above 1': (dict(reinit_prob=1.5), ValueError, 'reinit_prob'),
    'no choice': (dict(activation='tanh'), ValueError, 'choose one of'),
    'no whole number': (dict(n_steps=2.5), TypeError, 'n_steps'),
    'neither a flag nor auto': (dict(channels_last=1), TypeError, 'channels_last'),
    'no memory layout': (
        dict(channels_last='first'), ValueError, 'choose one of auto, True, False'),
    'negative': (dict(noise_scale=-.01), ValueError, 'noise_scale'),
    'NaN': (dict(lr=float('nan')), ValueError, 'finite'),
    'zero': (dict(batch_size=0), ValueError, 'batch_size=0: a number above 0 is wanted'),
    'decay of 1': (dict(beta1=1.), ValueError, 'beta1'),
    'no remedy': (dict(remedies=('prayer',)), ValueError, 'remedies'),
    'negative epoch': (dict(decay_epochs=(-1,)), TypeError, 'decay_epochs'),
    'no Wide ResNet': (dict(depth=12), ValueError, r'6n\+4'),
    'a slope with batch norm': (
        dict(slope_weight=.1, norm='batch'), ValueError, 'slope_weight with norm="batch"'),
    'a compiled slope': (dict(slope_weight=.1, compile=True), ValueError, 'set compile=False'),
    'no CIFAR ResNet': (dict(network='resnet', depth=10), ValueError, r'6n\+2'),
    'a CIFAR ResNet without batch norm': (
        dict(network='resnet', depth=8), ValueError, 'set norm="batch" and activation="relu"'),
    'a wide CIFAR ResNet': (
        RESNET | dict(width=2), ValueError, 'set width=1'),
    # the terms of the loss
    'no term': (dict(px_weight=0, pyx_weight=0), ValueError, 'nothing would be learned'),
    'nothing until log p(x)': (dict(px_delay=5, pyx_weight=0), ValueError, 'px_delay=0'),
    'direct term without slots': (dict(pxy_weight=1), ValueError, 'class_cond=True'),
    'joint term with slots': (
        dict(pxy_weight=1, class_cond=True, pxy_form='joint'), ValueError, 'class_cond=False'),
    'few labels, one batch': (dict(labels_per_class=4), ValueError, 'separate_batches=True'),
    'plain images, one batch': (
        dict(px_augment=False), ValueError, 'set separate_batches=True'),
    'few labels, no classifier': (
        dict(labels_per_class=4, separate_batches=True, pyx_weight=0),
        ValueError,
        'no term would see a label'),
    # the regression along paths
    'straight activation': (dict(match_weight=1.), ValueError, 'set activation="silu"'),
    'matched batch norm': (dict(SMOOTH, norm='batch'), ValueError, 'set norm="none" or "group"'),
    'matched and compiled': (dict(SMOOTH, compile=True), ValueError, 'set compile=False'),
    'no scale': (dict(energy_scale=0.), ValueError, 'energy_scale=0: a number above 0'),
    'falling to nothing': (dict(match_end=0.), ValueError, 'match_end=0: a number above 0'),
    'rising weight': (dict(match_end=2.), ValueError, r'match_end=2.0: a number in \[0, 1\]'),
    'no pairing': (dict(coupling='nearest'), ValueError, 'choose one of optimal'),
    # the chains
    'no step': (dict(n_steps=0), ValueError, 'px_weight=0'),
    'no step, but a penalty': (
        dict(px_weight=0, energy_l2=.1, n_steps=0), ValueError, 'px_weight=0'),
    'more chains than kept': (dict(n_chains=20_000), ValueError, 'n_chains=20000'),
    'more images than chains kept': (dict(buffer_size=50), ValueError, 'batch_size=64 exceeds'),
    'more chains than labels': (
        dict(pxy_weight=1, class_cond=True, n_chains=65), ValueError, 'one chain a label'),
    'no matched energy to descend': (dict(init='flow'), ValueError, 'set match_weight'),
    'descent of an untrained energy': (
        dict(SMOOTH, init='flow'), ValueError, 'set px_delay'),
    'nothing to balance': (dict(balance=True, px_weight=0), ValueError, 'nothing to balance'),
    'nothing to balance against': (
        dict(balance=True, pyx_weight=0), ValueError, 'to balance against'),
}


@pytest.mark.parametrize('case', FIELDS)
def test_fields(case):
    fields, kind, message = FIELDS[case]
    with pytest.raises(kind, match=message): Config(**fields)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError): Config().lr = 1.


NAMES = {
    'preset': (lambda: preset('digit'), 'did you mean digits.+the presets are'),
    'field of a preset': (lambda: preset('digits', nsteps=3), 'did you mean n_steps'),
    'model': (lambda: model_config(preset('digits'), 'jam'), 'the models are'),
    'size of a data set': (
        lambda: model_config(preset('digits', dataset='mine'), 'matched'), 'n_pixels'),
}


@pytest.mark.parametrize('case', NAMES)
def test_unknown_name(case):
    act, message = NAMES[case]
    with pytest.raises(ValueError, match=message): act()


def test_known_names():
    "What is refused above is not refused by every name."
    for name in PRESETS:
        for model in MODELS: assert isinstance(model_config(preset(name), model), Config)


WORDS = { # words of a command line: a part of the line that refuses them
    '--nsteps 3': '(did you mean --n-steps?)',
    '--n_stepz=3': '(did you mean --n-steps?)',
    '--norm layer': "'layer'",
    '--lr high': "'high'",
    '--flip perhaps': 'neither yes nor no',
    '--channels-last perhaps': 'neither yes nor no',
    'nonsense': 'unrecognized arguments: nonsense; x --help',
}


@pytest.mark.parametrize('words', WORDS)
def test_words(words, capsys):
    "One line with exit status 2."
    parser = add_options(OneLineParser(prog='x'))
    with pytest.raises(SystemExit) as e: parser.parse_args(words.split())
    said = capsys.readouterr().err
    assert e.value.code == 2
    assert said.startswith('error: ') and said.count('\n') == 1
    assert WORDS[words] in said and said.endswith('x --help lists the options\n')


def test_option_of_a_command(capsys):
    "The nearest option is found among those of all commands."
    parser = OneLineParser(prog='x')
    commands = parser.add_subparsers(parser_class=argparse.ArgumentParser)
    add_options(commands.add_parser('train'))
    with pytest.raises(SystemExit): parser.parse_args(['train', '--nsteps', '3'])
    said = capsys.readouterr().err
    assert '(did you mean --n-steps?); x COMMAND --help' in said


@pytest.mark.parametrize('word', ['one', '1.5', '-'])
def test_seed_shift(word, monkeypatch):
    monkeypatch.setenv('JEM_NB_SEED_SHIFT', word)
    with pytest.raises(ValueError, match='a whole number is wanted'): seed_shift()
