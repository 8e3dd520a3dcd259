"Everything is said in settings.ini; this file only passes it on."
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ini = ConfigParser(delimiters=['='])
ini.read('settings.ini', encoding='utf-8')
cfg, readme = ini['DEFAULT'], Path('README.md')


def wants(*names): # the packages of these keys of settings.ini
    return [package for name in names for package in cfg[f'{name}_requirements'].split()]


ALL = 'data', 'metrics', 'attacks', 'book', 'networks', 'web'  # what the package itself uses
extras = {name: wants(name) for name in (*ALL, 'demo', 'clients')}
extras |= dict(all=wants(*ALL), notebook=wants(*ALL, 'notebook'),
               dev=wants(*ALL, 'notebook', 'dev'))
weights = [f'weights/*.{kind}' for kind in ('safetensors', 'json', 'md')]
setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    keywords=cfg['keywords'],
    author=cfg['author'],
    license='Apache-2.0',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else cfg['description'],
    long_description_content_type='text/markdown',
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    packages=[cfg['lib_path']],
    package_data={cfg['lib_path']: ['style.mplstyle', 'web/*', *weights]},
    include_package_data=False,
    zip_safe=False,
    entry_points={'console_scripts': cfg['console_scripts'].split()},
)
