"`jem_nb records` repeats no run that is recorded, and takes a run that was cut short for no whole one."
import dataclasses

import pytest

import jem_nb.cli as cli
from jem_nb.config import preset


@pytest.mark.parametrize('status, words, made', [
    ('complete', [], 0), ('diverged', [], 0), ('complete', ['--gap-limit', '5'], 0),  # how a run is watched is no part of the recipe
    ('truncated', [], 1), ('complete', ['--n-steps', '5'], 1), ('complete', ['--seeds', '8'], 1)])
def test_what_is_recorded(status, words, made, monkeypatch, tmp_path):
    cut = dict(max_iters=10) if status == 'truncated' else {}
    record = dict(config=dataclasses.asdict(preset('digits', seed=7, **cut)), status=status)
    asked = []
    monkeypatch.setattr(cli, 'read_records', lambda name: [record])
    monkeypatch.setattr(cli, 'make_run', lambda *a: asked.append(a) or record)
    monkeypatch.setattr(cli, 'append_record', lambda r: tmp_path)
    assert cli.main(['records', '--models', 'jem', '--seeds', '7', *words]) == 0
    assert len(asked) == made


def test_one_seed_is_refused(capsys):
    assert cli.main(['records', '--seed', '3']) == 2
    assert capsys.readouterr().err == 'error: --seed 3: records are made for several seeds, give them with --seeds\n'
