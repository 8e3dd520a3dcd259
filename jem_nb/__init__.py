__version__ = "0.1.0"

from .compat import install_guard, let_threads_sleep

install_guard()
let_threads_sleep()
