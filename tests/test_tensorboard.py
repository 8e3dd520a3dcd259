"Where TensorBoard is installed every row of the curve goes to its log; the writer here takes its place, so that the test needs no more packages."
import sys
import types

from helpers import SMALL, record_of, run_here


class Writer:
    "What torch.utils.tensorboard.SummaryWriter is asked to do"
    made = []
    def __init__(self, log_dir, purge_step): self.dir, self.first, self.rows, self.closed = log_dir, purge_step, [], False; Writer.made.append(self)
    def add_scalar(self, tag, value, step): self.rows.append((tag, value, step))
    def close(self): self.closed = True


def test_rows_are_logged(tmp_path, monkeypatch):
    "Two calls of one run write two logs that join, each closed, and each holds what the curve holds."
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(Writer, 'made', [])
    assert '--ckpt-every' in SMALL
    assert run_here(tmp_path, '--n-epochs', 1, '--model', 'baseline', '--max-iters', 10) == 0
    assert run_here(tmp_path, '--n-epochs', 1, '--model', 'baseline', '--max-iters', 20) == 0
    assert [w.first for w in Writer.made] == [1, 11] and all(w.closed for w in Writer.made)
    assert all(w.dir == str(tmp_path / 'tensorboard') for w in Writer.made)
    logged = {(tag, step): v for w in Writer.made for tag, v, step in w.rows}
    curve = {(k, r['step']): v for r in record_of(tmp_path)['curve'] for k, v in r.items() if k != 'step'}
    assert curve and logged == curve
