"""The parts of the benchmark that start other processes, on small cases.

Each leaves figures, none of them nonsense, and the verdicts are printed.
"""
import json
import subprocess
import sys

from jem_nb.bench import BENCH_PARTS, Case, speed
from jem_nb.cli import main


def test_parts_in_other_processes(tmp_path, capsys):
    # The notebook runs the other parts.
    parts = ['pipeline', 'memory', 'settings', 'processes', 'models', 'import']
    assert set(parts) < set(BENCH_PARTS)
    file = tmp_path / 'bench.json'
    words = ['--quick', 'yes', '--device', 'cpu', '--repeats', '1', '--out', str(file)]
    assert main(['bench', '--parts', *parts, *words]) == 0
    record = json.loads(file.read_text())
    m = record['metrics']
    assert record['status'] == 'truncated'
    assert m['failed'] == {} and all(m[p] for p in parts)
    assert all(v > 0 for v in m['pipeline'].values())
    assert all(v['seconds'] > 0 for v in m['settings'].values())
    assert all(v > 0 for v in m['import'].values())
    assert m['processes']['weight_difference'] < 1e-4
    assert len(m['processes']['images_per_second']) == 2
    assert m['models']['baseline']['peak'] < m['models']['matched']['peak']
    assert all(c['naive'] > 0 and c['fast'] > 0 for c in m['memory'])
    assert 'holds' in capsys.readouterr().out


def test_in_one_process(monkeypatch):
    """Both forms are measured in one process, as on a GPU, and no other process is started.

    Here the device is the CPU by another name.
    """
    monkeypatch.setattr('jem_nb.bench.worker', None)
    case = Case(depth=10, width=1, size=16, batch=8, n_steps=2, buffer_size=100)
    measured = speed(case, 'cpu:0', 1)
    for part in ('chain', 'iteration'): assert all(t > 0 for t in measured[part].values())
    assert 0 < measured['share'] < float('inf')


def printed(code):
    "What a fresh interpreter prints."
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    return p.stdout.strip()


def test_import_is_cheap():
    "import jem_nb.energy loads nothing that torch has not loaded, beside the standard library."
    code = """import sys, torch
had = set(sys.modules)
import jem_nb.energy
new = {m.split('.')[0] for m in set(sys.modules) - had}
print(sorted(new - {'jem_nb'} - set(sys.stdlib_module_names)))"""
    assert printed(code) == '[]'


def test_import_brings_torch_alone():
    "import jem_nb.energy loads none of the larger packages that other modules need."
    code = """import sys, jem_nb.energy
larger = {'torchvision', 'matplotlib', 'sklearn', 'scipy', 'torchmetrics', 'foolbox', 'pyarrow'}
print(sorted(larger & set(sys.modules)))"""
    assert printed(code) == '[]'
