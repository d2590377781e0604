"""Creatures as flat shapes: a posed skeleton, polygons hung on it, and what lies about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws", "Shape", "creature", "rgb", "surroundings", "vector"]

Array = NDArray[np.float64]


class Draws:
    """Deals out the columns of a table of uniform draws (N, D), each one once."""

    def __init__(self, table: Array) -> None:
        self._table = table
        self._used = 0

    def __call__(self, low: float, high: float) -> Array:
        """Return the next column, scaled to [low, high): (N,)."""
        column: Array = self._table[:, self._used]
        self._used += 1
        return low + (high - low) * column


@dataclass(frozen=True)
class Shape:
    """A polygon per picture, the part or limb it belongs to, its colour, and where it is drawn."""

    owner: str
    points: Array  # (N, P, 2) body or image coordinates
    colour: Array  # (N, 3) RGB in [0, 1]
    shown: NDArray[np.bool_]  # (N,)


def vector(x: Array | float, y: Array | float) -> Array:
    """Stack to [x, y] in the last axis."""
    return np.stack(np.broadcast_arrays(x, y), axis=-1).astype(float)


def direction(angle: Array) -> Array:
    """Turn angles in degrees (N,), counted from forward (+x) to up (-y), to unit vectors (N, 2)."""
    radians = np.deg2rad(angle)
    return vector(np.cos(radians), -np.sin(radians))


def tube(start: Array, control: Array, end: Array, radii: tuple[Any, Any, Any]) -> Array:
    """Outline (N, 20, 2) of a bent limb: a quadratic Bezier curve of varying radius, round ends."""
    t = np.linspace(0, 1, 7)[:, None]
    weights = np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
    slopes = np.concatenate([-2 * (1 - t), 2 - 4 * t, 2 * t], axis=1)
    controls = np.stack([start, control, end], axis=1)
    spine, tangent = weights @ controls, slopes @ controls
    width = np.stack(np.broadcast_arrays(*(np.ones(len(start)) * r for r in radii)), 1) @ weights.T
    tangent = tangent / np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-9)
    normal = tangent[..., ::-1] * (-1, 1)
    side = normal * width[..., None]

    def cap(at: int, turn: float) -> Array:
        """Three points around an end, from the one side to the other."""
        angle = np.deg2rad(np.array([45, 90, 135]))[:, None]
        arc = (
            turn * np.cos(angle) * normal[:, None, at] + turn * np.sin(angle) * tangent[:, None, at]
        )
        points: Array = spine[:, None, at] + arc * width[:, None, at, None]
        return points

    return np.concatenate([spine + side, cap(-1, 1), (spine - side)[:, ::-1], cap(0, -1)], axis=1)


def disc(centre: Array, radius: Any) -> Array:
    """Outline (N, 16, 2) of a disc."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points: Array = centre[:, None] + circle * (np.ones(len(centre)) * radius)[:, None, None]
    return points


def rgb(hue: Array, saturation: Array | float, value: Array | float) -> Array:
    """HSV, all in [0, 1] (hue of any period), to RGB (N, 3)."""
    ramp = np.abs((hue[:, None] + np.array([0, 2, 1]) / 3) % 1 * 6 - 3) - 1
    saturation = np.broadcast_to(saturation, hue.shape)[:, None]
    value = np.broadcast_to(value, hue.shape)[:, None]
    mixed: Array = value * (1 + saturation * (np.clip(ramp, 0, 1) - 1))
    return mixed


def creature(
    draws: Draws, has: dict[str, NDArray[np.bool_]]
) -> tuple[list[Shape], dict[str, Array], Array]:
    """Pose creatures, facing right, chest and rump near y = 0, in px at a picture size of 112.

    Returns
    -------
    shapes : list of Shape
        From back to front.
    parts : dict of str to (N, 2)
        Positions of all parts, absent ones included.
    centre : (N, 2)
        Middle of the torso.
    """
    always = np.ones(len(has["horns"]), bool)
    shapes: list[Shape] = []

    def add(owner: str, points: Array, colour: Array, shown: NDArray[np.bool_] = always) -> None:
        shapes.append(Shape(owner, points, np.clip(colour, 0, 1), shown))

    # Colours: a coat, a second colour for wings and tuft, and what is coloured by its kind.
    hue = draws(0, 1)
    coat = rgb(hue, draws(0.25, 0.75), draws(0.5, 0.9))
    second = rgb(hue + draws(0.3, 0.7), draws(0.4, 0.9), draws(0.5, 0.95))
    pale = 0.35 * coat + 0.65
    dark = 0.35 * coat
    far = 0.72 * coat
    orange = rgb(draws(0.05, 0.13), 0.9, draws(0.85, 1.0))
    ivory = rgb(draws(0.1, 0.15), 0.2, draws(0.85, 1.0))
    ink = np.full_like(coat, 0.08)

    # The skeleton.
    half, chest_r, rump_r = draws(15, 22), draws(7.5, 10.5), draws(7.5, 10.5)
    chest, rump = vector(half, draws(-3, 3)), vector(-half, draws(-3, 3))
    middle = vector(draws(-4, 4), draws(-7, 5))
    neck_from = chest + vector(1, -0.4 * chest_r)
    head_r = draws(6.8, 8.8)
    head = neck_from + direction(draws(-55, 105)) * draws(15, 25)[:, None]
    neck_bend = (neck_from + head) / 2 + vector(draws(-5, 5), draws(-5, 5))
    look = draws(-55, 40)
    forward, up = direction(look)[:, None], direction(look + 90)[:, None]

    def on_head(ahead: Array | float, above: Array | float) -> Array:
        """Point of the head's own frame."""
        place: Array = (
            head + (vector(ahead, above)[..., None, :] @ np.concatenate([forward, up], 1))[:, 0]
        )
        return place

    zero = np.zeros_like(half)
    eye = on_head(zero + 2.2, 2.6)
    snout = on_head(head_r + 3.8, zero - 1.2)
    ear_turn = look + draws(95, 170)
    ear_from = on_head(zero - 3, 0.6 * head_r)
    ear = ear_from + direction(ear_turn) * 5.5
    horn_from = on_head(zero + 1.5, 0.75 * head_r)
    horn_to = on_head(draws(2, 9), head_r + draws(9, 12))
    horn_bend = on_head(zero - 1, head_r + 5)
    horn = (horn_from + 2 * horn_bend + horn_to) / 4  # middle of its curve

    def leg(hip: Array) -> tuple[Array, Array, Array, Array]:
        """Hip, knee, foot and the direction in which the foot points."""
        swing = draws(-135, -45)
        knee = hip + direction(swing) * draws(8, 12)[:, None]
        shin = swing + draws(-30, 30)
        return hip, knee, knee + direction(shin) * draws(8, 12)[:, None], direction(shin + 85)

    front = leg(chest + vector(-2, 0.55 * chest_r))
    hind = leg(rump + vector(2, 0.5 * rump_r))
    tail_from = rump + vector(-0.7 * rump_r, -2)
    tail_turn = 180 - draws(-70, 95)
    tail_tip = tail_from + direction(tail_turn) * draws(17, 28)[:, None]
    tail_bend = tail_from + direction(tail_turn + draws(-60, 60)) * draws(8, 14)[:, None]
    tail_ends = tail_tip - tail_bend
    tail_ends = tail_ends / np.linalg.norm(tail_ends, axis=1, keepdims=True)
    wing_from = vector(0.95 * half, -0.8 * chest_r)
    wing_turn, wing_length = draws(42, 145), draws(24, 31)
    wing = wing_from + direction(wing_turn + 14) * 0.6 * wing_length[:, None]

    # Shapes, from back to front.
    for hip in (hind[0] + (3, -1), front[0] + (3, -1)):
        start, knee, foot, ahead = leg(hip)
        add("far_leg", tube(start, knee, foot, (3.6, 2.8, 2.2)), far)
        add("far_leg", disc(foot + ahead, 2.4), 0.6 * far)
    add("tail", tube(tail_from, tail_bend, tail_tip, (2.8, 2.2, 1.4)), 0.9 * coat)
    add("tail_tip", disc(tail_tip, 4.6), second, has["tuft"])
    arrow = [(5.5, 0), (-3.5, 4.2), (-1.5, 0), (-3.5, -4.2)]
    across = tail_ends[:, ::-1] * (-1, 1)
    arrow_points = [tail_tip + a * tail_ends + b * across for a, b in arrow]
    add("tail_tip", np.stack(arrow_points, axis=1), dark, ~has["tuft"])
    add("torso", tube(rump, middle, chest, (rump_r, 0.9 * rump_r, chest_r)), coat)
    for limb, (hip, knee, foot, _) in (("hind", hind), ("front", front)):
        add(f"{limb}_leg", tube(hip, knee, foot, (4.4, 3.2, 2.3)), 0.93 * coat)
    for shift in (-4.5, 0.0, 4.5):
        top = rump + vector(shift - 1, -0.85 * rump_r + 0.2 * abs(shift))
        bottom = rump + vector(shift + 1, 0.75 * rump_r - 0.2 * abs(shift))
        add(
            "rump",
            tube(top, (top + bottom) / 2 + (1.5, 0), bottom, (0.8, 1.3, 0.8)),
            dark,
            has["striped"],
        )
    _, _, foot, toe = hind
    web = tube(foot - 2 * toe, foot + toe, foot + 4.5 * toe, (1.2, 2.6, 4.2))
    add("hind_foot", web, orange, has["webbed"])
    claws = [(-2.5, 2.2), (5, 2.6), (1.5, 0.6), (5.5, 0), (1.5, -0.8), (4.5, -2.6), (-2.5, -2.2)]
    fan = toe[:, ::-1] * (-1, 1)
    add(
        "hind_foot",
        np.stack([foot + a * toe + b * fan for a, b in claws], 1),
        ivory,
        ~has["webbed"],
    )
    _, _, foot, toe = front
    add(
        "front_foot",
        tube(foot - 2 * toe, foot, foot + 3.4 * toe, (3.2, 3.4, 3.0)),
        rgb(hue + 0.5, 0.75, 0.75),
        has["boots"],
    )
    add("front_foot", disc(foot + 0.6 * toe, 2.7), dark, ~has["boots"])
    add("neck", tube(neck_from, neck_bend, head, (0.62 * chest_r, 4.6, 4.4)), 0.97 * coat)
    add("chest", disc(chest, 0.52 * chest_r), pale, has["bib"])
    add("horn", tube(horn_from, horn_bend, horn_to, (2.8, 2.4, 0.5)), ivory, has["horns"])
    add(
        "head",
        tube(on_head(zero - 2.5, 0), head, on_head(zero + 3, -0.8), (head_r, head_r, 0.8 * head_r)),
        1.06 * coat,
    )
    beak_to = on_head(head_r + 9, zero - 3)
    add(
        "snout",
        tube(on_head(0.7 * head_r, zero - 0.8), snout, beak_to, (4.4, 3.8, 0.5)),
        orange,
        has["beak"],
    )
    add(
        "snout",
        tube(
            on_head(0.8 * head_r, zero - 1.2),
            snout,
            on_head(head_r + 5, zero - 1.4),
            (4.6, 4.4, 3.6),
        ),
        pale,
        ~has["beak"],
    )
    add("snout", disc(on_head(head_r + 6.5, zero + 0.5), 1.3), ink, ~has["beak"])
    add("ear", disc(ear, 4.3), 0.75 * coat + 0.1, has["round_ears"])
    ear_to = ear_from + direction(ear_turn) * 12
    add("ear", tube(ear_from, ear, ear_to, (3.4, 3.2, 0.3)), dark + 0.1, ~has["round_ears"])
    eye_r = draws(2.7, 3.5)
    add("eye", disc(eye, eye_r), np.full_like(coat, 0.97), ~has["yellow_eyes"])
    add("eye", disc(eye, eye_r), np.full_like(coat, 1.0) * (1.0, 0.8, 0.05), has["yellow_eyes"])
    add("eye", disc(eye + 0.6 * forward[:, 0], 0.5 * eye_r), ink)
    for turn, length, shade in ((32, 0.8, 0.75), (16, 0.92, 0.87), (0, 1.0, 1.0)):
        reach = direction(wing_turn + turn) * (length * wing_length)[:, None]
        feather = tube(wing_from, wing_from + 0.6 * reach, wing_from + reach, (2.5, 6.5, 1.2))
        add("wing", feather, shade * second, has["wings"])

    parts = {
        "head": head,
        "eye": eye,
        "snout": snout,
        "ear": ear,
        "horn": horn,
        "chest": chest,
        "rump": rump,
        "wing": wing,
        "front_foot": front[2] + 0.6 * front[3],
        "hind_foot": hind[2] + 1.5 * hind[3],
        "tail_tip": tail_tip,
    }
    return shapes, parts, (chest + rump) / 2


def surroundings(draws: Draws, many: int, owner: str, share: float) -> list[Shape]:
    """Loose shapes anywhere in the picture, in px at a picture size of 112.

    Every fourth one is a ball with a pupil, the others are bent and tapered rods, so that no part
    can be told by its own shape alone.
    """
    shapes = []
    for k in range(many):
        start = vector(draws(0, 112), draws(0, 112))
        turn, length = draws(0, 360), draws(6, 26) if owner == "clutter" else draws(35, 60)
        end = start + direction(turn) * length[:, None]
        bend = (start + end) / 2 + vector(draws(-8, 8), draws(-8, 8))
        colour = rgb(draws(0, 1), draws(0.0, 0.9), draws(0.1, 1.0))
        thick, taper, shown = draws(1.5, 5), draws(0.1, 1.2), draws(0, 1) < share
        if owner == "occluder":
            thick = thick + 2
        if owner == "clutter" and k % 4 == 0:
            shapes.append(Shape(owner, disc(start, thick), colour, shown))
            shapes.append(Shape(owner, disc(start, 0.5 * thick), 0.2 * colour, shown))
        else:
            radii = (thick, (1 + taper) / 2 * thick, taper * thick)
            shapes.append(Shape(owner, tube(start, bend, end, radii), colour, shown))
    return shapes
