"""One thread for every test, in this process and in those that it starts.

Sums are then made in one order, and a run is the same each time.
"""
import os

os.environ['OMP_NUM_THREADS'] = '1'

import torch

torch.set_num_threads(1)
