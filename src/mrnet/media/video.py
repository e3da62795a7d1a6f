"""Decode and encode video files, one frame at a time.

Memory use does not grow with the length of the video. Times are in seconds from the first
timestamp of the video stream.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from mrnet.errors import VideoCutOffError, VideoError
from mrnet.files import replacing
from mrnet.media.container import media_reason, media_url, open_media, stated_duration
from mrnet.media.cores import CORES
from mrnet.media.sampling import Ticks, UnexpectedFrames, decode_all, decode_shown

Decoder = Callable[[InputContainer, VideoStream, Ticks], Iterator[VideoFrame]]

# A stream may fall short of its stated length by this much before it counts as cut off.
_SHORTFALL_S = 1.0
_SHORTFALL_FRACTION = 0.1
# A frame may be stamped this much earlier than the one shown before it, or this much later. Beyond that,
# timestamps are broken: a clock was set, files were joined.
_LONGEST_STEP_BACK_S, _LONGEST_GAP_S = 1.0, 3600.0
# A last frame that claims to be shown for longer is believed no further than the length of the whole.
_LONG_LAST_S = 60.0
# Beyond an hour, a file of fewer bytes than ten a second holds next to nothing.
_MOST_S_PER_BYTE = 0.1
# More than this gain nothing and take memory.
_MOST_DECODER_THREADS = 16

H264 = {"crf": "18", "preset": "veryfast", "mbtree": "0"}
"""Options of the encoder. Quality (crf): 0 is lossless, 23 its default. Without mbtree, whose arithmetic varies from
run to run, the same frames always give the same bytes."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes:
        path: the file.
        duration_s: length of the video stream in seconds.
        fps: mean frames a second.
        width: stored frame width in pixels, before any rotation.
        height: stored frame height in pixels, before any rotation.
        num_frames: number of frames, or ``None`` where the container does not say.
    """

    path: Path
    duration_s: float
    fps: float
    width: int
    height: int
    num_frames: int | None


def probe(path: str | Path) -> VideoInfo:
    """Read length, rate and size of a video without decoding it.

    Args:
        path: a video file of any usual format.

    Raises:
        VideoError: the file is missing, is a directory, or holds no video that can be opened.
    """
    path = Path(path)
    with open_media(path, "video", VideoError) as container:
        stream = video_stream(container, path)
        num_frames = stream.frames or None
        duration_s = stated_duration(container, stream)
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else None
        if duration_s is None or fps is None:
            # Recordings streamed to disk (browsers, cameras) carry no length: count the packets.
            num_frames, duration_s = _scan_packets(container, stream, path)
            if not num_frames:
                raise _no_frames(path)
            fps = fps or num_frames / max(duration_s, 1e-3)
        context = stream.codec_context
        return VideoInfo(path, duration_s, fps, context.width, context.height, num_frames)


def sample_frames(
    path: str | Path,
    rate: float,
    size: tuple[int, int] | int,
    interpolation: Literal["area", "bicubic", "bilinear"] = "area",
) -> Iterator[tuple[float, np.ndarray]]:
    """Decode a video at a fixed rate by timestamp, whatever its own rate, constant or not.

    Tick ``k`` is at ``k / rate`` seconds and shows the latest frame whose timestamp is not after
    it, the frame a viewer would see. Ticks run up to the end of the last frame. Frames that the
    file says to show rotated are rotated. Frames that no tick shows are not decoded where the
    codec allows; those that are given are the same as if they were.

    Args:
        path: a video file of any usual format.
        rate: ticks a second, above 0.
        size: (height, width) of the frames given, in pixels, whatever the aspect ratio of the video; or the
            length of their shorter edge, which keeps it. Pixels count as square.
        interpolation: how frames are scaled; ``"area"`` averages what falls into a pixel.

    Yields:
        (time_s, frame): time of the tick in seconds, and a (height, width, 3) uint8 RGB array.

    Raises:
        VideoError: the file is missing, is not a video, holds no frame that can be decoded, has
            timestamps that make no sense, or stops decoding in its middle.
        VideoCutOffError: it ends before its stated length or within a frame, as a copy that was broken off does; after
            the last tick.
    """
    done = 0
    reformatter = VideoReformatter()  # one for all frames: each would set its own up anew
    for decode in (decode_shown, decode_all):
        try:
            for tick, frame in _ticks_with_frames(Path(path), rate, decode):
                size = size_with_edge(frame, size) if isinstance(size, int) else size
                if tick == done:
                    yield tick / rate, to_rgb(frame, size, Interpolation[interpolation.upper()], reformatter)
                    done += 1
        except UnexpectedFrames:
            continue
        return


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is not the cover picture of a sound file.

    Raises:
        VideoError: there is none, or none that can be decoded.
    """
    pictures = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not pictures:
        raise VideoError(f"{path}: holds no video stream, sound only perhaps; name a video file")
    if pictures[0].codec_context is None:
        raise VideoError(f"{path}: its pictures are coded in a way that is not known here; convert it to H.264")
    return pictures[0]


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: int, *, preset: str = "veryfast") -> None:
    """Write frames as H.264 in an .mp4 file; an interrupted call leaves no file behind.

    Args:
        path: the file to write; one already there is replaced once the new one is whole.
        frames: (height, width, 3) uint8 RGB arrays of one size, height and width even.
        fps: frames a second.
        preset: of x264: the quicker, the larger the file.

    Raises:
        VideoError: there are no frames, or they cannot be encoded.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VideoError(f"{path}: there are no frames to write")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise VideoError(f"{path}: frames are {width}x{height}; H.264 needs an even width and height")
    try:
        with replacing(path) as part, av.open(media_url(part), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options=H264 | {"preset": preset})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            # One thread: the bytes then depend on the frames alone, not on the machine.
            stream.thread_count = 1
            for index, array in enumerate(itertools.chain([first], iterator)):
                if array.shape != first.shape:
                    raise VideoError(f"{path}: frame {index} has shape {array.shape}, the first one {first.shape}")
                container.mux(stream.encode(VideoFrame.from_ndarray(array, format="rgb24")))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise VideoError(f"{path}: cannot encode the video: {media_reason(error)}") from error


def _ticks_with_frames(path: Path, rate: float, decode: Decoder) -> Iterator[tuple[int, VideoFrame]]:
    """Every tick with the frame it shows."""
    shown: VideoFrame | None = None
    tick, shown_s = 0, 0.0
    with open_media(path, "video", VideoError) as container, CORES.lend() as num_cores:
        stream = video_stream(container, path)
        stream.thread_type, stream.thread_count = "AUTO", min(num_cores, _MOST_DECODER_THREADS)
        stated_s = stated_duration(container, stream)
        longest_s = _LONGEST_GAP_S + path.stat().st_size * _MOST_S_PER_BYTE
        ticks = Ticks(rate, stream.time_base or Fraction(1, av.time_base))
        try:
            for frame in decode(container, stream, ticks):
                if frame.pts is not None:
                    time_s = ticks.seconds(frame.pts)
                else:  # of a bare elementary stream: frames follow at the stated rate
                    time_s = shown_s + _frame_duration(shown, stream) if shown else 0.0
                if not -_LONGEST_STEP_BACK_S <= time_s - shown_s <= _LONGEST_GAP_S + 1 / rate:
                    raise VideoError(
                        f"{path}: its timestamps jump from {shown_s:.1f} s to {time_s:.1f} s; "
                        "they are broken, convert the video again"
                    )
                _check_worth_it(path, time_s, longest_s)
                time_s = max(time_s, shown_s)
                while shown is not None and tick < ticks.from_s(time_s):
                    yield tick, shown
                    tick += 1
                shown, shown_s = frame, time_s
        except av.FFmpegError as error:
            is_cut_off = shown is not None and _is_read_to_its_end(container, stream)
            if is_cut_off:  # half a frame at the end is no other fault
                _check_complete(path, shown_s, stated_s)
            raise (VideoCutOffError if is_cut_off else VideoError)(
                f"{path}: decoding fails after {shown_s:.1f} s ({media_reason(error)}); "
                "the file is damaged, copy or download it again"
            ) from error
        if shown is None:
            raise _no_frames(path)
        last_s = min(_frame_duration(shown, stream), _LONGEST_GAP_S)
        if last_s > _LONG_LAST_S and stated_s is not None:
            last_s = min(last_s, max(stated_s - shown_s, 0.0))
        end_s = shown_s + last_s
        _check_worth_it(path, end_s, longest_s)
        while tick < ticks.from_s(end_s) or tick == 0:
            yield tick, shown
            tick += 1
        _check_complete(path, end_s, stated_s)


def _is_read_to_its_end(container: InputContainer, stream: VideoStream) -> bool:
    try:
        return not next(container.demux(stream)).size
    except av.FFmpegError:
        return True


def falls_short(end_s: float, stated_s: float) -> bool:
    """Whether a video that ends at a time, in seconds, ends well before its stated length."""
    return end_s < (1 - _SHORTFALL_FRACTION) * stated_s - _SHORTFALL_S


def _check_complete(path: Path, end_s: float, stated_s: float | None) -> None:
    """Complain of a video that ends well before its stated length, if it states one."""
    if stated_s is not None and falls_short(end_s, stated_s):
        raise VideoCutOffError(
            f"{path}: the video stops at {end_s:.1f} s of {stated_s:.1f} s; "
            "the file is incomplete, copy or download it again"
        )


def _check_worth_it(path: Path, time_s: float, longest_s: float) -> None:
    """Complain of a file of a few kilobytes whose frames claim to be shown for days: each would be looked at anew."""
    if time_s > longest_s:
        raise VideoError(
            f"{path}: claims to last {time_s:.0f} s and is far too small for that; it is damaged, convert it again"
        )


def _frame_duration(frame: VideoFrame, stream: VideoStream) -> float:
    """Seconds for which a frame is shown; where unsaid, the mean of the stream."""
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 0.0


def _scan_packets(container: InputContainer, stream: VideoStream, path: Path) -> tuple[int, float]:
    """Number of packets of a stream, and the time in seconds from the first to the end of the last."""
    count, start_s, end_s = 0, math.inf, 0.0
    try:
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            count += 1
            packet_s = float(packet.pts * packet.time_base)
            start_s = min(start_s, packet_s)
            end_s = max(end_s, packet_s + float((packet.duration or 0) * packet.time_base))
    except av.FFmpegError as error:
        raise VideoError(f"{path}: reading fails ({media_reason(error)}); copy or download it again") from error
    return count, max(end_s - start_s, 0.0)


def _no_frames(path: Path) -> VideoError:
    return VideoError(f"{path}: no frame of its video can be decoded; the file is empty or damaged, replace it")


def to_rgb(
    frame: VideoFrame, size: tuple[int, int], interpolation: Interpolation, reformatter: VideoReformatter
) -> np.ndarray:
    """Scale a frame to a (height, width, 3) uint8 RGB array, upright."""
    turns = _quarter_turns(frame)
    height, width = size[::-1] if turns % 2 else size
    # Scaled first, as it is stored, then converted.
    scaled = reformatter.reformat(frame, width, height, format="rgb24", interpolation=interpolation)
    array = scaled.to_ndarray()
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def size_with_edge(frame: VideoFrame, edge: int) -> tuple[int, int]:
    """(height, width) of an upright frame scaled to a shorter edge of this length, in pixels."""
    height, width = (frame.width, frame.height) if _quarter_turns(frame) % 2 else (frame.height, frame.width)
    scale = edge / min(height, width)
    return round(height * scale), round(width * scale)


def _quarter_turns(frame: VideoFrame) -> int:
    """Quarter turns counterclockwise that set a frame upright."""
    return round(frame.rotation / 90) % 4
