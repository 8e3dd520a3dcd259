"The import guard of jem_nb/compat.py, each time in a fresh interpreter."
import subprocess
import sys


def fresh(code):
    "The last line that `code` prints in a new interpreter."
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=600)
    assert p.returncode == 0, p.stderr
    return p.stdout.strip().splitlines()[-1]


def test_torchvision_and_torchmetrics_import():
    out = fresh('import jem_nb, torchvision, torchmetrics, torch\n'
                'from torchvision.utils import make_grid\n'
                'print(tuple(make_grid(torch.zeros(4, 1, 8, 8), nrow=2, padding=0).shape))')
    assert out == '(3, 16, 16)'


def test_import_jem_nb_imports_no_torch():
    out = fresh('import jem_nb, sys\n'
                "print('torch' in sys.modules, 'torchvision' in sys.modules)")
    assert out == 'False False'


def test_guard_removes_itself():
    out = fresh('import sys, jem_nb, torchvision\n'
                'from jem_nb.compat import _Guard, install_guard\n'
                'install_guard()\n'
                'print(sum(isinstance(f, _Guard) for f in sys.meta_path))')
    assert out == '0'


def test_guard_is_installed_once():
    out = fresh('import sys, jem_nb\n'
                'from jem_nb.compat import _Guard, install_guard\n'
                'install_guard()\n'
                'print(sum(isinstance(f, _Guard) for f in sys.meta_path))')
    assert out == '1'


def test_nothing_is_declared_where_nms_exists():
    out = fresh("import torch\n"
                "lib = torch.library.Library('torchvision', 'FRAGMENT')\n"
                "lib.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
                "lib.impl('nms', lambda d, s, t: torch.arange(3), 'CPU')\n"
                "from jem_nb import compat\n"
                "declared = compat.define_missing_ops()\n"
                "kept = torch.ops.torchvision.nms(torch.ones(1, 4), torch.ones(1), .5).tolist()\n"
                "print(declared, kept, len(compat._libs), hasattr(torch.ops.torchvision, 'qnms'))")
    assert out == 'False [0, 1, 2] 0 False'


def test_a_failed_import_of_torchvision_can_be_repeated():
    out = fresh('import sys\n'
                'try: import torchvision\n'
                'except RuntimeError: pass\n'
                'import jem_nb, torchvision\n'
                'print(torchvision.__name__)')
    assert out == 'torchvision'


def test_threads_sleep_unless_told_otherwise():
    forget = ('import os\n'
              "os.environ.pop('OMP_WAIT_POLICY', None)\n"
              "os.environ.pop('GOMP_SPINCOUNT', None)\n")
    read = "\nprint(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    choose = "os.environ['OMP_WAIT_POLICY'] = 'ACTIVE'\n"
    assert fresh(forget + 'import jem_nb' + read) == 'PASSIVE 1000'
    assert fresh(forget + choose + 'import jem_nb' + read) == 'ACTIVE None'
    assert fresh(forget + 'import torch, jem_nb' + read) == 'None None'
