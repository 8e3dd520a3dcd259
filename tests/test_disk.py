"""A full disk, a folder that is closed or taken, a damaged checkpoint.

Each is said in one line, nothing is lost, and the same command goes on.
"""
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from helpers import end, finish, one_line, record_of, run_here, same, start_run, wait_for_step
from jem_nb.checkpoint import FORMAT, CheckpointError, checkpoints, load_checkpoint
from jem_nb.data import load

ONE = ['--n-epochs', 1]  # 39 steps


def here(folder, *words):
    "The exit status of a run of one epoch in this process."
    return run_here(folder, *ONE, *words)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The run that nobody disturbs."
    folder = tmp_path_factory.mktemp('whole')
    assert here(folder) == 0
    return folder


@pytest.fixture(scope='module')
def half(tmp_path_factory):
    "A run that has come to step 20, with checkpoints of steps 15 and 20."
    folder = tmp_path_factory.mktemp('half')
    assert here(folder, '--max-iters', 20) == 0
    return folder


def errors(err): return [line for line in err.splitlines() if line.startswith('error: ')]


def resumed_when_full(folder, most):
    "Exit status and stderr of a run that cannot write a file of more than `most` bytes."
    def no_more():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    status, _, err = end(start_run(folder, *ONE, preexec_fn=no_more))
    return status, err


@pytest.mark.parametrize('file', ['checkpoint', 'curve'])
def test_full_disk(whole, half, tmp_path, file, capsys):
    """A full disk ends a run with status 2 and a line that names the folder and the remedy.

    The checkpoints are whole, and when there is room the same command goes on.
    """
    folder = shutil.copytree(half, tmp_path / 'run')
    most = checkpoints(folder)[-1].stat().st_size // 2 if file == 'checkpoint' else 100
    status, err = resumed_when_full(folder, most)
    assert status == 2, err
    assert 'Traceback' not in err
    line, = errors(err)
    assert str(folder) in line and 'Make room' in line, line
    assert [load_checkpoint(f)[1]['step'] for f in checkpoints(folder)] == [15, 20]
    assert not list(folder.glob('.*.tmp'))
    assert here(folder) == 0
    same(whole, folder, 39)


def as_nobody(folder):
    "Exit status and stderr of a run by a user without rights, in a child of this process."
    load('digits', 'train')  # what this imports is imported while there are rights
    with tempfile.TemporaryFile('w+') as err:
        pid = os.fork()
        if pid == 0: run_without_rights(folder, err)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        err.seek(0)
        return status, err.read()


def run_without_rights(folder, err):
    "Run in this process and end it."
    status, nobody = 99, 65534
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(nobody)
            os.setuid(nobody)
        sys.stderr = err
        status = here(folder)
    finally:
        err.flush()
        os._exit(status)


@pytest.mark.parametrize('name', ['run', '.', 'file/run'])
def test_closed_folder(name):
    """A folder that cannot be made or written ends a run before anything is trained.

    It ends with status 2 and one line with the remedy.
    """
    with tempfile.TemporaryDirectory() as top:
        if name.startswith('file'): (Path(top) / 'file').write_text('')
        os.chmod(top, 0o555)
        status, err = as_nobody(Path(top) / name)
        assert status == 2, err
        line = one_line(err)
        assert top in line and 'choose another: --out, or folder= of fit' in line
        assert os.listdir(top) == (['file'] if name.startswith('file') else [])
        os.chmod(top, 0o755)


def test_two_runs_in_one_folder(whole, tmp_path, capsys):
    """The second run in a folder is refused and the first ends undisturbed.

    A run that was killed keeps nobody out.
    """
    p = start_run(tmp_path, *ONE, pause=7)
    wait_for_step(tmp_path, 5, p)
    p.kill()
    assert end(p)[0] == -signal.SIGKILL
    p = start_run(tmp_path, *ONE, pause=12)
    wait_for_step(tmp_path, 10, p)
    capsys.readouterr()
    assert here(tmp_path) == 2
    line = one_line(capsys.readouterr().err)
    assert line.startswith('error: another run is writing to ')
    assert 'choose another folder' in line
    assert p.poll() is None
    p.send_signal(signal.SIGUSR1)  # go on
    finish(p)
    same(whole, tmp_path, 39)


def truncate(file): file.write_bytes(file.read_bytes()[:-1000])


def empty(file): file.write_bytes(b'')


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)


def foreign(file): save_file(load_file(file), file)


def newer(file):
    data = file.read_bytes()
    header_end = 8 + int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:header_end])['__metadata__']
    save_file(load_file(file), file, {**header, 'format': str(FORMAT + 1)})


DAMAGE = {  # what is done to a checkpoint, and the reason that is given
    truncate: 'truncated or corrupt',
    empty: 'truncated or corrupt',
    flip: 'checksum',
    foreign: 'jem_nb did not write',
    newer: 'newer',
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_checkpoint(whole, half, tmp_path, damage, capsys):
    """A checkpoint that cannot be used is named with the reason.

    The run goes on from the one before and ends bit for bit as undisturbed.
    """
    folder, reason = shutil.copytree(half, tmp_path / 'run'), DAMAGE[damage]
    damaged = checkpoints(folder)[-1]
    damage(damaged)
    with pytest.raises(CheckpointError, match=reason): load_checkpoint(damaged)
    capsys.readouterr()
    assert here(folder) == 0
    said = capsys.readouterr().out
    named = r'passed over: .*checkpoint-00000020.safetensors cannot be used: .*'
    assert re.search(named + reason, said)
    assert record_of(folder)['restarts'] == [15]
    same(whole, folder, 39)


def test_all_damaged(half, tmp_path, capsys):
    "When no checkpoint can be used the run says so and does not begin anew over them."
    folder = shutil.copytree(half, tmp_path / 'run')
    for f in checkpoints(folder): truncate(f)
    capsys.readouterr()
    assert here(folder) == 2
    line, = errors(capsys.readouterr().err)
    assert str(folder) in line and 'none of the 2 checkpoints' in line
    assert 'Delete the folder to start anew' in line
    assert len(checkpoints(folder)) == 2


@pytest.mark.parametrize('words, difference', [
    pytest.param(('--width', 2), 'width=1', id='width'),
    pytest.param(('--norm', 'group'), "norm='none'", id='norm'),
    pytest.param(('--depth', 16), 'depth=10', id='depth'),
])
def test_other_architecture(half, words, difference, capsys):
    "A checkpoint of another network is refused in one line that names the difference, and stays."
    before = {f.name: f.read_bytes() for f in checkpoints(half)}
    capsys.readouterr()
    assert here(half, *words) == 2
    line = one_line(capsys.readouterr().err)
    assert difference in line and 'another folder' in line
    assert {f.name: f.read_bytes() for f in checkpoints(half)} == before


def test_resume_never(half, capsys):
    "--resume never refuses a folder that holds a run."
    capsys.readouterr()
    assert here(half, '--resume', 'never') == 2
    line = one_line(capsys.readouterr().err)
    assert str(half) in line and 'choose another folder' in line
