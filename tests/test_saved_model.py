"A model that is kept: what goes in, what comes out, and what its folder survives."
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import environment
from PIL import Image
from torch import nn

import jem_nb
from jem_nb.checkpoint import CheckpointError
from jem_nb.data import load
from jem_nb.fitting import few_to_promise, fit, suggest
from jem_nb.saved_model import load_model
from jem_nb.step import needs_samples
from jem_nb.your_data import Splits, from_tensors


@pytest.fixture(scope='module')
def data():
    return Splits({split: load('digits', split) for split in ('train', 'valid', 'test')})


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 10))


SHORT = dict(
    progress=False,
    batch_size=64,
    n_epochs=2,
    n_steps=2,
    px_delay=5,
    px_ramp=5,
)


@pytest.fixture(scope='module')
def model(data, tmp_path_factory):
    return fit(small(), data, folder=tmp_path_factory.mktemp('run'), **SHORT)


@pytest.fixture(scope='module')
def saved(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp('kept') / 'digits-small')


def test_comes_back(model, saved, data):
    again = load_model(saved, network=small())
    a, b = model.predict(data['test']), again.predict(data['test'])
    assert a.label == b.label and torch.equal(a.energy, b.energy) and torch.equal(a.known, b.known)
    assert torch.equal(model.sample('3', 2, steps=3), again.sample('3', 2, steps=3))
    assert torch.equal(again.refine(data['test'].x[:2], 2), model.refine(data['test'].x[:2], 2))
    assert json.loads((saved / 'config.json').read_text()) == json.loads(json.dumps(again.about))


def test_a_network_that_has_no_name_is_asked_for(saved):
    with pytest.raises(CheckpointError, match='does not name what made its network: pass it'):
        load_model(saved)
    with pytest.raises(CheckpointError, match='do not fit the network'):
        load_model(saved, network=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def test_in_a_fresh_process_offline(data, tmp_path):
    kept = fit('wrn', data, folder=tmp_path / 'run', depth=10, width=1, **SHORT)
    kept.save_pretrained(tmp_path / 'kept')
    code = ('import sys, jem_nb, json; from jem_nb.data import load;'
            'm = jem_nb.TrainedModel.from_pretrained(sys.argv[1]);'
            'print(json.dumps(m.logits(load("digits", "test").take(5)).tolist()))')
    words = [sys.executable, '-c', code, str(tmp_path / 'kept')]
    done = subprocess.run(words, text=True, cwd=tmp_path, env=environment(HF_HUB_OFFLINE='1'),
                          capture_output=True, check=True)
    assert json.loads(done.stdout) == kept.logits(data['test'].take(5)).tolist()


def test_the_card_is_one(saved):
    from huggingface_hub import ModelCard
    card = ModelCard.load(saved / 'README.md')
    assert card.data.library_name == 'jem_nb' and 'jem' in card.data.tags
    for words in ("jem_nb.load('digits-small')", '8×8', 'accuracy', 'not a likelihood'):
        assert words in card.text


def test_a_damaged_file_says_so(model, tmp_path):
    kept = model.save(tmp_path / 'kept') / 'model.safetensors'
    whole = kept.read_bytes()
    kept.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(CheckpointError, match='truncated or corrupt'): load_model(tmp_path / 'kept')
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match='checksum'): load_model(tmp_path / 'kept')


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='no model at.*digits_jem'): load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match='seen from .*did you mean digits'):
        load_model('digit')


def test_files_of_others_are_not_replaced(model, tmp_path):
    for name, text in (('README.md', 'MY PROJECT'), ('config.json', '{}')):
        folder = tmp_path / name[:4]
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match='is of no saved model'): model.save(folder)
        assert [f.read_text() for f in folder.iterdir()] == [text]
    model.save(tmp_path / 'ours')
    model.save(tmp_path / 'ours') # its own files it may replace


def test_what_is_measured_is_an_image_set(model, data):
    for what in (data, data['test'].x):
        for ask in (model.evaluate, model.calibrate):
            with pytest.raises(TypeError, match='an ImageSet is wanted, such as'): ask(what)


def test_prepared_images_are_warned_of_once(model):
    with pytest.warns(UserWarning, match='are taken as a part') as said:
        model.predict(torch.rand(1, 8, 8))
    assert len(said) == 1


def test_a_disk_that_refuses_keeps_the_old_model(model, tmp_path, monkeypatch):
    from jem_nb import saved_model
    kept = model.save(tmp_path / 'kept')
    before = (kept / 'model.safetensors').read_bytes()
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(saved_model, 'save_checkpoint', full)
    with pytest.raises(OSError, match='No space left'): model.save(kept)
    assert (kept / 'model.safetensors').read_bytes() == before
    load_model(kept, network=small())


# ---- what it takes ----

def test_one_image_in_many_forms(model, data, tmp_path):
    x = data['test'].x[0]
    array, file = x[0].numpy(), tmp_path / 'a.png'
    Image.fromarray(array).save(file)
    wanted = model.predict(x)
    assert isinstance(wanted.label, str) and isinstance(wanted.known, bool)
    floats = x.float() / 127.5 - 1
    in_files = file, str(file), Image.open(file)
    for form in (array, array[..., None], *in_files, floats, floats.numpy()):
        assert model.predict(form).energy == pytest.approx(wanted.energy, abs=1e-5)
    for several in ([file] * 3, [array] * 3, torch.stack([x] * 3), data['test'].take(3)):
        assert len(model.predict(several).label) == 3
    grey = data['test'].unit()[:3, 0] # three images without an axis of channels
    assert model.predict(grey, None).label == model.predict(grey[:, None], None).label


def test_any_size(model):
    image = Image.fromarray(np.zeros((40, 30, 3), np.uint8))
    assert model.images(image).shape == (1, 1, 8, 8)


BAD = dict(
    size=(torch.zeros(2, 1, 9, 9), r'prepared images are \(n, 1, 8, 8\)'),
    range=(torch.full((1, 1, 8, 8), 9.), r'floats of up to 9.*lie in \[-1, 1\]'),
    nan=(torch.full((1, 1, 8, 8), float('nan')), 'NaN or infinity'),
    none=([], 'no images'),
    thing=(3, 'is no image'),
)


@pytest.mark.parametrize('x, words', BAD.values(), ids=BAD)
def test_what_is_no_image(x, words, model):
    with pytest.raises(ValueError, match=words): model.predict(x)


# ---- what it answers ----

def test_unpacks_and_abstains(model, data):
    label, confidence, known = model.predict(data['test'], reject=.3)
    assert known.dtype == torch.bool and ((0 < confidence) & (confidence <= 1)).all()
    answers = model.predict(data['test'], reject=.3).answer
    assert [a is None for a in answers] == (~known).tolist()
    assert 0 < (~known).double().mean() < .5
    assert model.predict(data['test'], reject=None).known is None


def test_rates_that_cannot_be_promised(model, data):
    with pytest.raises(ValueError, match='needs at least 999'):
        model.predict(data['test'], reject=.001)
    with pytest.raises(ValueError, match='a share between 0 and 1'):
        model.predict(data['test'], reject=2.)
    with pytest.raises(ValueError, match='did you mean max_logit'):
        model.predict(data['test'], method='max_logits')


def test_without_validation_scores(data):
    shipped = jem_nb.load('digits')
    with pytest.raises(ValueError, match='no scores of validation images.*calibrate'):
        shipped.predict(data['test'])
    assert shipped.predict(data['test'].x[0], reject=None).label == '7'
    assert len(shipped.calibrate(data['valid']).scores['log_p_x']) == len(data['valid'])


def test_a_misspelt_field_is_named(data):
    for call in (lambda: jem_nb.fit(small(), data, px_weigth=1.),
                 lambda: suggest(data, px_weigth=1.)):
        with pytest.raises(ValueError, match='did you mean px_weight'): call()


def test_a_plain_classifier_does_not_draw():
    with pytest.raises(ValueError, match='plain classifier: it was not trained to draw'):
        jem_nb.load('digits_baseline').sample('3')


def test_classes_by_name_and_number(model):
    assert model.sample('3', 2, steps=1).shape == (2, 1, 8, 8)
    assert torch.equal(model.sample(3, steps=1), model.sample('3', steps=1))
    assert len(model.sample(None, 2, steps=1)) == 20
    with pytest.raises(ValueError, match="no class 'cat': there are '0', '1'"): model.sample('cat')


def test_measures(model, data):
    found = model.evaluate(data['test'], reject=.2)
    assert found['n'] == len(data['test']) and 0 < found['accepted'] < 1
    alone = from_tensors(data['test'].x, data['test'].y, test=0.)['train']
    assert 0 <= model.evaluate(alone)['accuracy'] <= 1


# ---- fit ----

def test_the_same_call_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = fit(small(), data, **SHORT)
    runs = list((tmp_path / 'data' / 'runs').iterdir())
    steps = []
    again = fit(small(), data, on_row=steps.append, **SHORT)
    assert not steps and torch.equal(first.logits(data['test']), again.logits(data['test']))
    fit(small(), data, **{**SHORT, 'n_steps': 1})
    assert len(list((tmp_path / 'data' / 'runs').iterdir())) == len(runs) + 1 == 2


def test_other_images_are_refused(data, tmp_path):
    fit(small(), data, folder=tmp_path, **SHORT)
    changed = from_tensors(255 - data['train'].x, data['train'].y, name='digits')
    with pytest.raises(CheckpointError, match='was made with digits train.*these are digits train'):
        fit(small(), changed, folder=tmp_path, **SHORT)
    with pytest.raises(CheckpointError, match='belongs to another network'):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data, folder=tmp_path, **SHORT)


def test_rows_are_told(data, tmp_path):
    rows = []
    fit(small(), data, folder=tmp_path, on_row=rows.append, **SHORT)
    assert any('valid_acc' in row for row in rows) and any('e_sample' in row for row in rows)


def test_what_is_no_network(data):
    with pytest.raises(TypeError, match='list is no network'): fit([], data)


ARGUMENTS = dict(
    minutes=(dict(minutes='5'), TypeError, "minutes='5': a number"),
    recipe=(dict(recipe=dict(lr=.1)), TypeError, 'a Config or the name of a preset'),
    units=(dict(units=(.5, .5)), TypeError, r'dict\(mean='),
    device=(dict(device='gpu'), ValueError, 'device gpu: '),
)


@pytest.mark.parametrize('how, kind, words', ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(how, kind, words, data):
    with pytest.raises(kind, match=words): fit(small(), data, **how)


def test_too_few_to_promise():
    assert '18 images cannot promise a rate of 0.05: it needs at least 19' in few_to_promise(18)
    assert few_to_promise(19) == '' and few_to_promise(9, .1) == ''


def test_suggestions(data):
    batch_norm = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    assert suggest(data, batch_norm).energy_l2 == .1 and suggest(data).energy_l2 == .01
    x = torch.zeros(40, 3, 64, 64, dtype=torch.uint8)
    few = suggest(from_tensors(x, torch.arange(40) % 2))
    assert few.init == 'uniform' and few.batch_size <= 28 / 4
    assert (few.px_weight, few.energy_l2, few.step_size) == (.1, .1, .3) # 76_size_and_budget
    small_images = from_tensors(x[:, :, :8, :8], torch.arange(40) % 2)
    assert suggest(small_images).init == 'uniform' # likewise
    assert suggest(small_images, batch_norm).init == 'mixed' # as in 72_batch_norm
    assert suggest(small_images, px_weight=1.).px_weight == 1
    assert few.n_epochs * (28 // few.batch_size) >= 1500
    for some in (data, from_tensors(x, torch.arange(40) % 2)): # grey, and in colour
        assert not needs_samples(suggest(some, batch_norm, px_weight=0.))
        assert suggest(some, px_weight=0., energy_l2=.2).energy_l2 == .2
    grey = suggest(data, batch_norm)
    assert (grey.px_weight, grey.step_size) == (suggest(data).px_weight, suggest(data).step_size)
    with pytest.raises(ValueError, match='no option'): suggest(data, no_such_field=1)


def test_minutes(data, tmp_path):
    how = {**SHORT, 'n_epochs': 1000}
    model = fit(small(), data, folder=tmp_path, minutes=.03, **how)
    assert model.config.n_epochs < 1000


def test_a_classifier_is_trained_on(data, tmp_path):
    net = small()
    plain = fit(net, data, folder=tmp_path / 'plain', px_weight=0., energy_l2=0., **SHORT)
    before = plain.logits(data['test'])
    tuned = fit(net, data, folder=tmp_path / 'tuned', trained=True, **{**SHORT, 'px_delay': 0})
    assert tuned.chains is not None and not torch.equal(before, tuned.logits(data['test']))


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_draws_where_gradients_are_off(model, mode):
    from jem_nb import precision
    precision._precision_here.cache_clear() # the machine is asked under the same mode
    with mode(): drawn = model.sample('3', 2, steps=2)
    assert torch.equal(drawn, model.sample('3', 2, steps=2))


def test_another_function_has_another_folder(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    how = {**SHORT, 'progress': True}
    fit(small(), data, **how)
    steps = []
    relu = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    fit(relu, data, on_row=steps.append, **how) # the shapes are the same
    assert steps
    capsys.readouterr()
    fit(small(), data, **how)
    assert 'holds this run, finished: nothing is trained' in capsys.readouterr().err


def test_minutes_go_on(data, tmp_path):
    def stop(row): raise KeyboardInterrupt
    how = dict(folder=tmp_path, minutes=.05, ckpt_every=1, **{**SHORT, 'n_epochs': 50})
    with pytest.raises(KeyboardInterrupt): fit(small(), data, on_row=stop, **how)
    model = fit(small(), data, **how)
    assert model.about['steps'] == model.config.n_epochs * (len(data['train']) // 64)


def test_a_second_fit_leaves_the_first_model(data, tmp_path):
    net = small()
    first = fit(net, data, folder=tmp_path / 'a', **SHORT)
    before = first.logits(data['test'])
    fit(net, data, folder=tmp_path / 'b', **{**SHORT, 'lr': .05})
    assert torch.equal(first.logits(data['test']), before)


class Counted(nn.Module):
    "Counts how often it is asked."
    def __init__(self):
        super().__init__()
        self.layer, self.passes = nn.Linear(64, 10), []

    def forward(self, x):
        self.passes.append(len(x))
        return self.layer(x.flatten(1))

    def __deepcopy__(self, _): return self  # a copy counts in the same place


def test_a_dry_run_reckons_with_the_chains(data, monkeypatch):
    from jem_nb import fitting
    net = Counted()
    cfg = suggest(data, net, n_steps=3, precision='float32')
    clock = SimpleNamespace(perf_counter=lambda: len(net.passes)) # a pass is a second
    monkeypatch.setattr(fitting, 'time', clock)
    cost = fitting.dry_run(net, data, cfg, 2)
    assert cost.plain_seconds >= 1
    assert cost.seconds >= cost.plain_seconds + cfg.n_steps


def test_a_dry_run_changes_nothing(data):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(),
                        nn.Linear(144, 10))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    from jem_nb.fitting import dry_run
    dry_run(net, data, suggest(data, net, n_steps=1), 1)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Tanh(nn.Sequential):
    "Needs no argument, and has one that its weights do not show."
    def __init__(self, act=nn.SiLU):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), act(), nn.Linear(16, 10))


def test_a_network_that_is_made_anew_wrongly_is_noticed(data, tmp_path):
    from jem_nb.your_network import OwnNetwork
    wrong = dict(factory=f'{__name__}:Tanh', arguments={})
    own = OwnNetwork(Tanh(nn.Tanh), made_of=wrong)
    kept = fit(own, data, folder=tmp_path / 'run', **SHORT)
    kept.model.model.arch['made_of'] = kept.about['arch']['made_of'] = wrong
    with pytest.raises(CheckpointError, match='gives other logits than when it was saved'):
        load_model(kept.save(tmp_path / 'kept'))


def test_a_file_imports_nothing_unasked(data, tmp_path, monkeypatch):
    (tmp_path / 'mynets_of_a_test.py').write_text(
        'import pathlib; pathlib.Path(__file__).with_name("ran").touch()\n'
        'from torch import nn\n'
        'class Net(nn.Sequential):\n'
        '    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(64, 10))\n')
    monkeypatch.syspath_prepend(tmp_path)
    from mynets_of_a_test import Net
    kept = fit(Net(), data, folder=tmp_path / 'run', **SHORT).save(tmp_path / 'kept')
    wanted = load_model(kept).logits(data['test'])   # imported: it may be used
    monkeypatch.delitem(sys.modules, 'mynets_of_a_test')
    (tmp_path / 'ran').unlink()
    with pytest.raises(CheckpointError, match='module is not imported.*network=the module'):
        load_model(kept)
    assert not (tmp_path / 'ran').exists()
    assert torch.equal(load_model(kept, trust=True).logits(data['test']), wanted)


def test_tied_weights_and_types(data, tmp_path):
    net = small()
    net[3].weight, tied = nn.Parameter(torch.randn(10, 32) / 8), nn.Linear(32, 10)
    tied.weight = net[3].weight
    both = nn.Sequential(net[:3], nn.Sequential(tied))
    both.add_module('again', nn.Identity())
    both.again.weight = tied.weight
    fit(both, data, folder=tmp_path / 'tied', **SHORT).save(tmp_path / 'kept')
    with pytest.raises(ValueError, match='float64: call .float'):
        fit(small().double(), data, **SHORT)
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match='lazy layers without a shape'):
        fit(lazy, data, **SHORT)


def test_other_words_for_images(data, model, tmp_path):
    x = data['test'].x[:5]
    wanted = model.predict(x).energy
    layouts = [x.numpy(), list(x), list(data['test'].unit()[:5]), x[:, 0], x[:, 0].numpy()]
    for layout in layouts:
        assert torch.allclose(model.predict(layout).energy, wanted, atol=1e-5)
    with pytest.warns(UserWarning, match=r'if they are pixels in \[0, 1\], pass 2 \* x - 1'):
        model.predict(x / 255)
    with pytest.raises(ValueError, match='has the classes a, b, the model 0, 1'):
        other = from_tensors(x.repeat(4, 1, 1, 1), torch.arange(20) % 2, ['a', 'b'])
        model.evaluate(other['train'])
    with pytest.raises(ValueError, match='size= and channels= are for a folder'):
        fit(small(), data, size=8, **SHORT)
    with pytest.raises(ValueError, match='images are wanted as a folder'):
        fit(small(), dict(), **SHORT)
    with pytest.raises(ValueError, match='timm:resnet18, torchvision:resnet18'):
        fit('resnet18', data, **SHORT)


def test_a_file_fetches_nothing():
    from jem_nb.your_network import build_own
    for arguments in (dict(model_name='resnet10t', pretrained=True), dict(model_name='hf-hub:a/b'),
                      dict(model_name='resnet10t', checkpoint_path='/tmp/x.pth')):
        with pytest.raises(ValueError, match='nothing to fetch or to read'):
            build_own(dict(factory='timm', arguments=arguments))


def test_another_shift_of_the_seeds_reads_the_same_file(model, tmp_path, monkeypatch):
    kept = model.save(tmp_path / 'kept')
    monkeypatch.setenv('JEM_NB_SEED_SHIFT', '1')
    load_model(kept, network=small())


@pytest.fixture
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_model_answers_where_float64_is_the_default(data, float64_by_default):
    model = jem_nb.load('digits')
    part = data['test'].take(5)
    assert model.predict(part.x, reject=None).label and model.sample(3, 2, 2).shape[0] == 2
    torch.set_default_dtype(torch.float32)
    again = jem_nb.load('digits').logits(part)
    torch.testing.assert_close(model.logits(part), again)


def test_three_grey_images_or_one_in_colour(model, data):
    three = data['test'].x[:3, 0]
    with pytest.raises(ValueError, match='three grey images or one in colour'): model.predict(three)
    assert len(model.predict(data['test'].x[:3]).label) == 3
    one = model.predict(data['test'].unit()[0, 0])
    assert one.label == model.predict(data['test'].x[0]).label


def test_a_name_is_no_trained_network(data):
    with pytest.raises(ValueError, match='by name has fresh weights'):
        fit('wrn', data, trained=True)
