"""Where TensorBoard is installed every row of the curve goes to its log.

A writer that keeps the rows takes its place here, so that the test needs no more packages.
"""
import sys
import types

from helpers import SMALL, record_of, run_here


class Writer:
    "Keeps what torch.utils.tensorboard.SummaryWriter is asked to do."
    made = []

    def __init__(self, log_dir, purge_step):
        self.dir, self.first = log_dir, purge_step
        self.rows, self.closed = [], False
        Writer.made.append(self)

    def add_scalar(self, tag, value, step): self.rows.append((tag, value, step))

    def close(self): self.closed = True


def test_rows_are_logged(tmp_path, monkeypatch):
    "Two calls of one run write two logs that are closed and hold what the curve holds."
    module = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    monkeypatch.setattr(Writer, 'made', [])
    assert '--ckpt-every' in SMALL
    baseline = ['--n-epochs', 1, '--model', 'baseline']
    assert run_here(tmp_path, *baseline, '--max-iters', 10) == 0
    assert run_here(tmp_path, *baseline, '--max-iters', 20) == 0
    assert [w.first for w in Writer.made] == [1, 11]
    assert all(w.closed for w in Writer.made)
    assert all(w.dir == str(tmp_path / 'tensorboard') for w in Writer.made)
    logged = {(tag, step): value for w in Writer.made for tag, value, step in w.rows}
    curve = {}
    for row in record_of(tmp_path)['curve']:
        step = row.pop('step')
        curve |= {(tag, step): value for tag, value in row.items()}
    assert curve and logged == curve
