"Everything is said in settings.ini; this file only passes it on."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

ini = ConfigParser(delimiters=['='])
ini.read('settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
notebook = cfg['notebook_requirements'].split()
setup(name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
      author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0',
      long_description=Path('README.md').read_text(encoding='utf-8') if Path('README.md').exists() else cfg['description'],
      long_description_content_type='text/markdown',
      python_requires='>=' + cfg['min_python'], install_requires=cfg['requirements'].split(),
      extras_require={'notebook': notebook, 'dev': cfg['dev_requirements'].split() + notebook},
      packages=[cfg['lib_path']], include_package_data=False, zip_safe=False,
      package_data={cfg['lib_path']: ['style.mplstyle', 'weights/*.safetensors', 'weights/*.json', 'weights/*.md']},
      entry_points={'console_scripts': cfg['console_scripts'].split()})
