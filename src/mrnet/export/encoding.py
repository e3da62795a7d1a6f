"""A stretch of a video encoded anew, to start and end anywhere."""

import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mrnet.errors import VideoError
from mrnet.export.reading import TOLERANCE, AnyPacket, Stretch, shown_at, sound_streams
from mrnet.media.container import open_media
from mrnet.media.cores import CORES
from mrnet.media.video import H264, video_stream

# Decoders of sound need a little of what comes before.
_RUN_UP_S = 0.5
# Of the clips' timestamps, in seconds: frames at 23.976, 24, 25, 29.97, 30, 50, 59.94 or 60 a second last a whole
# number of them.
_CLOCK = Fraction(1, 240_000)
_AAC_RATES = frozenset((7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000))
_AAC_BITS_A_CHANNEL = 96_000
# Degrees counterclockwise -> filters.
_TURNS = {90: ["transpose=cclock"], 180: ["hflip", "vflip"], 270: ["transpose=clock"]}


def encoded(clip: OutputContainer, stretch: Stretch) -> list[Iterator[AnyPacket]]:
    """The packets of each track, timed from the start of the moment; the tracks are added to the clip.

    Args:
        clip: a new .mp4 file.
        stretch: what to encode.

    Raises:
        VideoError: the video is damaged or ends early; also while the packets are taken.
    """
    with open_media(stretch.video, "video", VideoError) as source:
        tracks = [_pictures(clip, stretch, video_stream(source, stretch.video))]
        tracks += [_sound(clip, stretch, sound) for sound in sound_streams(source)]
        clip.start_encoding()
    return tracks


def _pictures(clip: OutputContainer, stretch: Stretch, stream: VideoStream) -> Iterator[AnyPacket]:
    frames = _upright(_frames(stretch, stream.index), stream.sample_aspect_ratio or Fraction(1), stretch.video)
    first = next(frames)
    # Without frames built from later ones: packets come in order, and each lasts as long as its frame.
    into = clip.add_stream("libx264", rate=stream.average_rate or 30, options=H264 | {"bf": "0"})
    into.width, into.height, into.pix_fmt = first.width, first.height, "yuv420p"
    into.codec_context.time_base = _CLOCK
    into.color_range, into.colorspace = first.color_range, first.colorspace
    into.color_primaries, into.color_trc = first.color_primaries, first.color_trc

    def packets() -> Iterator[AnyPacket]:
        lengths: deque[int] = deque()
        for frame in itertools.chain([first], frames, [None]):
            if frame is not None:
                lengths.append(frame.duration)
            for packet in into.encode(frame):
                packet.duration = lengths.popleft()
                yield packet

    return packets()


def _frames(stretch: Stretch, index: int) -> Iterator[VideoFrame]:
    """Frames from the one that is on when the moment starts to its end, timed from its start, with their lengths.

    One at least, however short the moment.
    """
    pts = 0
    ended = itertools.chain(_decoded(stretch, index), [(stretch.end_s, None)])
    for (from_s, frame), (until_s, following) in itertools.pairwise(ended):
        assert frame is not None
        if following is not None and until_s <= stretch.start_s + TOLERANCE:
            continue
        pts = max(pts, round((from_s - stretch.start_s) / _CLOCK))
        length = max(1, round((until_s - stretch.start_s) / _CLOCK) - pts)
        frame.pts, frame.duration, frame.time_base = pts, length, _CLOCK
        pts += length
        frame.pict_type = 0  # the encoder's to choose
        yield frame


def _decoded(stretch: Stretch, index: int) -> Iterator[tuple[float, VideoFrame | None]]:
    """Frames up to the end of the moment, each with when it is shown; one at least.

    Raises:
        VideoError: the video is damaged or ends early.
    """
    time_s = stretch.origin_s
    count = 0
    with CORES.lend() as num_cores:
        for packet in stretch.packets_from_key_frame(index, num_cores):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if count and stretch.is_reached(time_s):  # half a frame, where a video breaks off
                    return
                raise stretch.damaged(time_s, error) from error
            for frame in frames:
                time_s = max(time_s, frame.time if frame.pts is not None else time_s)
                if count and time_s >= stretch.end_s - TOLERANCE and time_s > stretch.start_s + TOLERANCE:
                    return
                yield time_s, frame
                count += 1
    stretch.check_reached(time_s)
    if not count:
        raise VideoError(
            f"{stretch.video}: no frame of moment {stretch.rank} can be decoded; the file is damaged, copy or "
            "download it again"
        )


def _upright(frames: Iterator[VideoFrame], pixel_aspect: Fraction, video: Path) -> Iterator[VideoFrame]:
    """Frames as they are to be looked at: turned, of square pixels, of even width and height.

    Raises:
        VideoError: their size changes.
    """
    first = next(frames)
    graph = Graph()
    buffer = graph.add(
        "buffer",
        video_size=f"{first.width}x{first.height}",
        pix_fmt=first.format.name,
        time_base=str(first.time_base),
        pixel_aspect=str(pixel_aspect),
    )
    scale = "scale=trunc(iw*sar/2)*2:trunc(ih/2)*2"
    _link(
        graph, buffer, [*_TURNS.get(first.rotation % 360, []), scale, "setsar=1", "format=yuv420p"], "buffersink"
    )
    for frame in itertools.chain([first], frames):
        if (frame.width, frame.height, frame.format.name) != (first.width, first.height, first.format.name):
            raise VideoError(f"{video}: its frames change in size or format; cut it without exact=True")
        length = frame.duration
        graph.vpush(frame)
        upright = graph.vpull()
        upright.duration = length
        yield upright


def _sound(clip: OutputContainer, stretch: Stretch, stream: AudioStream) -> Iterator[AnyPacket]:
    frames = _samples(stretch, stream)
    first = next(frames, None)
    if first is None:  # the track is over before the moment starts
        return iter(())
    into = clip.add_stream("aac", rate=first.sample_rate, layout=first.layout.name)
    into.bit_rate = _AAC_BITS_A_CHANNEL * first.layout.nb_channels
    into.metadata.update(stream.metadata)

    def packets() -> Iterator[AnyPacket]:
        for frame in itertools.chain([first], frames, [None]):
            yield from into.encode(frame)

    return packets()


def _samples(stretch: Stretch, stream: AudioStream) -> Iterator[AudioFrame]:
    """The sound of a stretch, to the sample, timed from its start; silence where there are gaps.

    A packet that does not decode is left out, as players do.
    """
    graph = Graph()
    _link(
        graph,
        graph.add_abuffer(template=stream),
        [
            "aresample=async=1",
            f"atrim=start={stretch.start_s:.6f}:end={stretch.end_s:.6f}",
            f"asetpts=PTS-{stretch.start_s:.6f}/TB",
            f"aformat=sample_fmts=fltp:sample_rates={stream.rate if stream.rate in _AAC_RATES else 48_000}",
        ],
        "abuffersink",
    )
    for packet in stretch.packets(stream.index, stretch.start_s - _RUN_UP_S):
        if packet.size and shown_at(packet) >= stretch.end_s:
            break
        with suppress(av.FFmpegError):
            for frame in packet.decode():
                graph.push(frame)
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _pulled(graph: Graph) -> Iterator[AudioFrame]:
    with suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            frame = graph.pull()
            assert isinstance(frame, AudioFrame)
            yield frame


def _link(graph: Graph, buffer: FilterContext, filters: list[str], sink: str) -> None:
    nodes = [buffer]
    for text in [*filters, sink]:
        name, _, arguments = text.partition("=")
        nodes.append(graph.add(name, arguments or None))
    graph.link_nodes(*nodes).configure()
