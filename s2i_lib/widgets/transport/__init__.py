"""Bytes between browser and Python over the widget's own messages, in pieces that nobody drops.

JupyterLab drops messages over 10 MiB without a word, and Colab loses much smaller ones. So the
browser (transport.js) sends pieces of 96 KiB, never more than eight of them without an answer, and
every piece and every whole is checked. What goes the other way is asked for piece by piece.

Source: zip's CRC-32 as checksum, since ``crypto.subtle`` is missing on pages without TLS.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anywidget
import traitlets

from s2i_lib.errors import S2iError
from s2i_lib.storage.disk import say_fault

log = logging.getLogger(__name__)

CHUNK_BYTES = 96 * 1024  # 98304 bytes a message; transport.js sends pieces of this size
STALE_S = 600.0  # a transfer without news for ten minutes belongs to a page that is gone
MAX_OPEN = 64  # transfers at a time, together of no more than two files of the largest size
REMEMBERED = 64  # ends of transfers that are kept, to answer a piece that was sent twice


@dataclass
class Transfer:
    """One file on its way from the browser."""

    size: int
    count: int
    meta: dict[str, Any]
    pieces: dict[int, bytes]
    last_news_s: float = field(default_factory=time.monotonic)


class Inbox:
    """Puts pieces together, in any order, with some of them twice or damaged.

    Parameters
    ----------
    limit_bytes : int
        The largest file that is taken.
    deliver : callable
        ``deliver(data, meta)`` gets each file once, whole; what it returns goes to the browser as
        the note beside "done". An ``S2iError`` from it is shown there as it is.
    """

    def __init__(self, limit_bytes: int, deliver: Callable[[bytes, dict[str, Any]], Any]) -> None:
        self.limit_bytes = limit_bytes
        self._deliver = deliver
        self._open: dict[str, Transfer] = {}
        self._ended: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.RLock()  # ipykernel 7 calls back on a thread of its own

    def take(self, message: dict[str, Any], piece: bytes) -> list[dict[str, Any]]:
        """Take one piece; return the answers to send to the browser.

        ``message`` has id, index, count, size, crc (of the piece), and total_crc with the last one.
        """
        key, index = str(message["id"]), int(message["index"])
        with self._lock:
            if key in self._ended:
                return [self._ended[key]]
            transfer = self._open.get(key) or self._begin(key, message)
            if transfer is None:
                return [self._ended[key]]
            transfer.last_news_s = time.monotonic()
            expected = min(CHUNK_BYTES, transfer.size - index * CHUNK_BYTES)
            is_whole = len(piece) == expected and zlib.crc32(piece) == message["crc"]
            if not 0 <= index < transfer.count or not is_whole:
                return [{"type": "resend", "id": key, "index": index}]
            transfer.pieces[index] = piece
            transfer.meta.update(message.get("meta") or {})
            if "total_crc" in message:
                transfer.meta["total_crc"] = message["total_crc"]
            answers: list[dict[str, Any]] = [{"type": "ack", "id": key, "index": index}]
            if len(transfer.pieces) < transfer.count:
                return answers
            del self._open[key]
        answers.append(self._finish(key, transfer))
        return answers

    def drop(self, key: str) -> None:
        """Forget a transfer that the browser has given up; its late pieces change nothing."""
        with self._lock:
            self._open.pop(key, None)
            self._remember(key, "Stopped.")

    def _begin(self, key: str, message: dict[str, Any]) -> Transfer | None:
        now = time.monotonic()
        for old in [k for k, t in self._open.items() if now - t.last_news_s > STALE_S]:
            del self._open[old]
        size, count = int(message["size"]), int(message["count"])
        if size > self.limit_bytes:
            self._remember(
                key,
                f"The file has {size / 1e6:.0f} MB; up to {self.limit_bytes / 1e6:.0f} MB are "
                "taken. Put it on the Drive instead and give its folder here.",
            )
            return None
        room = 2 * self.limit_bytes - sum(transfer.size for transfer in self._open.values())
        if size < 0 or size > room or len(self._open) >= MAX_OPEN:
            self._remember(key, "Too many files are being sent at once. Send it again later.")
            return None
        if count != max(1, -(-size // CHUNK_BYTES)):
            self._remember(
                key,
                f"{count} pieces were announced for {size} bytes. The page and the "
                "library have different versions: reload the page.",
            )
            return None
        # No room is taken before the pieces come: their number is only what the page says.
        transfer = Transfer(size, count, {}, {})
        self._open[key] = transfer
        return transfer

    def _finish(self, key: str, transfer: Transfer) -> dict[str, Any]:
        data = b"".join(transfer.pieces[index] for index in range(transfer.count))
        if zlib.crc32(data) != transfer.meta.pop("total_crc", None):
            return self._remember(
                key, "The file was damaged on its way (its checksum differs). Send it again."
            )
        try:
            note = self._deliver(data, transfer.meta)
        except (S2iError, OSError) as error:
            return self._remember(key, say_fault(error))
        except Exception as error:  # the page would wait for ever otherwise, with nothing shown
            log.exception("The callback for what the browser sent has failed")
            return self._remember(
                key, f"Python could not use it: {type(error).__name__}: {error}. See the log."
            )
        return self._remember(key, None, note)

    def _remember(self, key: str, failure: str | None, note: Any = None) -> dict[str, Any]:
        answer = {"type": "done", "id": key, "note": note}
        if failure is not None:
            answer = {"type": "failed", "id": key, "message": failure}
        with self._lock:
            self._ended[key] = answer
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
        return answer


class ByteWidget(anywidget.AnyWidget):
    """A widget that gets files from the browser, and gives it bytes by name.

    Subclasses take ``_received(data, meta)``, ``_asked(name)`` and ``_told(message)``.
    """

    limit_bytes = traitlets.Int(256 * 1024 * 1024, help="largest file taken").tag(sync=True)
    problem = traitlets.Unicode(
        "", help="why the browser could not do it, in words (also for Python to show)"
    )
    problem_code = traitlets.Unicode(
        "", help="refused, blocked, insecure, missing, busy, silent, other; empty when all is well"
    )

    def __init__(self, **kwargs: Any) -> None:
        # What is held back until the end of hold_sync is one set, for whichever thread: what one
        # of them adds while another sends and clears it would never reach the page.
        self._changing = threading.RLock()
        super().__init__(**kwargs)
        # ipykernel 7.4 brings what the page says to the shell whose message a thread here has seen
        # last; where that shell has ended (each opened page ends one), the page's words are lost.
        # Without this they go where the page sends them.
        self.comm._reply_subshell_for = None
        self._inbox = Inbox(self.limit_bytes, self._received)
        self._answered: deque[str] = deque(maxlen=REMEMBERED)  # messages that have been taken
        self.on_msg(self._on_message)

    @contextmanager
    def hold_sync(self) -> Iterator[None]:
        """Send what is changed within as one message, while no other thread changes anything."""
        with self._changing, super().hold_sync():
            yield

    def notify_change(self, change: Any) -> None:
        with self._changing:
            super().notify_change(change)

    def _received(self, data: bytes, meta: dict[str, Any]) -> Any:
        raise S2iError(f"{type(self).__name__} takes no files.")

    def _asked(self, name: str) -> bytes:
        raise S2iError(f"Nothing is called {name!r} here.")

    def _told(self, message: dict[str, Any]) -> None:
        """Take a message of the widget's own kind."""

    def _is_news(self, key: str | None) -> bool:
        """Answer a short message; whether it comes for the first time."""
        if key is None:
            return True
        self.send({"type": "told", "told": key})
        with self._changing:
            is_new = key not in self._answered
            if is_new:
                self._answered.append(key)
            return is_new

    def _on_message(self, _widget: Any, message: dict[str, Any], buffers: list[memoryview]) -> None:
        kind = message.get("type")
        if kind == "chunk":
            for answer in self._inbox.take(message, bytes(buffers[0]) if buffers else b""):
                self.send(answer)
        elif kind == "cancel":
            self._inbox.drop(str(message["id"]))
        elif kind == "pull":
            self._give(message)
        elif not self._is_news(message.pop("told", None)):
            log.debug("came twice: %s", kind)
        elif kind == "problem":
            self.problem_code, self.problem = str(message["code"]), str(message["message"])
        else:
            self._told(message)

    def _give(self, message: dict[str, Any]) -> None:
        """Answer a request for one piece of what is called ``message["name"]``."""
        head = {"type": "part", "id": message["id"], "index": message["index"]}
        try:
            data = self._asked(str(message["name"]))
        except (S2iError, OSError) as error:
            self.send({**head, "message": say_fault(error)})
            return
        start = int(message["index"]) * CHUNK_BYTES
        piece = data[start : start + CHUNK_BYTES]
        count = max(1, -(-len(data) // CHUNK_BYTES))
        self.send({**head, "count": count, "crc": zlib.crc32(piece)}, buffers=[piece])
