"""Everything hvcodec raises on purpose.

HVCodecError
├── FormatError              the bytes are not a file we can read
│   ├── NotHVCError          wrong magic: this is some other file
│   ├── UnsupportedError     well formed, but newer than this decoder            .feature
│   ├── TruncatedError       the bytes end early                                 .layers_complete
│   ├── CorruptError         a checksum or the entropy decoder says no           .layer
│   └── LimitError           asks for more than the caller allows                .limit, .asked
├── DesyncError              bytes intact, but our symbols are not the encoder's .layer
├── ModelError               weights missing, damaged, or not the ones named     .needed, .found
├── ImageError               a picture that cannot be read, or has a mode we do not take
├── TargetError              no setting reaches the target                       .nearest
└── ConfigError              a training configuration or data folder cannot be used

Programming errors (a wrong argument type, a quality of 200) stay TypeError and ValueError.
"""

from __future__ import annotations


class HVCodecError(Exception):
    """Base class: catch this to catch every failure of hvcodec."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled as a call with their message alone, which lacks the keywords of our classes. An error
        # that cannot be unpickled makes a pool of processes wait for ever.
        return _blank, (type(self), self.args), vars(self)


class FormatError(HVCodecError):
    """The bytes are not a file that this decoder can read."""


class NotHVCError(FormatError):
    """The bytes do not start with the magic of an hvcodec file."""


class UnsupportedError(FormatError):
    """The file is well formed but uses a feature that this decoder does not know."""

    def __init__(self, message: str, *, feature: str) -> None:
        super().__init__(message)
        self.feature = feature


class TruncatedError(FormatError):
    """The bytes end early; `layers_complete` chunks are whole (None: not even the header is)."""

    def __init__(self, message: str, *, layers_complete: int | None) -> None:
        super().__init__(message)
        self.layers_complete = layers_complete


class CorruptError(FormatError):
    """The bytes are damaged; `layer` says where if that is known."""

    def __init__(self, message: str, *, layer: int | None = None) -> None:
        super().__init__(message)
        self.layer = layer


class LimitError(FormatError):
    """The file asks for more (pixels, bytes) than the caller allows."""

    def __init__(self, message: str, *, limit: int, asked: int) -> None:
        super().__init__(message)
        self.limit = limit
        self.asked = asked


class DesyncError(HVCodecError):
    """The bytes are intact, but the symbols decoded from them are not the encoder's."""

    def __init__(self, message: str, *, layer: int) -> None:
        super().__init__(message)
        self.layer = layer


class ModelError(HVCodecError):
    """The weights are missing, damaged, or not the ones that a file names."""

    def __init__(self, message: str, *, needed: str | None = None, found: str | None = None) -> None:
        super().__init__(message)
        self.needed = needed
        self.found = found


class ImageError(HVCodecError):
    """The picture cannot be read, or is of a kind that hvcodec does not take."""


class TargetError(HVCodecError):
    """No setting reaches the target; `nearest` is the closest result that was found."""

    def __init__(self, message: str, *, nearest: object = None) -> None:
        super().__init__(message)
        self.nearest = nearest


class ConfigError(HVCodecError):
    """A training configuration, checkpoint or data folder cannot be used."""


def _blank(cls: type[HVCodecError], args: tuple[object, ...]) -> HVCodecError:
    """An error that was pickled, still without its attributes."""
    return cls.__new__(cls, *args)
