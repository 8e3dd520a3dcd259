"`jem_nb records` makes only runs that are not recorded; one that was cut short does not count."
import dataclasses

import pytest
import torch

import jem_nb.cli as cli
from jem_nb.config import Config, preset, recipe
from jem_nb.flow import FlowConfig
from jem_nb.results import select


@pytest.mark.parametrize('status, words, made', [
    pytest.param('complete', [], 0, id='complete'),
    pytest.param('diverged', [], 0, id='diverged'),
    pytest.param('complete', ['--gap-limit', '5'], 0, id='watched in another way'),
    pytest.param('truncated', [], 1, id='cut short'),
    pytest.param('complete', ['--n-steps', '5'], 1, id='another recipe'),
    pytest.param('complete', ['--seeds', '8'], 1, id='another seed'),
])
def test_what_is_recorded(status, words, made, monkeypatch, tmp_path):
    cut = dict(max_iters=10) if status == 'truncated' else {}
    config = dataclasses.asdict(preset('digits', seed=7, **cut))
    record = dict(config=config, status=status)
    asked = []
    monkeypatch.setattr(cli, 'read_records', lambda name: [record])
    monkeypatch.setattr(cli, 'make_run', lambda *a: asked.append(a) or record)
    monkeypatch.setattr(cli, 'append_record', lambda r: tmp_path)
    assert cli.main(['records', '--models', 'jem', '--seeds', '7', *words]) == 0
    assert len(asked) == made


def test_one_seed_is_refused(capsys):
    assert cli.main(['records', '--seed', '3']) == 2
    assert capsys.readouterr().err == (
        'error: --seed 3: records are made for several seeds, give them with --seeds\n')


@pytest.mark.parametrize('model, changes, mixed', [
    pytest.param('jem', dict(ckpt_every=7), False, id='watched in another way'),
    pytest.param('jem', dict(buffer_size=500), True, id='another buffer'),
    pytest.param('baseline', dict(buffer_size=500), False, id='a buffer that nobody fills'),
    pytest.param('baseline', dict(lr=.5), True, id='another recipe'),
])
def test_runs_of_one_recipe(model, changes, mixed):
    "A mean is taken over runs whose recipes differ in nothing that changes a weight."
    def run(seed, **changes):
        config = dataclasses.asdict(recipe('digits', model, seed=seed, **changes))
        what = dict(preset='digits', model=model)
        return dict(what, seed=seed, status='complete', config=config)
    runs = [run(0), run(1, **changes)]
    if not mixed: assert select(runs) == runs
    else:
        with pytest.raises(ValueError, match='different recipes'): select(runs)


def test_recipes_of_another_kind():
    "A flow has a configuration of its own; the same rule holds for it."
    def run(seed, **changes):
        config = dataclasses.asdict(FlowConfig(seed=seed, **changes))
        what = dict(preset='digits', model='glow')
        return dict(what, seed=seed, status='complete', config=config)
    assert select([run(0), run(1)]) == [run(0), run(1)]
    with pytest.raises(ValueError, match='different recipes'): select([run(0), run(1, lr=.5)])


def test_a_run_that_another_process_has_is_left_alone(tmp_path):
    "A record that cannot be begun, because its folder is in use, must not begin by emptying it."
    from jem_nb.train import only_run
    with only_run(tmp_path / 'run'):
        (tmp_path / 'run' / 'checkpoint-00000010.safetensors').write_bytes(b'of the other run')
        with pytest.raises(RuntimeError, match='another run is writing'):
            cli.make_run('digits', 'baseline', 0, tmp_path / 'run', say=lambda text: None)
        assert (tmp_path / 'run' / 'checkpoint-00000010.safetensors').is_file()


def test_a_recipe_with_many_changes_has_a_folder(tmp_path, monkeypatch):
    "The name of its folder is short enough for a file system, and another recipe's is another."
    monkeypatch.setattr(cli, 'project_data', lambda: tmp_path)
    many = {f.name: f.default for f in dataclasses.fields(Config)}
    folders = [cli._records_folder('digits', 'jem', seed, changes)
               for seed in (0, 1) for changes in (many, many | dict(lr=.5), dict(lr=.5))]
    assert len(set(folders)) == 6 and max(len(f.name) for f in folders) <= 150
    for f in folders: (f / 'a').mkdir(parents=True)
    assert folders[2].name == 'digits-jem-seed0-lr=0.5' # a short one says it all


def test_a_network_trained_against_attacks_comes_back(tmp_path, monkeypatch):
    "Each seed has its own file; where there is none, the error says who makes it."
    monkeypatch.setattr(cli, 'project_data', lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match='digits-pgd_linf-seed1.pt.*79_trained_against'):
        cli.hardened_model('digits', 'pgd_linf', 1)
    kept, cfg = cli.recorded_model('digits', 'baseline')
    file = cli.hardened_file('digits', 'pgd_linf', 1)
    file.parent.mkdir(parents=True)
    torch.save(kept.state_dict(), file)
    net, found = cli.hardened_model('digits', 'pgd_linf', 1)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(net(x), kept(x)) and not net.training
    assert found == dataclasses.replace(recipe('digits', 'baseline'), seed=1) and cfg.seed == 0


def test_every_committed_record_is_listed(capsys):
    "Some experiments have a distance where others have what the test images say."
    listed = cli.list_runs()
    assert {f'results/{p.parent.name}/{p.name}' for p in cli.project_data().glob('results/*/*.json')
            } <= {row['where'] for row in listed}
    assert cli.main(['runs', '--preset', 'digits']) == 0
    assert 'results/copies/' in capsys.readouterr().out


def test_an_infinite_seed_is_not_left_out():
    from jem_nb.results import over_seeds
    cell = over_seeds([dict(nll=v) for v in (.2, .3, float('inf'))], 'nll', 1, 2)
    assert str(cell) == 'inf (3)'


def test_the_newest_is_the_one_that_began_last():
    "In whatever order records are given."
    def run(day, acc):
        what = dict(preset='digits', model='glow', seed=0, status='complete')
        return what | dict(config={}, started=f'2026-0{day}-01', acc=acc)
    assert [r['acc'] for r in select([run(2, .9), run(1, .1)])] == [.9]


def test_a_plain_classifier_has_no_recipe_of_walks():
    "Its records stand together whatever its preset said of chains; a JEM's do not."
    def run(seed, px_weight, **config):
        what = dict(preset='digits', model='a', seed=seed, status='complete')
        return dict(what, config=dict(px_weight=px_weight, **config))
    plain = [run(0, 0.), run(1, 0., step_size=.3, init='mixed', state_clamp=1.4)]
    assert len(select(plain)) == 2
    with pytest.raises(ValueError, match='different recipes'):
        select([run(0, 1.), run(1, 1., step_size=.3)])
