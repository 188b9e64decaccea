"""The pipeline of the method as six drawings (SVG), from the image to the score."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from attentdiffernet.figures.palette import ANOMALOUS_COLOUR, NORMAL_COLOUR, VARIANT_COLOURS
from demo.dashboard.widgets import drawing

INK = "currentColor"
WIDTH, HEIGHT = 180, 130  # of one drawing


# -- pieces


def shape(element: str, content: str = "", /, **attributes: object) -> str:
    """One SVG element; `stroke_width` stands for `stroke-width`."""
    written = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<{element}{written}>{content}</{element}>"


def path(d: str, colour: str = INK, width: float = 1.5, fill: str = "none", **more: object) -> str:
    return shape("path", **{"d": d, "stroke": colour, "stroke_width": width, "fill": fill, **more})


def word(x: float, y: float, written: str, size: int = 11, **more: object) -> str:
    return shape("text", written, **{"x": x, "y": y, "font_size": size, "fill": INK, "text_anchor": "middle", **more})


def part(size: float) -> str:
    """The part that is inspected: a disc with a hub, and a scratch in the colour of anomalies. Centred at 0, 0."""
    scratch = path(
        f"M{0.16 * size:.1f} {-0.3 * size:.1f}l{0.14 * size:.1f} {0.22 * size:.1f}", ANOMALOUS_COLOUR, max(2, size / 22)
    )
    disc = shape("circle", r=f"{0.42 * size:.1f}", fill=INK, fill_opacity=0.14, stroke=INK, stroke_width=1.2)
    return disc + shape("circle", r=f"{0.1 * size:.1f}", fill="none", stroke=INK, stroke_width=1.2) + scratch


def at(x: float, y: float, content: str, turn: float = 0) -> str:
    return shape("g", content, transform=f"translate({x:g} {y:g}) rotate({turn:g})")


def frame(x: float, y: float, side: float) -> str:
    return shape("rect", x=x, y=y, width=side, height=side, rx=3, fill="none", stroke=INK, stroke_width=1.2)


# -- stations


def image() -> str:
    return frame(35, 10, 110) + at(90, 65, part(110))


def views() -> str:
    """Four rotations; what turns in from outside is black."""
    tiles = []
    for k, turn in enumerate((0, 45, 180, 292)):
        x, y = 62 + 56 * (k % 2), 37 + 56 * (k // 2)
        clip = shape("clipPath", shape("rect", x=-25, y=-25, width=50, height=50), id=f"tile{k}")
        paper = shape("rect", x=-25, y=-25, width=50, height=50, fill="#c9d1da")
        turned = at(0, 0, paper + shape("g", part(50), color="#1a232e"), turn)
        black = shape("rect", x=-25, y=-25, width=50, height=50, fill="#05070a")
        tiles.append(at(x, y, clip + shape("g", black + turned, clip_path=f"url(#tile{k})") + frame(-25, -25, 50)))
    return "".join(tiles)


def scales() -> str:
    drawn = []
    for x, side, said in ((8, 84, "448"), (100, 42, "224"), (150, 21, "112")):
        drawn.append(frame(x, 100 - side, side) + at(x + side / 2, 100 - side / 2, part(side)))
        drawn.append(word(x + side / 2, 117, said))
    return "".join(drawn)


def backbone() -> str:
    """Five convolutions, shrinking and deepening, and the three gates."""
    drawn = [word(90, 122, "64 · 192 · 256 channels")]
    for x, height in ((10, 84), (52, 60), (94, 42), (114, 42), (134, 42)):
        drawn.append(
            shape(
                "rect", x=x, y=58 - height / 2, width=14, height=height, rx=2, fill=INK, fill_opacity=0.16, stroke=INK
            )
        )
    for x, height in ((33, 60), (75, 42), (157, 42)):
        top, bottom = 58 - height / 2, 58 + height / 2
        drawn.append(path(f"M{x} {top}V{bottom}", VARIANT_COLOURS["se"], 5))
        drawn.append(path(f"M{x + 6} {top}V{bottom}", VARIANT_COLOURS["cbam"], 5, stroke_dasharray="2.5 2.5"))
    return "".join(drawn)


def flow() -> str:
    """Three pooled vectors in, two coupling blocks, a round cloud out."""
    drawn = [
        shape("rect", x=8, y=14 + 30 * k, width=11, height=26, rx=2, fill=INK, fill_opacity=0.16 + 0.14 * k, stroke=INK)
        for k in range(3)
    ]
    for x in (34, 82):
        drawn.append(shape("rect", x=x, y=22, width=34, height=74, rx=4, fill="none", stroke=INK, stroke_width=1.2))
        drawn.append(path(f"M{x} 40H{x + 34}M{x} 78H{x + 34}M{x + 12} 40V66", width=1.3))
        drawn.append(path(f"M{x + 8} 62l4 6l4 -6", width=1.3))
        drawn.append(shape("circle", cx=x + 12, cy=78, r=5, fill="none", stroke=INK))
    drawn.append(path("M19 59H34M68 40C75 40 75 78 82 78M68 78C75 78 75 40 82 40M116 59H126", width=1.3))
    for k in range(26):  # a sunflower's seeds: evenly spread, the same each time
        radius, angle = 24 * math.sqrt((k + 0.5) / 26), 2.39996 * k
        drawn.append(
            shape(
                "circle",
                cx=f"{152 + radius * math.cos(angle):.1f}",
                cy=f"{59 + radius * math.sin(angle):.1f}",
                r=1.9,
                fill=NORMAL_COLOUR,
            )
        )
    return "".join([*drawn, word(13, 117, "768"), word(75, 117, "couplings"), word(152, 117, "z")])


def scoring() -> str:
    """Held-out normals as bars, the threshold, a score far to the right."""
    bars = (8, 26, 48, 62, 50, 30, 16, 8, 4)
    drawn = [
        shape("rect", x=12 + 11 * k, y=98 - height, width=9, height=height, fill=NORMAL_COLOUR, fill_opacity=0.75)
        for k, height in enumerate(bars)
    ]
    drawn.append(path("M6 98.5H174"))
    drawn.append(path("M112 18V104", width=1.6, stroke_dasharray="5 3"))
    drawn.append(path("M152 94l-6 -10h12z", ANOMALOUS_COLOUR, 1.5, ANOMALOUS_COLOUR))
    drawn.append(path("M152 84V46", ANOMALOUS_COLOUR, 2))
    return "".join([*drawn, word(112, 117, "threshold"), word(152, 38, "score"), word(50, 117, "normals")])


@dataclass(frozen=True)
class Station:
    """One step of the pipeline: what is drawn, said below the drawing, and said to those who cannot see it."""

    title: str
    draw: Callable[[], str]
    text: str
    alt: str


STATIONS = [
    Station(
        "Image",
        image,
        "One photograph, resized to 448 × 448 px, or to the same number of pixels at its own aspect if that is better.",
        "A photograph of a part with a scratch",
    ),
    Station(
        "Views",
        views,
        "Copies of it: rotations, quarter turns or flips, whichever suits the category. DifferNet uses 64 random "
        "rotations.",
        "Four rotated copies of the photograph; corners that turn in from outside are black",
    ),
    Station("Scales", scales, "Each view at full, half and quarter size.", "The view at 448, 224 and 112 pixels"),
    Station(
        "Features",
        backbone,
        "AlexNet's convolutions, frozen. SE or CBAM blocks gate them at three places; DifferNet has none.",
        "Five convolutions of AlexNet with attention gates after the first, the second and the last",
    ),
    Station(
        "Flow",
        flow,
        "256 channel means per scale, 768 in all, mapped invertibly to z, which is Gaussian for normal images.",
        "768 features pass coupling blocks and come out as a round cloud, z",
    ),
    Station(
        "Score",
        scoring,
        "Mean z² over the 768 dimensions, of the views' average. Above the threshold an image is anomalous.",
        "A histogram of held-out normal scores, a threshold, and one score far above it",
    ),
]


def pipeline() -> str:
    """All stations, as an HTML list."""
    items = []
    for k, station in enumerate(STATIONS, 1):
        svg = shape("svg", station.draw(), viewBox=f"0 0 {WIDTH} {HEIGHT}", font_family="system-ui, sans-serif")
        items.append(f"<li>{drawing(svg, station.alt)}<h2>{k}. {station.title}</h2><p>{station.text}</p></li>")
    return f"<ol class='pipeline'>{''.join(items)}</ol>"
