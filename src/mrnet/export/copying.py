"""A stretch of a video as it is: packets taken over, from a key frame on."""

import itertools
from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import OutputContainer
from av.stream import Stream

from mrnet.errors import VideoError
from mrnet.export.reading import TOLERANCE, AnyPacket, Stretch, decoded_at, shown_at, sound_streams
from mrnet.media.container import open_media
from mrnet.media.video import video_stream

# Sound that is heard with a key frame lies at most this much before it in a file.
_INTERLEAVED_S = 1.0


class CannotHoldError(Exception):
    """A container does not take streams of these codecs."""


def copied(clip: OutputContainer, stretch: Stretch) -> list[Iterator[AnyPacket]]:
    """The packets of each track, timed from the start of the clip; the tracks are added to the clip.

    Args:
        clip: a new file.
        stretch: what to copy.

    Raises:
        CannotHoldError: the clip's container holds no such streams.
        VideoError: the video is damaged or ends early; also while the packets are taken.
    """
    with open_media(stretch.video, "video", VideoError) as source:
        picture = video_stream(source, stretch.video)
        pictures = stretch.packets_from_key_frame(picture.index)
        key = next(pictures)
        start = shown_at(key)
        found: list[tuple[Stream, Iterator[AnyPacket]]] = [
            (picture, _pictures(stretch, itertools.chain([key], pictures), start)),
            *((sound, _sound(stretch, sound.index, start)) for sound in sound_streams(source)),
        ]
        tracks = []
        try:
            for stream, packets in found:
                first = next(packets, None)
                if first is not None:  # else the track is over before the moment starts
                    into = clip.add_stream_from_template(stream)
                    into.metadata.update(stream.metadata)
                    tracks.append(_moved(itertools.chain([first], packets), into, start))
            clip.start_encoding()
        except OSError:
            raise
        except (av.FFmpegError, ValueError):
            raise CannotHoldError from None
    return tracks


def _pictures(stretch: Stretch, packets: Iterator[AnyPacket], start: Fraction) -> Iterator[AnyPacket]:
    """Packets of the frames from the key frame on that are shown before the end, and of those they are built from.

    Frames that follow a key frame and are shown before it are built from what is not there.
    """
    held: list[AnyPacket] = []  # shown after the end: needed if one that is decoded later is not
    end_s = float(start)
    for packet in packets:
        if not packet.size or shown_at(packet) < start:
            continue
        if decoded_at(packet) >= stretch.end_s - TOLERANCE:
            end_s = float(decoded_at(packet))
            break
        held.append(packet)
        if shown_at(packet) < stretch.end_s - TOLERANCE:
            end_s = max(end_s, float(shown_at(packet) + packet.time_base * (packet.duration or 0)))
            yield from held
            held.clear()
    stretch.check_reached(end_s)


def _sound(stretch: Stretch, index: int, start: Fraction) -> Iterator[AnyPacket]:
    for packet in stretch.packets(index, float(start) - _INTERLEAVED_S):
        if shown_at(packet) >= stretch.end_s:
            break
        if packet.size and shown_at(packet) >= start:
            yield packet


def _moved(packets: Iterator[AnyPacket], into: Stream, start: Fraction) -> Iterator[AnyPacket]:
    for packet in packets:
        shift = round(start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = into
        yield packet
