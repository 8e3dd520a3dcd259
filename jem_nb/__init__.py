__version__ = "0.1.0"

from .compat import install_guard

install_guard()
