"""Exact ground truth of synthetic videos: what ``vosdata synth --truth`` stores beside the masks.

Shapes: T frames, N objects in order of their ids, H, W. Everything follows from the scene's geometry and from the same
warped cutouts that the masks are made of, so it agrees with the pixels exactly. Files are ordinary PNGs (Pillow, OpenCV
and Hugging Face read them), one per frame, with equal names in every record::

    amodal   KEY.amodal00000.png    1 bit, N*H x W: the N masks below each other, in order of the ids. 1 where the
                                    object is, also where a nearer one hides it.
                                    numpy.asarray(picture).reshape(N, H, W)
    flow     KEY.fwdflow00000.png   16 bit gray, 2*H x W: x above y. Where what is seen in a pixel lies one frame
             KEY.bwdflow00001.png   later, or earlier, relative to the pixel: (value - 32768) / steps pixels, x to the
                                    right, y down; 0 means not known, because it is farther than 32767 / steps.
                                    steps is truth.flow_steps_per_pixel of the record JSON; rounding is at most
                                    0.5 / steps. The last frame has no forward flow, the first no backward flow.

and the key ``truth`` of the record JSON::

    order       order             T lists of ids, the nearest object first, also those that are out of the frame
    visibility  visible_pixels    N lists of T numbers: pixels of the object in the mask
                amodal_pixels     pixels of its amodal mask
                visible_fraction  visible_pixels / amodal_pixels, 0 where there are none
                in_frame          share of the cutout's solid pixels whose centres lie inside the frame
                state             "absent": no amodal pixel; "inside": in_frame is 1; and when cut by the border
                                  "entering" or "leaving" by how in_frame grows or shrinks from the frame before to the
                                  one after, "cut" where it does neither
                returned          true in every frame that shows an object which had been there and was absent since
    camera      camera            T affine maps, 2x3: where a point of the resting view lies in the frame, in pixels
                                  from the upper left corner of the frame
    role        role              N words: "target", or "distractor" for a second copy of another object
    blur        object_ways       N lists of T [x, y]: way of the object during the exposure, in pixels; it is smeared
                                  along it where that is a pixel or more
                background_ways   T [x, y]: the same of the background
                object_defocus    N numbers: sigma of the object's blur in pixels, 0 when it is sharp
                background_defocus        the same of the background
    light       light             T [red, green, blue]: gains of the whole frame
                colours           N [red, green, blue]: gains of the object's colours
                brightness        N lists of T: further gain of the object
                shadow            share of the light that the objects' shadows take away, 0 without
    quality     jpeg_quality      of the frames
    sources     objects, background       N records, and one, of file: where the picture comes from, below its source;
                                  sha256: hash of that file, empty for what is made by code; source: the source's name;
                                  licence: as far as it is known
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import BadFileError
from synth.appearance import LIGHT_STEPS, brightness_gains, colour_gains, light_gains
from synth.bank import SOLID, Sprite
from synth.deform import Bend, bends
from synth.geometry import Maps, apply, compose, invert
from synth.motion import frame_moments
from synth.origins import SceneOrigins
from synth.render import RenderedVideo
from synth.scene import Scene, SceneObject

TruthKind: TypeAlias = Literal[
    "amodal", "flow", "order", "visibility", "camera", "role", "blur", "light", "quality", "sources"
]
TRUTH_KINDS: tuple[TruthKind, ...] = get_args(TruthKind)

TRUTH_NOTE = (
    "`KEY.amodalNNNNN.png` has the masks of all N objects below each other, hidden parts included: "
    "`numpy.asarray(picture).reshape(N, H, W)`. `KEY.fwdflowNNNNN.png` and `KEY.bwdflowNNNNN.png` have 16-bit flow, x "
    "above y: `(value - 32768) / truth.flow_steps_per_pixel` pixels, 0 where it is not known. The rest is in the JSON, "
    "under `truth`."
)
"""What the dataset card says about it."""

_MIDDLE = 2**15
_FARTHEST = 2**15 - 1

_ROUNDING = 1e-6
"""Pixels by which computed places may be off, and more."""

Flow: TypeAlias = NDArray[np.float32]
"""``float32 (H, W, 2)``: x and y in pixels, NaN where it is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Exact truth of one video, as it is stored."""

    extras: tuple[Mapping[str, bytes], ...]
    """Files of each frame, by the names of :class:`shards.types.StoredFrame`."""

    values: Mapping[str, Any]
    """Value of ``truth`` in the record JSON."""


def make_truth(
    kinds: Iterable[TruthKind],
    scene: Scene,
    video: RenderedVideo,
    *,
    best_quality: int | None = None,
    origins: SceneOrigins | None = None,
) -> Truth:
    """Makes the truth of a rendered video.

    Args:
        kinds: what is wanted.
        scene: the scene.
        video: the scene as rendered with ``amodal=True``.
        best_quality: best JPEG quality of the set; for the kind ``quality``.
        origins: where the scene's pictures come from; for the kind ``sources``.

    Raises:
        ValueError: the video was rendered without amodal masks, or what a kind needs is not given.
    """
    if video.amodal is None:
        raise ValueError("exact truth needs a video that was rendered with amodal=True")
    wanted = frozenset(kinds)
    if ("quality" in wanted and best_quality is None) or ("sources" in wanted and origins is None):
        raise ValueError("the truth about quality needs best_quality, and that about sources needs origins")
    extras: list[dict[str, bytes]] = [{} for _ in video.masks]
    values: dict[str, Any] = {}
    size = (video.masks.shape[1], video.masks.shape[2])
    if "amodal" in wanted:
        for files, masks in zip(extras, video.amodal, strict=True):
            files["amodal.png"] = encode_amodal(masks)
    if "flow" in wanted:
        values["flow_steps_per_pixel"] = flow_steps_per_pixel(size)
        for t, files in enumerate(extras):
            for name, other in (("fwdflow.png", t + 1), ("bwdflow.png", t - 1)):
                if 0 <= other < len(extras):
                    files[name] = encode_flow(flow_between(scene, video, t, other), values["flow_steps_per_pixel"])
    if "order" in wanted:
        values["order"] = [[scene.objects[number].id for number in order] for order in video.order.tolist()]
    if "visibility" in wanted:
        values |= _visibility(scene, video, video.amodal)
    if "camera" in wanted:
        values["camera"] = video.camera_maps.tolist()
    if "role" in wanted:
        values["role"] = [item.role for item in scene.objects]
    if "blur" in wanted:
        values |= _blur(scene, video)
    if "light" in wanted:
        values |= _light(scene, len(video.masks))
    if "quality" in wanted and best_quality is not None:
        values["jpeg_quality"] = scene.jpeg_quality(best_quality)
    if "sources" in wanted and origins is not None:
        values |= origins.to_json()
    return Truth(tuple(extras), values)


def flow_steps_per_pixel(size: tuple[int, int]) -> int:
    """Stored steps per pixel of motion: 64, 32 from 512 pixels of height or width on, 16 from 1024 on."""
    return 64 if max(size) < 512 else 32 if max(size) < 1024 else 16


def flow_between(scene: Scene, video: RenderedVideo, t: int, other: int) -> NDArray[np.float64]:
    """Where that which is seen in each pixel of frame t lies in frame ``other``, relative to the pixel.

    Args:
        scene: the scene.
        video: the scene as rendered.
        t: frame whose pixels are asked about.
        other: any other frame.

    Returns:
        ``float64 (H, W, 2)``: x and y in pixels, of the object that owns the pixel in the mask, else of the background.
    """
    mask = video.masks[t]
    flow = _affine_flow(_between(video.background_maps, t, other), *np.ogrid[: mask.shape[0], : mask.shape[1]])
    for item, sprite, maps in zip(scene.objects, video.sprites, video.object_maps, strict=True):
        rows, columns = np.nonzero(mask == item.id)
        if bends(item.waves):
            here = np.stack([columns, rows], axis=1).astype(np.float64) + 0.5
            bend = _bend(item, sprite, len(maps))
            shown = bend.forward(apply(invert(maps[t]), here), t)
            flow[rows, columns] = apply(maps[other], bend.backward(shown, other)) - here
        else:
            flow[rows, columns] = _affine_flow(_between(maps, t, other), rows, columns)
    return flow


def _bend(item: SceneObject, sprite: Sprite, num_frames: int) -> Bend:
    return Bend(item.waves, frame_moments(num_frames), sprite.size)


def _between(maps: Maps, t: int, other: int) -> Maps:
    return compose(maps[other], invert(maps[t]))


def _affine_flow(step: Maps, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Flow of pixels that an affine map moves: ``float64 (..., 2)``; rows and columns are broadcast."""
    x, y = columns + 0.5, rows + 0.5
    flow = np.empty((*np.broadcast_shapes(x.shape, y.shape), 2))
    for axis, place in enumerate((x, y)):
        np.subtract(step[axis, 0] * x + step[axis, 1] * y + step[axis, 2], place, out=flow[..., axis])
    return flow


def encode_flow(flow: NDArray[np.floating[Any]], steps: int) -> bytes:
    """Flow ``(H, W, 2)`` in pixels as 16-bit PNG; ``steps`` per pixel. What is out of range or NaN is stored as 0."""
    values = np.ascontiguousarray(np.moveaxis(flow, -1, 0)) * steps
    np.rint(values, out=values)
    known = (np.abs(values[0]) <= _FARTHEST) & (np.abs(values[1]) <= _FARTHEST)
    values += _MIDDLE
    values[:, ~known] = 0
    return _encode_png(values.astype(np.uint16).reshape(-1, flow.shape[1]), ())


def decode_flow(data: bytes | memoryview, steps: int) -> Flow:
    """Flow in pixels from what :func:`encode_flow` made.

    Raises:
        BadFileError: it is no such PNG.
    """
    stored = _decode_png(data, np.uint16)
    if len(stored) % 2:
        raise BadFileError(f"flow has x above y and so an even number of rows, found {len(stored)}")
    planes = stored.reshape(2, -1, stored.shape[1])
    flow = (planes.astype(np.float32) - _MIDDLE) / steps
    flow[planes == 0] = np.nan
    return np.ascontiguousarray(np.moveaxis(flow, 0, -1))


def encode_amodal(masks: NDArray[np.bool_]) -> bytes:
    """Masks ``bool (N, H, W)`` as one 1-bit PNG, below each other."""
    return _encode_png(masks.reshape(-1, masks.shape[2]).view(np.uint8), (cv2.IMWRITE_PNG_BILEVEL, 1))


def decode_amodal(data: bytes | memoryview, num_objects: int) -> NDArray[np.bool_]:
    """Masks ``bool (N, H, W)`` from what :func:`encode_amodal` made.

    Raises:
        BadFileError: it is no such PNG, or not of so many objects.
    """
    stored = _decode_png(data, np.uint8)
    if len(stored) % num_objects:
        raise BadFileError(f"amodal masks of {num_objects} objects below each other cannot have {len(stored)} rows")
    masks: NDArray[np.bool_] = stored.reshape(num_objects, -1, stored.shape[1]) > 0
    return masks


def _encode_png(picture: NDArray[Any], options: Sequence[int]) -> bytes:
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot write a PNG of shape {picture.shape}")
    return data.tobytes()


def _decode_png(data: bytes | memoryview, dtype: type[np.generic]) -> NDArray[Any]:
    content = np.frombuffer(data, np.uint8)
    picture: NDArray[Any] | None = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    if picture is None or picture.ndim != 2 or picture.dtype != dtype:
        found = "something else" if picture is None else f"{picture.dtype} of shape {picture.shape}"
        raise BadFileError(f"expected a gray PNG of {np.dtype(dtype)}, found {found}")
    return picture


def _visibility(scene: Scene, video: RenderedVideo, amodal: NDArray[np.bool_]) -> dict[str, Any]:
    """Counts and states, N lists of T each."""
    ids = np.array([item.id for item in scene.objects])
    visible = np.array([(video.masks == number).sum(axis=(1, 2)) for number in ids])
    whole = amodal.sum(axis=(2, 3)).T
    parts = zip(scene.objects, video.sprites, video.object_maps, strict=True)
    in_frame = np.array([_in_frame(*part, video.masks.shape[1:]) for part in parts])
    present = whole > 0
    return {
        "visible_pixels": visible.tolist(),
        "amodal_pixels": whole.tolist(),
        "visible_fraction": (visible / np.maximum(whole, 1)).tolist(),
        "in_frame": in_frame.tolist(),
        "state": [_states(*rows) for rows in zip(present, in_frame, strict=True)],
        "returned": [_returned(row).tolist() for row in present],
    }


def _in_frame(item: SceneObject, sprite: Sprite, maps: Maps, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Share of a cutout's solid pixels whose centres lie inside the frame: ``float64 (T,)``."""
    rows, columns = np.nonzero(sprite.pixels[..., 3] >= SOLID)
    centres: NDArray[np.float64] = np.stack([columns, rows], axis=1).astype(np.float64) + 0.5
    bend, end = _bend(item, sprite, len(maps)), np.array(size[::-1])
    shares = np.ones(len(maps))
    for t, at in enumerate(maps):
        spare = np.abs(at[:, :2]) @ bend.reach + _ROUNDING  # bends move nothing farther on screen
        if _inside(apply(at, sprite.hull), end, spare).all():
            continue
        rigid = apply(at, centres)
        surely, perhaps = _inside(rigid, end, spare), _inside(rigid, end, -spare)
        bent = apply(at, bend.backward(centres[perhaps & ~surely], t))
        shares[t] = (np.count_nonzero(surely) + np.count_nonzero(_inside(bent, end, np.zeros(2)))) / len(centres)
    return shares


def _inside(points: NDArray[np.float64], end: NDArray[np.int64], spare: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points ``(P, 2)`` lie inside the frame and at least ``spare`` from its borders: ``bool (P,)``."""
    x, y = points.T
    inside: NDArray[np.bool_] = (x >= spare[0]) & (x < end[0] - spare[0]) & (y >= spare[1]) & (y < end[1] - spare[1])
    return inside


def _blur(scene: Scene, video: RenderedVideo) -> dict[str, Any]:
    diagonal = float(np.hypot(*video.masks.shape[1:]))
    return {
        "object_ways": video.object_ways.tolist(),
        "background_ways": video.background_ways.tolist(),
        "object_defocus": [item.defocus * diagonal for item in scene.objects],
        "background_defocus": scene.background.defocus * diagonal,
    }


def _light(scene: Scene, num_frames: int) -> dict[str, Any]:
    moments = frame_moments(num_frames)
    return {
        "light": (light_gains(scene.light, moments)[:, :3] / LIGHT_STEPS).tolist(),
        "colours": [colour_gains(item).tolist() for item in scene.objects],
        "brightness": [brightness_gains(item, moments).tolist() for item in scene.objects],
        "shadow": scene.shadow.strength,
    }


def _states(present: NDArray[np.bool_], in_frame: NDArray[np.float64]) -> list[str]:
    around = np.concatenate([in_frame[:1], in_frame, in_frame[-1:]])
    growth = around[2:] - around[:-2]
    moving = np.where(growth > 0, "entering", np.where(growth < 0, "leaving", "cut"))
    states: list[str] = np.where(~present, "absent", np.where(in_frame == 1, "inside", moving)).tolist()
    return states


def _returned(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where an object is present and was absent at some time after it had been present: ``bool (T,)``."""
    gone = np.logical_or.accumulate(present) & ~present
    returned: NDArray[np.bool_] = present & np.logical_or.accumulate(gone)
    return returned
