"""A stretch of a video file, read track by track."""

import itertools
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from mrnet.errors import VideoError
from mrnet.media.container import media_reason, open_media
from mrnet.media.video import video_stream

AnyPacket: TypeAlias = "Packet[Any]"
"""Of pictures or of sound."""

TOLERANCE = Fraction(1, 1000)
"""Seconds by which a timestamp may be off: Matroska rounds to this."""

# How far before a moment to start looking for its key frame, in turn; then from the start of the file. Where a file
# has no index, what is read may begin well after what was sought.
_LOOK_BACK_S = (1.0, 15.0)
# The last frame of a video may end this much before its stated end, up to which moments reach.
_SHORTFALL_S = 1.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """What to take of a video, on the clock of its file, which need not start at 0.

    Attributes:
        video: the file.
        origin_s: when its first frame is shown, in seconds.
        start_s: start of the moment.
        end_s: its end.
        rank: what to call the moment in messages.
    """

    video: Path
    origin_s: float
    start_s: float
    end_s: float
    rank: int

    def packets(self, index: int, from_s: float, num_threads: int = 1) -> Iterator[AnyPacket]:
        """Packets of a stream in decoding order, from ``from_s`` on at the latest.

        The last one is empty: it makes a decoder give out its last frames.

        Args:
            index: of the stream.
            from_s: seconds on the clock of the file.
            num_threads: to decode the packets with.

        Raises:
            VideoError: the file cannot be read.
        """
        with open_media(self.video, "video", VideoError) as source:
            stream = source.streams[index]
            if isinstance(stream, VideoStream):
                stream.thread_type, stream.thread_count = "AUTO", num_threads
            at_s = from_s
            try:
                if from_s > self.origin_s and stream.time_base is not None:
                    with suppress(av.FFmpegError):  # of a file that cannot be sought: from its start then
                        source.seek(math.floor(from_s / stream.time_base), stream=stream)
                for packet in source.demux(stream):
                    at_s = float(decoded_at(packet)) if packet.size else at_s
                    yield packet
            except av.FFmpegError as error:
                raise self.damaged(at_s, error) from error

    def damaged(self, at_s: float, error: av.FFmpegError) -> VideoError:
        """What to raise where reading or decoding fails, at a time on the clock of the file."""
        return VideoError(
            f"{self.video}: reading fails after {at_s - self.origin_s:.1f} s ({media_reason(error)}); "
            "the file is damaged, copy or download it again"
        )

    def packets_from_key_frame(self, index: int, num_threads: int = 1) -> Iterator[AnyPacket]:
        """As :meth:`packets`, from the last key frame on that is not after the moment's start, or else the first.

        Raises:
            VideoError: the file cannot be read, or has no key frame.
        """
        key_s, from_s = self._key_frame(index)
        packets = self.packets(index, from_s, num_threads)
        return itertools.dropwhile(lambda packet: not packet.is_keyframe or shown_at(packet) != key_s, packets)

    def _key_frame(self, index: int) -> tuple[Fraction, float]:
        """When it is shown, and from where on to read to come upon it."""
        latest_s = self.start_s + TOLERANCE
        for from_s in [*(self.start_s - back_s for back_s in _LOOK_BACK_S), self.origin_s]:
            found_s = None
            for packet in self.packets(index, from_s):
                if packet.is_keyframe and packet.size and (found_s is None or shown_at(packet) <= latest_s):
                    found_s = shown_at(packet)
                if found_s is not None and decoded_at(packet) > latest_s:
                    break
            if found_s is not None and (found_s <= latest_s or from_s <= self.origin_s):
                return found_s, from_s
        raise VideoError(f"{self.video}: has no key frame, so nothing can be cut out of it; convert it again")

    def is_reached(self, time_s: float) -> bool:
        """Whether a track whose last frame ends then is whole, up to what a video may lack of its stated length."""
        return time_s >= self.end_s - _SHORTFALL_S

    def check_reached(self, time_s: float) -> None:
        """Complain of a video that ends well before the moment does.

        Args:
            time_s: end of the last frame.
        """
        if not self.is_reached(time_s):
            raise VideoError(
                f"{self.video}: the video stops at {time_s - self.origin_s:.1f} s, before moment {self.rank} ends "
                f"({self.end_s - self.origin_s:.1f} s); the file is incomplete, copy or download it again"
            )


def first_frame_s(video: Path) -> float:
    """When the first frame of a video is shown, in seconds on the clock of its file.

    Raises:
        VideoError: the file is missing or is no video, or no frame can be decoded.
    """
    with open_media(video, "video", VideoError) as source:
        stream = video_stream(source, video)
        with suppress(av.FFmpegError):
            for frame in source.decode(stream):
                if frame.pts is None or frame.time_base is None:
                    raise VideoError(f"{video}: has no timestamps; convert it to .mp4 and cut that")
                return float(frame.pts * frame.time_base)
    raise VideoError(f"{video}: no frame of its video can be decoded; the file is empty or damaged, replace it")


def sound_streams(source: InputContainer) -> list[AudioStream]:
    """The sound tracks of codecs that FFmpeg knows."""
    return [stream for stream in source.streams.audio if stream.codec_context is not None and stream.rate]


def shown_at(packet: AnyPacket) -> Fraction:
    """When what a packet holds is shown or heard, in seconds on the clock of its file."""
    return _seconds(packet, packet.pts, packet.dts)


def decoded_at(packet: AnyPacket) -> Fraction:
    """When a packet is decoded, in seconds on the clock of its file."""
    return _seconds(packet, packet.dts, packet.pts)


def _seconds(packet: AnyPacket, *timestamps: int | None) -> Fraction:
    return packet.time_base * next((timestamp for timestamp in timestamps if timestamp is not None), 0)
