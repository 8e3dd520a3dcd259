"What 29_cli refuses, and what it says."
import pytest

from jem_nb.cli import main, open_model
from jem_nb.train import pretrained_names

CASES = { # the words of the command, what is said
    'class that is not there': (['sample', 'RUN', '--classes', '12'], 'has classes 0 to 9'),
    'negative class': (['sample', 'RUN', '--classes', '-1'],
                       'class -1: this model has classes 0 to 9'),
    'no picture': (['sample', 'RUN', '--out', 'samples.txt'], 'samples.txt: a picture is written'),
    'no folder of runs': (['runs', '--root', 'NEW'], 'no such folder'),
    'preset without runs': (['runs', '--preset', 'digit'], 'did you mean digits?'),
    'no samples': (['sample', 'RUN', '--n', '0'], '--n 0: one sample a class at least'),
    'neither run nor name': (['eval', 'nothing'], 'neither the folder of a finished run'),
    'no model in the folder': (['eval', 'EMPTY'], 'neither the folder of a finished run'),
    'plain classifier': (['sample', 'digits_baseline'], 'it was not trained to draw'),
    'what the model decides': (
        ['train', '--model', 'baseline', '--px-weight', '.5', '--out', 'NEW'],
        '--px-weight 0.5: the model baseline sets it to 0.0'),
    'depth of another network': (
        ['train', '--model', 'resnet110', '--depth', '56', '--out', 'NEW'],
        '--depth 56: the model resnet110 sets it to 110'),
    'no steps': (['train', '--n-steps', '0', '--out', 'NEW'], 'px_weight=0'),
}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    "A finished run of two steps, an empty folder, and one that is not there."
    folder = tmp_path_factory.mktemp('cli')
    words = ['--width', '1', '--n-steps', '2', '--max-iters', '2']
    assert main(['train', *words, '--out', str(folder / 'run')]) == 0
    (folder / 'empty').mkdir()
    return dict(RUN=str(folder / 'run'), EMPTY=str(folder / 'empty'), NEW=str(folder / 'new'))


@pytest.mark.parametrize('case', CASES)
def test_refusal(case, folders, capsys):
    words, message = CASES[case]
    assert main([folders.get(w, w) for w in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: ') and said.count('\n') == 1
    assert message in said


def test_nothing_is_made(folders, tmp_path):
    "A command that is refused has made nothing."
    assert main(['train', '--n-steps', '0', '--out', str(tmp_path / 'run')]) == 2
    assert not (tmp_path / 'run').exists()
    out = tmp_path / 'new' / 'a.png'
    assert main(['sample', 'digits_baseline', '--out', str(out)]) == 2
    assert not out.parent.exists()


def test_unknown_option(capsys):
    with pytest.raises(SystemExit, match='2'): main(['train', '--nsteps', '3'])
    assert '--nsteps' in capsys.readouterr().err


def test_models_that_ship_are_named():
    with pytest.raises(ValueError, match='neither the folder') as refused: open_model('nothing')
    assert all(name in str(refused.value) for name in pretrained_names())
