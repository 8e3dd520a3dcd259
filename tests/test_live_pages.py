"""The pages that show the live run, as `make run` finds them: beside models trained just now.

Elsewhere in `make test` these pages show the weights that ship, on any machine the same. A live
run has every field of today's configuration; weights that shipped earlier lack the younger ones.
"""
import dataclasses
import json
import os
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from nbdev.test import test_nb as run_notebook

from jem_nb.checkpoint import load_checkpoint, save_checkpoint
from jem_nb.config import Config
from jem_nb.results import read_records, select
from jem_nb.train import weights_file

ROOT = Path(__file__).resolve().parent.parent


def shows_live_run(page):
    text = page.read_text()
    return 'live_record(' in text or 'book_models(' in text


PAGES = [p.stem for p in sorted(ROOT.glob('nbs/[3-9]*.ipynb')) if shows_live_run(p)]


def complete(config): return dataclasses.asdict(Config(**config))


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    "A folder that looks like the checkout after make run; the live models are those that ship."
    folder = tmp_path_factory.mktemp('checkout')
    for name in ('nbs', 'jem_nb', 'settings.ini', 'pyproject.toml'):
        (folder / name).symlink_to(ROOT / name)
    (folder / 'data').mkdir()
    for part in (ROOT / 'data').iterdir():
        if part.name != 'runs': (folder / 'data' / part.name).symlink_to(part)
    for model in ('baseline', 'jem'):
        to = folder / 'data/runs/live' / model
        to.mkdir(parents=True)
        record = select(read_records('digits', ROOT / 'data/results'), model=model)[0]
        record['config'] = complete(record['config'])
        (to / 'evaluated.json').write_text(json.dumps(record))
        tensors, meta = load_checkpoint(weights_file(f'digits_{model}'))
        meta['config'] = complete(meta['config'])
        save_checkpoint(to / 'model.safetensors', tensors, meta)
    return folder


def run_page(page, checkout, log):
    "Run a page in this process, which was made for it, as `make run` does; end with its status."
    with open(log, 'w') as file:
        for output in (1, 2): os.dup2(file.fileno(), output)
    os.environ.pop('JEM_NB_LIVE', None)
    os.environ.update(MPLBACKEND='agg', TQDM_DISABLE='1')
    os.chdir(checkout / 'nbs')
    ok, _ = run_notebook(Path(f'{page}.ipynb').absolute(), basepath='..')
    sys.stdout.flush()
    os._exit(0 if ok else 1)


@pytest.mark.parametrize('page', PAGES)
def test_page_after_make_run(page, checkout, tmp_path):
    log = tmp_path / 'log'
    child = get_context('fork').Process(target=run_page, args=(page, checkout, log))
    child.start()
    child.join()
    assert child.exitcode == 0, log.read_text()[-3000:]
