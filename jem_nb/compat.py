"""The import guard for a torchvision that was built for CUDA, beside a torch that was not.

The package index has one torchvision for Linux, and it is built for CUDA. Beside a CPU build of
torch its C++ library cannot be loaded. torchvision allows for that, except in one place:
`_meta_registrations` describes the operators `nms` and `qnms` to torch without asking whether
they exist. So `import torchvision` ends with `operator torchvision::nms does not exist`, and so
does the import of all that imports it, torchmetrics for one.

The cure is to declare the two operators (their signatures, no implementation) before that module
runs. Data sets, transforms, models and `make_grid` then work; `torchvision.ops.nms` still raises
when it is called.

`import jem_nb` calls `install_guard`, which imports nothing. It leaves a finder in
`sys.meta_path` that waits for the import of `_meta_registrations`. torchvision imports that
module right after it has tried its C++ library. The finder then declares the operators if `nms`
is missing, and removes itself. Where torch and torchvision fit each other it changes nothing.
Import something of `jem_nb` before torchvision, torchmetrics or whatever imports them.
"""
import os
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder

__all__ = ['Later', 'define_missing_ops', 'install_guard', 'let_threads_sleep']

_SIGNATURE = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
_libs = []  # kept, since torch forgets the operators of a Library object that is collected


def define_missing_ops()->bool:  # True where the operators were missing and have been declared
    "Declare torchvision's `nms` and `qnms` to torch, unless torchvision's own library has."
    import torch
    if hasattr(torch.ops.torchvision, 'nms'): return False
    lib = torch.library.Library('torchvision', 'DEF')
    for operator in ('nms', 'qnms'): lib.define(operator + _SIGNATURE)
    _libs.append(lib)
    return True


class _Guard(MetaPathFinder):
    "Finds no module; acts when torchvision is about to describe its operators."
    waits_for = 'torchvision._meta_registrations'

    def find_spec(self, fullname, path=None, target=None):
        if fullname == self.waits_for:
            if self in sys.meta_path: sys.meta_path.remove(self)
            define_missing_ops()
        return None


def install_guard()->None:
    "Wait for torchvision's import; nothing to do where it is imported or awaited already."
    imported = _Guard.waits_for in sys.modules
    if imported or any(isinstance(f, _Guard) for f in sys.meta_path): return
    sys.meta_path.insert(0, _Guard())


def let_threads_sleep()->bool:  # True where it can still take effect
    """Ask OpenMP to let waiting threads spin for a moment and then sleep.

    Nothing is asked where torch has started OpenMP already or the user has chosen a policy.
    Threads that spin are slow where another busy process shares the cores; threads that sleep at
    once are slow to wake.
    """
    if 'torch' in sys.modules or 'OMP_WAIT_POLICY' in os.environ: return False
    os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')
    return True


class Later:
    """A module of another package, imported when something of it is first asked for.

    So the core imports without it, and where it is missing the message says what to install.
    Raises `ImportError` then."""
    def __init__(self,
        name,   # of the module, such as 'scipy.stats'
        extra,  # of jem_nb that installs it, such as 'metrics'
    ): self._name, self._extra = name, extra

    def __getattr__(self, attribute):
        if attribute.startswith('__'): raise AttributeError(attribute)
        try: module = import_module(self._name)
        except ImportError as e:
            package = self._name.split('.')[0]
            if (e.name or package).split('.')[0] != package: raise  # there, and broken inside
            raise ImportError(f'{package} is needed here and is not installed: '
                              f'pip install "jem_nb[{self._extra}]"', name=e.name) from e
        return getattr(module, attribute)
