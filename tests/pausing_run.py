"""`python -m jem_nb.train`, which waits for a signal at one step, once.

Whoever wants to disturb the run there comes in time, however busy the machine is.

  python tests/pausing_run.py STEP OPTIONS

A signal that does not end the run lets it go on. A run that was resumed a few steps before STEP
has waited already.
"""
import os
import signal
import sys

import jem_nb.train as training

STEP = int(sys.argv.pop(1))
plain, waited = training.train_step, []
came, write = os.pipe()  # receives a byte for each signal, also for one that comes before the step


def train_step(state, *rest):
    "The step as it is, after a pause at STEP."
    resumed_shortly_before = STEP - max(state.restarts, default=0) <= 5
    if state.step == STEP and not waited and not resumed_shortly_before:
        waited.append(STEP)
        os.read(came, 1)
    return plain(state, *rest)


if __name__ == '__main__':
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGUSR1, lambda *a: None)  # "go on", and nothing else
    training.train_step = train_step
    sys.exit(training.main())
