"The command line on one's own images: fit, predict, train and eval with --data, refusals."
import csv
import io
import json
import subprocess
import sys

import pytest
import torch
from PIL import Image

from jem_nb.config import matched, preset
from jem_nb.data import load
from jem_nb.terminal import main

QUICK = ('--depth 10 --width 1 --n-steps 1 --n-epochs 2 --px-delay 2 --px-ramp 2 --batch-size 16 '
         '--buffer-size 100').split()


@pytest.fixture(scope='module')
def numbers(tmp_path_factory):
    "Two classes of digits as a folder."
    root, digits = tmp_path_factory.mktemp('in') / 'numbers', load('digits', 'train')
    for i in (digits.y < 2).nonzero()[:80, 0].tolist():
        file = root / 'zero one'.split()[digits.y[i]] / f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.x[i, 0].numpy()).save(file)
    return root


@pytest.fixture(scope='module')
def kept(numbers, tmp_path_factory):
    "A model of them, made by jem_nb fit."
    where = tmp_path_factory.mktemp('fit')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        assert main(['fit', str(numbers), *QUICK]) == 0
    assert (where / 'data' / 'runs').is_dir()
    return where / 'numbers-jem'


def test_fit_says_where_and_how_long(numbers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['fit', str(numbers), '--dry-run', *QUICK]) == 0
    assert 'minutes' in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert main(['fit', str(numbers), '--out', 'mine', *QUICK]) == 0
    said = capsys.readouterr()
    assert 'runs in ' in said.err and 'mine: accuracy' in said.out


def test_fit_takes_a_network_by_name(numbers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ['fit', str(numbers), '--model', 'timm:lcnet_050', '--size', '32', *QUICK[4:]]
    assert main(words) == 0
    files = [str(f) for f in sorted(numbers.rglob('*.png'))[:2]]
    assert main(['predict', 'numbers-jem', *files]) == 0 # its network is made again by name
    words = ['fit', str(numbers), '--model', 'timm:lcnet_50', '--out', 'another', *QUICK]
    assert main(words) == 2
    assert 'timm:lcnet_50 cannot be made' in capsys.readouterr().err


def test_sample_from_a_network_of_ones_own(numbers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ['fit', str(numbers), '--model', 'timm:lcnet_050', '--size', '32', *QUICK[4:]]
    assert main(words) == 0
    assert main(['sample', 'numbers-jem', '--n', '2', '--steps', '1', '--classes', '1']) == 0
    assert '2 samples of zero' in capsys.readouterr().out and (tmp_path / 'samples.png').is_file()
    assert main(['sample', 'numbers-jem', '--classes', '7']) == 2
    assert 'no class 7' in capsys.readouterr().err


def predicted(kept, numbers, capsys, kind, *more):
    files = [str(f) for f in sorted(numbers.rglob('*.png'))[:4]]
    capsys.readouterr()
    assert main(['predict', str(kept), *files, '--format', kind, *more]) == 0
    return capsys.readouterr().out


def test_predict(kept, numbers, capsys):
    rows = json.loads(predicted(kept, numbers, capsys, 'json'))
    assert len(rows) == 4 and rows[0]['known'] is None
    assert {row['label'] for row in rows} <= {'zero', 'one'}
    table = list(csv.DictReader(io.StringIO(predicted(kept, numbers, capsys, 'csv'))))
    assert [float(row['energy']) for row in table] == [row['energy'] for row in rows]
    lines = predicted(kept, numbers, capsys, 'table', '--reject', '.2').splitlines()
    assert lines[0].split() == ['file', 'label', 'confidence', 'known', 'energy']
    assert len(lines) == 5
    assert lines[1].split()[3] in ('True', 'False')


def test_predict_a_folder_and_what_is_no_image(kept, numbers, tmp_path, capsys):
    assert main(['predict', str(kept), str(numbers / 'one'), '--format', 'json']) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(list((numbers / 'one').iterdir()))
    (tmp_path / 'a.png').write_text('no image')
    good = next(numbers.rglob('*.png'))
    assert main(['predict', str(kept), str(tmp_path / 'a.png'), str(good), '--format', 'json']) == 2
    said = capsys.readouterr()
    assert 'a.png' in said.err and len(json.loads(said.out)) == 1
    assert main(['predict', str(kept), str(tmp_path / 'none.png')]) == 2
    (tmp_path / 'empty').mkdir()
    assert main(['predict', str(kept), str(tmp_path / 'empty')]) == 2
    assert 'no images in' in capsys.readouterr().err


def test_eval_on_a_folder_and_on_other_images(kept, numbers, tmp_path, capsys):
    assert main(['eval', str(kept), '--data', str(numbers)]) == 0
    assert json.loads(capsys.readouterr().out)['n'] == 80
    assert main(['eval', str(kept)]) == 2
    assert 'learned from numbers train' in capsys.readouterr().err


def test_train_on_a_folder(numbers, tmp_path, capsys):
    words = ['train', '--data', str(numbers), '--out', str(tmp_path / 'run'), *QUICK]
    assert main(words) == 0
    assert f'the run writes to {tmp_path / "run"}' in capsys.readouterr().err
    record = json.loads((tmp_path / 'run' / 'record.json').read_text())
    assert record['config']['dataset'] == 'numbers' and record['data']['classes'] == ['one', 'zero']
    assert main(['eval', str(tmp_path / 'run')]) == 2                     # not scored on digits
    assert main(['eval', str(tmp_path / 'run'), '--data', str(numbers)]) == 0


def test_a_run_on_other_images_that_says_digits_is_refused(numbers, tmp_path, capsys):
    from jem_nb.config import preset
    from jem_nb.train import train
    from jem_nb.your_data import from_folder
    cfg = preset('digits', width=1, n_epochs=1, n_steps=1, batch_size=16, buffer_size=100)
    train(cfg, tmp_path, progress=False, splits=from_folder(numbers))
    assert main(['eval', str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert 'learned from numbers train' in said and "data set 'digits'" in said


@pytest.mark.parametrize('words', [
    ['train', '--n-step', '3'],
    ['fit', 'x', '--n-epoch', '1'],
    ['predict', 'digits', 'x', '--rej', '.1']])
def test_abbreviations_are_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped: main(words)
    assert stopped.value.code == 2
    assert 'did you mean' in capsys.readouterr().err


@pytest.mark.parametrize('words, said', [
    (['fit', 'nowhere'], 'no folder nowhere'),
    (['predict', 'nowhere', 'a.png'], 'no model at nowhere')])
def test_one_line(words, said, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith('error: ') and err.count('\n') == 1


def test_doctor(capsys):
    assert main(['doctor', '--presets', 'digits']) == 0
    out = capsys.readouterr().out
    assert f'torch {torch.__version__}' in out and 'digits' in out.splitlines()[-1]


def test_completion(capsys):
    pytest.importorskip('shtab')
    assert main(['completion', 'bash']) == 0
    assert 'predict' in capsys.readouterr().out


# ---- what a reader of the command line ran into ----

def error_of(words, capsys):
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith('error: ') and '\n' not in said
    return said


BAD = dict(
    size=(['fit', 'NUMBERS', '--size', '0'], 'size=0: a pixel at least'),
    minutes=(['fit', 'NUMBERS', '--minutes', '-1', '--dry-run'], '--minutes -1.0: a number'),
    device=(['predict', 'KEPT', 'x.png', '--device', 'nonsense'], '--device nonsense'),
    reject=(['predict', 'KEPT', 'NUMBERS', '--reject', '5'], 'reject=5.0: a share'),
    parts=(['eval', 'KEPT', '--data', 'NUMBERS', '--parts', 'clean'], '--parts are those'),
    folder=(['train', '--preset', 'digits', '--size', '64'], 'give it with --data'),
)


@pytest.mark.parametrize('words, said', BAD.values(), ids=BAD)
def test_bad_input_is_one_line(words, said, numbers, kept, capsys):
    words = [dict(NUMBERS=str(numbers), KEPT=str(kept)).get(w, w) for w in words]
    assert said in error_of(words, capsys)


def test_names_that_ship_are_short(tmp_path, capsys):
    out = str(tmp_path / 'a.png')
    assert main(['sample', 'digits', '--n', '1', '--steps', '1', '--out', out]) == 0
    assert (tmp_path / 'a.png').is_file()


def test_shipped_models_reject_where_their_images_are(numbers, capsys):
    file = str(next(numbers.rglob('*.png')))
    assert main(['predict', 'digits', file, '--reject', '.05', '--format', 'json']) == 0
    assert json.loads(capsys.readouterr().out)[0]['known'] in (True, False)


def test_a_huge_image_does_not_stop_the_others(kept, numbers, tmp_path, capsys, monkeypatch):
    good = next(numbers.rglob('*.png'))
    Image.new('L', (400, 400)).save(tmp_path / 'huge.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000) # 160 000 is more than twice as many
    words = ['predict', str(kept), str(tmp_path / 'huge.png'), str(good), '--format', 'json']
    assert main(words) == 2
    said = capsys.readouterr()
    assert 'huge.png' in said.err and len(json.loads(said.out)) == 1


def test_matched_knows_the_size_of_the_images(numbers, tmp_path):
    words = ['train', '--data', str(numbers), '--size', '16', '--model', 'matched', '--width', '1',
             '--max-iters', '1', '--batch-size', '16', '--out', str(tmp_path / 'run')]
    assert main(words) == 0
    made = json.loads((tmp_path / 'run' / 'record.json').read_text())['config']
    wanted = matched(preset('digits'), 256)
    assert made['energy_scale'] == wanted.energy_scale == 4
    assert made['step_size'] == wanted.step_size


def test_eval_writes_its_file(kept, numbers, tmp_path):
    assert main(['eval', str(kept), '--data', str(numbers), '--out', str(tmp_path / 'm.json')]) == 0
    assert json.loads((tmp_path / 'm.json').read_text())['n'] == 80


def test_a_class_in_a_file_here(numbers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.path', list(__import__('sys').path))
    (tmp_path / 'nets_of_this_test.py').write_text(
        'from torch import nn\nclass Net(nn.Sequential):\n'
        '    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(64, 2))\n')
    words = ['fit', str(numbers), '--model', 'nets_of_this_test:Net', '--out', 'own', *QUICK[4:]]
    assert main(words) == 0
    monkeypatch.delitem(__import__('sys').modules, 'nets_of_this_test')
    file = str(next(numbers.rglob('*.png')))
    assert 'trust=True' in error_of(['predict', 'own', file], capsys)
    assert main(['predict', 'own', file, '--trust']) == 0
    assert '--data FOLDER' in error_of(['eval', 'own', '--trust'], capsys)


def test_no_other_model_is_replaced(numbers, tmp_path, monkeypatch, capsys):
    "Nor the folder of the images; the same call may write again."
    monkeypatch.chdir(tmp_path)
    assert main(['fit', str(numbers), *QUICK]) == 0
    assert 'the model will be saved in' in capsys.readouterr().err
    before = (tmp_path / 'numbers-jem' / 'model.safetensors').read_bytes()
    digits = load('digits', 'train')
    for i in (digits.y > 7).nonzero()[:60, 0].tolist(): # others, in a folder of the same name
        file = tmp_path / 'other' / 'numbers' / str(digits.y[i].item()) / f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.x[i, 0].numpy()).save(file)
    words = ['fit', str(tmp_path / 'other' / 'numbers'), *QUICK]
    assert 'holds a model of other images' in error_of(words, capsys)
    assert (tmp_path / 'numbers-jem' / 'model.safetensors').read_bytes() == before
    said = error_of([*words, '--out', str(tmp_path / 'other' / 'numbers')], capsys)
    assert 'the folder of the images' in said
    assert main(['fit', str(numbers), *QUICK]) == 0


def test_classes_by_name(kept, tmp_path):
    out = str(tmp_path / 'new' / 'a.png')
    words = ['sample', str(kept), '--n', '1', '--steps', '1', '--out', out, '--classes', 'one']
    assert main(words) == 0 and (tmp_path / 'new' / 'a.png').is_file()


def test_as_a_module(tmp_path):
    "`python -m jem_nb` is the same command, with the same exit status."
    def ran(*words):
        return subprocess.run([sys.executable, '-m', 'jem_nb', *words], cwd=tmp_path, text=True,
                              capture_output=True)
    shown = ran('--help')
    assert shown.returncode == 0 and shown.stdout.startswith('usage: jem_nb ')
    refused = ran('sample', 'nothing')
    assert refused.returncode == 2 and 'no model at nothing' in refused.stderr
