"""Errors that a user can mend. Each message is one line: the value, what is allowed, what to do."""


class BayesPFLError(ValueError):
    """Base class of all errors that this package raises on purpose."""


class ConfigError(BayesPFLError):
    """A setting, or several, that cannot be used."""


class BackboneError(BayesPFLError):
    """A CLIP backbone that is unknown, unsuitable, or whose weights cannot be loaded."""


class CheckpointError(BayesPFLError):
    """A checkpoint that is missing, damaged, unsafe, or made for another model."""


class DataError(BayesPFLError):
    """A dataset, folder, mask or metadata file that cannot be used as it is."""


class NoSplitError(DataError):
    """A dataset without pictures of the split that was asked for; what is there is sound."""


class ImageReadError(DataError):
    """One image file that cannot be read; its message begins with the path."""
