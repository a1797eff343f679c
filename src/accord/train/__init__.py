"""Training: from a config to a run, its one loop, its checkpoints.

The package can be called: `accord.train(...)` is `accord.api.train(...)`. A function and a package share that name, and
Python binds the package to it as soon as any file in here is imported, so the package has to be callable itself.
"""

import sys
import types


class _Callable(types.ModuleType):
    def __call__(self, *args, **keywords):
        """See `accord.api.train`."""
        from accord.api import train  # the one import against the direction: it would be a cycle above

        return train(*args, **keywords)


sys.modules[__name__].__class__ = _Callable
