"The core needs torch, numpy, safetensors, tqdm, filelock; the rest says what to install."
import subprocess
import sys

from helpers import environment

BLOCKED = '''
import sys
ABSENT = {absent!r}

class Without:
    "A finder that does not see some packages."
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, *where):
        return None if name.split('.')[0] in ABSENT else self.finder.find_spec(name, *where)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
'''
EXTRAS = ('torchvision', 'sklearn', 'scipy', 'PIL', 'pyarrow', 'torchmetrics', 'foolbox', 'eagerpy',
          'matplotlib', 'seaborn', 'timm', 'huggingface_hub', 'shtab', 'gradio', 'pandas')

TRAINS = '''
import torch, jem_nb
from jem_nb.config import preset
from jem_nb.data import ImageSet
from jem_nb.train import train, load_weights
import jem_nb.cli, jem_nb.terminal, jem_nb.evaluate, jem_nb.demo, jem_nb.saved_model
g = torch.Generator().manual_seed(0)
def images(split, n):
    x = torch.randint(0, 256, (n, 1, 8, 8), generator=g, dtype=torch.uint8)
    return ImageSet(x, torch.arange(n) % 2, 'mine', split, ('a', 'b'))
splits = dict(train=images('train', 32), valid=images('valid', 8))
cfg = preset('digits', width=1, batch_size=16, buffer_size=32, n_steps=1, n_epochs=2)
record = train(cfg, sys.argv[1], progress=False, splits=splits)
model, *_ = load_weights(sys.argv[1] + '/model.safetensors')
print(record['status'], model.energy(splits['valid'].unit()).shape)
'''

ASKS = '''
import torch
from jem_nb.calibration import fit_temperature
from jem_nb.ood import auroc
from jem_nb.attacks import pgd
from jem_nb.data import load
from jem_nb.energy import EnergyClassifier
x, y = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
logits = torch.tensor([[2., 0.], [0., 2.], [2., 0.], [2., 0.]]) # one is wrong
net = EnergyClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)))
for what in (lambda: fit_temperature(logits, y), lambda: auroc(torch.rand(4), y),
             lambda: pgd(net, x, y, .1, random_start=False),
             lambda: load('digits')):
    try: what()
    except ImportError as e: print(e)
'''


def said(code, *words):
    words = [sys.executable, '-c', BLOCKED.format(absent=EXTRAS) + code, *words]
    ran = subprocess.run(words, capture_output=True, text=True, env=environment())
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_trains_with_the_core_alone(tmp_path):
    assert said(TRAINS, str(tmp_path / 'run')) == 'complete torch.Size([8])\n'


def test_says_what_to_install():
    lines = said(ASKS).splitlines()
    wanted = dict(scipy='metrics', sklearn='metrics', foolbox='attacks')
    for line, (package, extra) in zip(lines, [*wanted.items(), ('sklearn', 'data')]):
        assert f'{package} is needed here' in line and f'pip install "jem_nb[{extra}]"' in line
    assert len(lines) == 4
