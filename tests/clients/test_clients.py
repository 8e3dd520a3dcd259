"Tools that nobody here wrote, working on a model of ours."
import json
import math

import pytest
import torch
from torch import nn

import jem_nb
from jem_nb.data import load
from jem_nb.energy import EnergyClassifier
from jem_nb.fitting import fit
from jem_nb.your_data import Splits

torch.set_num_threads(1)


class Quadratic(nn.Module):
    "Two equal logits whose logsumexp is −x²/2, so that E(x) = x²/2."
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x): return (-.5 * x.square().sum(1, keepdim=True) - math.log(2)).repeat(1, 2)


def test_torchebm_walks_on_an_energy_of_ours():
    torchebm = pytest.importorskip('torchebm')
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Ours(BaseModel):
        def __init__(self):
            super().__init__()
            self.model = EnergyClassifier(Quadratic(), check=False)
        def forward(self, x): return self.model.energy(x)

    step, n = .2, 20_000
    walk = LangevinDynamics(Ours(), step_size=step, noise_scale=1.)
    x = walk.sample(x=torch.zeros(n, 1), n_steps=60)
    wanted = 2 * step / (1 - (1 - step) ** 2) # variance of x' = (1 − η)x + √(2η) ξ
    error = wanted * math.sqrt(2 / n)         # standard error of a variance
    assert abs(x.var().item() - wanted) < 4 * error, torchebm.__version__


def test_torch_fidelity_draws_from_our_sampler():
    fidelity = pytest.importorskip('torch_fidelity')
    from jem_nb.generation import frechet_distance
    model, digits = jem_nb.load('digits'), load('digits', 'train').take(360)

    class Generator(fidelity.GenerativeModelBase):
        z_size, z_type = 4, 'normal'
        num_classes = 0 # with classes, its version 0.4 fails on numpy 2
        drawn = []
        def forward(self, z):
            x = model.sample(None, len(z) // 10, 20, seed=len(self.drawn))
            self.drawn.append(x)
            return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).repeat(1, 3, 1, 1)

    class Pixels(fidelity.FeatureExtractorBase):
        def __init__(self, name, features_list, **how):
            super().__init__(name, features_list)
        @staticmethod
        def get_provided_features_list(): return ('pixels',)
        @staticmethod
        def get_default_feature_layer_for_metric(metric): return 'pixels'
        @staticmethod
        def can_be_compiled(): return False
        def forward(self, x): return (x[:, 0].flatten(1).double() / 127.5 - 1,)

    class Real(torch.utils.data.Dataset):
        def __len__(self): return len(digits)
        def __getitem__(self, i): return digits.x[i].repeat(3, 1, 1)

    fidelity.register_feature_extractor('pixels', Pixels)
    generator = Generator()
    found = fidelity.calculate_metrics(
        input1=generator, input1_model_num_samples=100, input2=Real(), fid=True, cuda=False,
        batch_size=50, feature_extractor='pixels', feature_layer_fid='pixels', verbose=False)
    drawn = torch.cat(generator.drawn)[:100]
    ours = frechet_distance(drawn.flatten(1).double(), digits.unit().flatten(1).double())
    assert found['frechet_inception_distance'] == pytest.approx(float(ours), rel=.02)


def test_mlflow_is_told_every_row(tmp_path, monkeypatch):
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true') # a database would need more packages
    mlflow = pytest.importorskip('mlflow')
    mlflow.set_tracking_uri((tmp_path / 'store').as_uri()) # a file store
    data = Splits({split: load('digits', split) for split in ('train', 'valid')})
    net, rows = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), []

    def tell(row):
        rows.append(row)
        mlflow.log_metrics({k: v for k, v in row.items() if k != 'step'}, step=row['step'])

    with mlflow.start_run() as run:
        fit(net, data, folder=tmp_path / 'run', on_row=tell, progress=False, n_epochs=3,
            n_steps=1, px_delay=2, px_ramp=2)
    kept = mlflow.MlflowClient().get_metric_history(run.info.run_id, 'acc')
    wanted = [(row['step'], row['acc']) for row in rows if 'acc' in row]
    assert [(m.step, m.value) for m in kept] == wanted and len(wanted) > 3


def log_records(data, block=2**15, head=7):
    "The records of a log in LevelDB's format, which is wandb's: pieces within blocks."
    at, parts = head, []
    while at + head <= len(data):
        if block - at % block < head: at += block - at % block # too little is left in the block
        length, kind = int.from_bytes(data[at + 4:at + 6], 'little'), data[at + 6]
        parts.append(data[at + head:at + head + length])
        at += head + length
        if kind in (1, 4): # whole, or the last piece
            yield b''.join(parts)
            parts = []


def test_wandb_is_told_every_row(tmp_path, monkeypatch):
    "Weights & Biases, offline: its own file is read back."
    wandb = pytest.importorskip('wandb')
    from wandb.proto.wandb_internal_pb2 import Record
    for name in ('WANDB_CONFIG_DIR', 'WANDB_CACHE_DIR', 'WANDB_DATA_DIR'):
        monkeypatch.setenv(name, str(tmp_path / 'own'))
    data = Splits({split: load('digits', split) for split in ('train', 'valid')})
    net, rows = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), []
    with wandb.init(mode='offline', dir=tmp_path, settings=wandb.Settings(silent=True)) as run:
        def tell(row):
            rows.append(row)
            run.log(row, step=row['step'])
        fit(net, data, folder=tmp_path / 'run', on_row=tell, progress=False, n_epochs=3,
            n_steps=1, px_delay=2, px_ramp=2)

    file, = tmp_path.glob('wandb/offline-run-*/*.wandb')
    found = {}
    for raw in log_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(raw)
        items = {i.key or '/'.join(i.nested_key): json.loads(i.value_json)
                 for i in record.history.item}
        if 'acc' in items: found[items['_step']] = items['acc']
    assert found == {row['step']: row['acc'] for row in rows if 'acc' in row} and len(found) > 3
