"jem_nb.fit of a small network, for torchrun; writes what this process ended with."
import json
import os
import sys
from pathlib import Path

import torch
from torch import nn

from jem_nb.data import load
from jem_nb.fitting import fit
from jem_nb.your_data import Splits

torch.set_num_threads(1)
folder, more = Path(sys.argv[1]), json.loads(sys.argv[2])
data = Splits({split: load('digits', split) for split in ('train', 'valid')})
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 10))
model = fit(net, data, folder=folder / 'run', n_steps=2, px_delay=2, px_ramp=2, **more)
found = dict(steps=model.about['steps'], temperature=model.about['temperature'],
             weights=sum(p.double().sum().item() for p in net.parameters()))
(folder / f'{os.environ["RANK"]}.json').write_text(json.dumps(found))
