"The stopwatch's parts that start other processes, on small cases: each leaves figures, none of them nonsense, and the verdicts are printed."
import json
import subprocess
import sys

from jem_nb.bench import BENCH_PARTS, Case, speed
from jem_nb.cli import main


def test_parts_in_other_processes(tmp_path, capsys):
    parts = ['pipeline', 'memory', 'settings', 'processes', 'import'] # the notebook runs the others
    assert set(parts) < set(BENCH_PARTS)
    assert main(['bench', '--parts', *parts, '--quick', 'yes', '--device', 'cpu', '--repeats', '1', '--out', str(tmp_path / 'bench.json')]) == 0
    record = json.loads((tmp_path / 'bench.json').read_text())
    m = record['metrics']
    assert m['failed'] == {} and record['status'] == 'truncated' and all(m[p] for p in parts)
    assert all(v > 0 for v in m['pipeline'].values())
    assert all(v['seconds'] > 0 for v in m['settings'].values()) and all(v > 0 for v in m['import'].values())
    assert m['processes']['weight_difference'] < 1e-4 and len(m['processes']['images_per_second']) == 2
    assert all(c['naive'] > 0 and c['fast'] > 0 for c in m['memory'])
    assert 'holds' in capsys.readouterr().out


def test_in_one_process(monkeypatch):
    "both forms in one process, as on a GPU: here on the CPU by another name; no other process is started"
    monkeypatch.setattr('jem_nb.bench.worker', None)
    c = speed(Case(depth=10, width=1, size=16, batch=8, n_steps=2, buffer_size=100), 'cpu:0', 1)
    assert all(t > 0 for part in ('chain', 'iteration') for t in c[part].values())
    assert 0 < c['share'] < float('inf')


def test_import_is_cheap():
    "import jem_nb.energy loads nothing that torch has not loaded, beside the standard library"
    code = """import sys, torch
had = set(sys.modules)
import jem_nb.energy
new = {m.split('.')[0] for m in set(sys.modules) - had}
print(sorted(new - {'jem_nb'} - set(sys.stdlib_module_names)))"""
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_import_brings_torch_alone():
    "import jem_nb.energy loads none of the larger packages that other modules need"
    code = "import sys, jem_nb.energy; print([m for m in ('torchvision', 'matplotlib', 'sklearn', 'scipy', 'torchmetrics', 'foolbox', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'
