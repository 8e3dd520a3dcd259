__version__ = "0.1.0"

from importlib import import_module

from .compat import install_guard, let_threads_sleep

install_guard()
let_threads_sleep()

_PUBLIC = dict( # what a user of the package calls, and where it is; imported when it is asked for
    EnergyClassifier='energy.EnergyClassifier',
    IMAGENET='your_network.IMAGENET',
    OwnNetwork='your_network.OwnNetwork',
    TrainedModel='saved_model.TrainedModel',
    fit='fitting.fit',
    from_dataset='your_data.from_dataset',
    from_folder='your_data.from_folder',
    from_frame='your_data.from_frame',
    from_parquet='your_data.from_parquet',
    from_tensors='your_data.from_tensors',
    load='saved_model.load_model',
    network='your_network.network',
)


def __getattr__(name):
    if name not in _PUBLIC: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, attribute = _PUBLIC[name].split('.')
    return getattr(import_module(f'{__name__}.{module}'), attribute)


def __dir__(): return sorted([*globals(), *_PUBLIC])
