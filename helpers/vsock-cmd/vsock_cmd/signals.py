"""The signal module without its enumerations, which take longer to build than a command needs to reach its guest."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as raw
else:
    import _signal as raw

__all__ = ["raw"]
