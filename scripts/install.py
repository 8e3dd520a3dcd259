"""make setup: a virtual environment in .venv with everything of this checkout, said in few lines.

It is run by the Python that the environment is to be made from, which need not have any package
and may be an old one. What pip says goes to a log. People see a dot every few seconds and, where
something fails, the last lines of the log and what to do.
"""
import os
import subprocess
import sys
import time
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, '.venv')
STAMP = os.path.join(VENV, '.installed')
LOG = os.path.join(VENV, 'install.log')
PYTHON = os.path.join(VENV, 'bin', 'python')
LINES = 20  # of the log, shown on failure


def say(text, end='\n'):
    sys.stdout.write(text + end)
    sys.stdout.flush()


def usable():
    "Whether .venv has a Python that runs, is new enough and has pip."
    code = 'import sys, pip; sys.exit(sys.version_info < (3, 10))'
    try: return subprocess.call([PYTHON, '-c', code], stderr=subprocess.DEVNULL) == 0
    except OSError: return False


def make_venv():
    "A fresh .venv; exits with a remedy where this Python cannot make one."
    say('Making .venv with Python %d.%d' % sys.version_info[:2])
    try: venv.EnvBuilder(clear=True, symlinks=True, with_pip=True).create(VENV)
    except (OSError, subprocess.CalledProcessError) as e:
        say('This Python cannot make a virtual environment (%s).' % e)
        sys.exit('On Debian and Ubuntu: apt install python3-venv; '
                 'else choose another with make PYTHON=...')


def logged(words):
    "Run a command into the log; where it fails, show the end of the log and exit."
    with open(LOG, 'a') as log:
        log.write('\n$ ' + ' '.join(words) + '\n')
        log.flush()
        p = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        wait_with_dots(p)
    if p.returncode != 0: exit_with_log(words)


def wait_with_dots(p):
    "Wait for the end of a process, with a dot every five seconds."
    said = time.time()
    while p.poll() is None:
        time.sleep(.1)
        if time.time() - said >= 5:
            say('.', end='')
            said = time.time()


def exit_with_log(words):
    "Show the command that failed and the last lines of the log, and exit."
    with open(LOG, errors='replace') as log: tail = log.read().splitlines()[-LINES:]
    say('\n\nThis failed: %s' % ' '.join(words))
    say('The last lines of %s:\n' % os.path.relpath(LOG, ROOT))
    say('\n'.join('  ' + line for line in tail))
    sys.exit('\nMend what they name (a network? disk space?) and give the same command again.')


def main():
    version = sys.version_info[:2]
    if version < (3, 10):
        sys.exit('jem_nb needs Python 3.10 or newer; this is %d.%d. '
                 'Try: make PYTHON=python3.12' % version)
    if os.path.exists(STAMP): os.remove(STAMP)
    if not usable(): make_venv()
    open(LOG, 'w').close()
    say('Installing into .venv: one to a few minutes, 1.5 GB or more; '
        'pip writes to %s ' % os.path.relpath(LOG, ROOT), end='')
    pip = [PYTHON, '-m', 'pip', '--disable-pip-version-check']
    logged(pip + ['install', '--progress-bar', 'off', '-c', 'constraints.txt', '-e', '.[dev]'])
    logged(pip + ['check'])
    with open(STAMP, 'w') as f: f.write(os.path.realpath(ROOT) + '\n')
    say(' done')


if __name__ == '__main__':
    try: main()
    except KeyboardInterrupt: sys.exit('\ninterrupted; give the same command again')
