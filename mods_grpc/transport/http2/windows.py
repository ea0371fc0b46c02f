"""Flow control of what arrives (RFC 9113, section 5.2): what the peer may still send, and when it is given more."""


class ReceiveWindow:
    """A window for the bytes of a stream or of a connection.

    Args:
        size: Bytes that the peer may send unasked.

    Attributes:
        left: Bytes that it may send now; below 0 it sent too much.
    """

    __slots__ = ("_credit", "_worth", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        self._credit = 0
        self._worth = max(1, size // 2)  # one WINDOW_UPDATE for many small messages, and never a peer that waits for nothing

    def give_back(self, count: int) -> int:
        """Note that so many bytes were taken.

        Returns:
            The increment of the WINDOW_UPDATE that is due; 0 while it is not worth one.
        """
        credit = self._credit + count
        if credit < self._worth:
            self._credit = credit
            return 0
        self._credit = 0
        self.left += credit
        return credit
