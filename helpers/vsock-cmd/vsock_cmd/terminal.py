"""The user's terminal: raw while a command in the guest has it, and always given back as it was found."""

import fcntl
import struct
import termios

# What termios.tcgetattr() returns: iflag, oflag, cflag, lflag, ispeed, ospeed, cc.
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _, _, _CC = range(7)


class Terminal:
    """The terminal behind *fd*."""

    __slots__ = ("_fd", "_found")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._found: list[object] | None = None

    def raw(self) -> None:
        """Every key goes to the guest as it is; cfmakeraw(3)."""
        try:
            mode = termios.tcgetattr(self._fd)
        except termios.error:
            return  # the terminal has gone; a SIGHUP will say so
        self._found = self._found or [*mode[:_CC], list(mode[_CC])]
        mode[_IFLAG] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[_OFLAG] &= ~termios.OPOST
        mode[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[_CFLAG] = mode[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
        self._set(mode)

    def restore(self) -> None:
        """Undo raw()."""
        if self._found:
            self._set(self._found)
            self._found = None

    def _set(self, mode: list[object]) -> None:
        try:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)  # type: ignore[arg-type]
        except termios.error:
            pass  # the terminal has gone

    def size(self) -> tuple[int, int]:
        """(rows, columns); (24, 80) where it has none."""
        try:
            rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(self._fd, termios.TIOCGWINSZ, bytes(8)))
        except OSError:
            return 24, 80
        return rows, columns
