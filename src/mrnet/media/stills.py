"""Single pictures of a video, without decoding what lies between them."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from mrnet.errors import VideoError
from mrnet.media.container import media_reason, open_media
from mrnet.media.cores import CORES
from mrnet.media.video import size_with_edge, to_rgb, video_stream

# Of a file without key frames there would be all to decode; a picture from nearby does as well.
_MOST_FRAMES = 1500


def stills(path: Path, times_s: Sequence[float], edge: int) -> Iterator[np.ndarray]:
    """The pictures that a viewer sees at some times; memory holds one at a time.

    Args:
        path: a video file of any format FFmpeg knows.
        times_s: in seconds from the first frame, in order of time; of one beyond the end the last picture is given.
        edge: length of the shorter edge of the pictures, in pixels.

    Yields:
        (height, width, 3) uint8 RGB.

    Raises:
        VideoError: the file is missing, is none, or holds no frame there that can be decoded.
    """
    reformatter = VideoReformatter()
    with open_media(path, "video", VideoError) as container, CORES.lend() as num_cores:
        stream = video_stream(container, path)
        stream.thread_type, stream.thread_count = "AUTO", num_cores
        for time_s in times_s:
            try:
                frame = _frame_at(container, stream, time_s)
            except av.FFmpegError as error:
                raise VideoError(f"{path}: decoding fails at {time_s:.1f} s ({media_reason(error)})") from error
            if frame is None:
                raise VideoError(f"{path}: no picture can be decoded at {time_s:.1f} s")
            yield to_rgb(frame, size_with_edge(frame, edge), Interpolation.AREA, reformatter)


def _frame_at(container: InputContainer, stream: VideoStream, time_s: float) -> VideoFrame | None:
    """The last frame that comes on no later than a time, from the key frame before it on."""
    assert stream.time_base is not None
    wanted = (stream.start_time or 0) + math.floor(time_s / stream.time_base)
    with suppress(av.FFmpegError):  # of a file that cannot be sought: from where it is
        container.seek(wanted, stream=stream)
    shown: VideoFrame | None = None
    for frame in islice(container.decode(stream), _MOST_FRAMES):
        if shown is not None and frame.pts is not None and frame.pts > wanted:
            break
        shown = frame
    return shown
