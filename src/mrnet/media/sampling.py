"""Decode no more of a video than its frames at a fixed rate need.

Most frames of a compressed video that nobody looks at must be decoded all the same, for others are built from
them. Two kinds need not be: frames that nothing refers to, which a decoder leaves out when told to, and whatever
lies between the last frame wanted and a picture that starts afresh. Which frames are wanted is read off the
timestamps of the packets, a few packets ahead of the decoder. The frames that come out are then held against
what was expected of them: where they differ, the video is decoded whole.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

VideoPacket: TypeAlias = "Packet[VideoStream]"

# Containers round timestamps (Matroska to 1 ms): a frame this little after a tick is on time.
_TICK_TOLERANCE_S = 1e-3
# Codecs whose decoders leave out what nothing refers to, and nothing else, when told to.
_LEAVES_OUT_UNREFERENCED = frozenset({"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video"})
# Formats with times of decoding alone, Matroska for streams taken over from AVI (which keep AVI's name of the codec).
_STORES_NO_DISPLAY_TIMES = frozenset({"avi", "matroska,webm"})
# Packets held back at most: bounds memory, whatever the timestamps say.
_MOST_HELD = 256


class UnexpectedFrames(Exception):  # noqa: N818 - not an error: the video is decoded whole instead
    """The timestamps of the packets do not tell which frames will come out of the decoder."""


@dataclass(slots=True)
class Ticks:
    """Ticks at a fixed rate: tick ``k`` is ``k / rate`` seconds after the first frame.

    Attributes:
        rate: ticks a second.
        time_base: unit of the timestamps, in seconds.
        start: timestamp of the first frame, once that is known.
    """

    rate: float
    time_base: Fraction
    start: int | None = None

    def seconds(self, timestamp: int) -> float:
        """Time of a timestamp, in seconds from the first frame."""
        # Whole numbers to the last step: many times faster than fractions, and as exact.
        return (timestamp - (self.start or 0)) * self.time_base.numerator / self.time_base.denominator

    def from_s(self, time_s: float) -> int:
        """The first tick that shows a frame which comes on at ``time_s`` seconds."""
        # Rounded: a frame exactly as late as tolerated is on time, however the product comes out.
        return max(math.ceil(round((time_s - _TICK_TOLERANCE_S) * self.rate, 6)), 0)

    def of(self, packet: VideoPacket) -> int:
        """The first tick that shows the frame of a packet, unless another comes on before."""
        assert packet.pts is not None
        return self.from_s(self.seconds(packet.pts))


def decode_all(container: InputContainer, stream: VideoStream, ticks: Ticks) -> Iterator[VideoFrame]:
    """Every frame, in display order."""
    for frame in container.decode(stream):
        ticks.start = frame.pts if ticks.start is None else ticks.start
        yield frame


def decode_shown(container: InputContainer, stream: VideoStream, ticks: Ticks) -> Iterator[VideoFrame]:
    """Frames in display order, without some of those that no tick shows.

    Raises:
        UnexpectedFrames: a frame that a tick shows may be missing from now on. Those given so far were right.
    """
    context = stream.codec_context
    if not _can_leave_out(container, context):
        yield from decode_all(container, stream, ticks)
        return
    due: set[int] = set()
    latest = -math.inf
    for packet, shown in _worth_decoding(_marked(container.demux(stream), ticks), context):
        context.skip_frame = "DEFAULT" if shown else "NONREF"
        if shown and packet.size and packet.pts is not None and not packet.is_discard:
            due.add(packet.pts)
        for frame in packet.decode():
            # Two packets may make one interlaced frame: their timestamps then promise two. Damage is patched up
            # from frames that may have been left out.
            if frame.pts is None or frame.interlaced_frame or frame.is_corrupt:
                raise UnexpectedFrames
            if ticks.start is None:
                # What precedes the first picture that can be decoded is lost, to any decoder.
                ticks.start = frame.pts
                due = {timestamp for timestamp in due if timestamp >= frame.pts}
            due.discard(frame.pts)
            if frame.pts < latest or any(timestamp < frame.pts for timestamp in due):
                raise UnexpectedFrames
            latest = frame.pts
            yield frame
    if due:
        raise UnexpectedFrames


def _marked(packets: Iterable[VideoPacket], ticks: Ticks) -> Iterator[tuple[VideoPacket, bool]]:
    """Packets in decoding order, each with whether a tick shows its frame.

    An empty packet at the end, which makes the decoder give out its last frames, counts as shown.
    """
    ahead: deque[VideoPacket] = deque()
    for packet in packets:
        if packet.size and packet.pts is None:
            raise UnexpectedFrames
        ahead.append(packet)
        while ahead and (shown := _is_shown(ahead, ticks)) is not None:
            yield ahead.popleft(), shown


def _is_shown(ahead: deque[VideoPacket], ticks: Ticks) -> bool | None:
    """Whether a tick shows the frame of the first of these packets; ``None``: that depends on what follows them.

    A tick shows the latest frame that has come on. So a frame is not shown if a later one comes on before the
    first tick after it. No such frame can follow once decoding has passed that tick, as no frame is shown
    before it is decoded.
    """
    first, last = ahead[0], ahead[-1]
    if ticks.start is None or not first.size or first.pts is None:
        return True
    if first.is_discard:
        return False
    tick = ticks.of(first)
    later = (packet for packet in ahead if packet.pts is not None and packet.pts > first.pts)
    if any(ticks.of(packet) == tick and not packet.is_discard for packet in later):
        return False
    settled = last.dts is None or ticks.from_s(ticks.seconds(last.dts)) > tick
    return True if settled or len(ahead) > _MOST_HELD else None


def _worth_decoding(
    marked: Iterable[tuple[VideoPacket, bool]], context: CodecContext
) -> Iterator[tuple[VideoPacket, bool]]:
    """The same without what lies between a frame that is shown and a fresh start."""
    held: list[tuple[VideoPacket, bool]] = []
    for packet, shown in marked:
        if _starts_afresh(packet, context):
            held.clear()
        held.append((packet, shown))
        if shown or len(held) == _MOST_HELD:
            yield from held
            held.clear()


def _can_leave_out(container: InputContainer, context: CodecContext) -> bool:
    """Whether anything can be left out of a stream without changing the rest."""
    if context.codec.intra_only:
        return True
    if container.format.name in _STORES_NO_DISPLAY_TIMES and context.codec_tag != "\0\0\0\0":
        return False
    # With temporal layers, what HEVC calls unreferenced may be referred to from a higher layer.
    name = context.codec.canonical_name
    return name in _LEAVES_OUT_UNREFERENCED and (
        name != "hevc" or _num_temporal_layers(context.extradata or b"") == 1
    )


def _starts_afresh(packet: VideoPacket, context: CodecContext) -> bool:
    """Whether no frame from here on, in decoding order, needs what comes before.

    A key frame as such is no fresh start: pictures that follow it may be shown, and built, before it.
    """
    if not packet.size or context.codec.intra_only:
        return True
    if context.codec.canonical_name != "h264" or not packet.is_keyframe:
        return False
    data, header = bytes(packet), context.extradata or b""
    if header[:1] != b"\x01":
        # Start codes; such a stream carries its parameter sets, which must be given again as well.
        return all(
            re.search(rb"\x00\x00\x01" + unit, data) for unit in (rb"[\x07\x27\x47\x67]", rb"[\x05\x25\x45\x65]")
        )
    length_size, at = (header[4] & 3) + 1, 0
    while at + length_size < len(data):
        if data[at + length_size] & 31 == 5:  # a slice of an IDR picture
            return True
        at += length_size + int.from_bytes(data[at : at + length_size])
    return False


def _num_temporal_layers(header: bytes) -> int | None:
    """Number of temporal layers of an HEVC stream, from its header; ``None`` where it does not say."""
    if header[:1] == b"\x01" and len(header) > 21:
        return header[21] >> 3 & 7
    at = header.find(b"\0\0\1\x40\x01")  # the video parameter set
    return (header[at + 6] >> 1 & 7) + 1 if 0 <= at < len(header) - 6 else None
