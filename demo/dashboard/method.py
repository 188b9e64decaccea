"""Method: the pipeline in one drawing, its formulas, and what is published, what is chosen here."""

import math

import streamlit as st

from attentdiffernet.config import (
    FLOW_SIZES,
    UNSTEADY_LIGHT,
    AttentionConfig,
    FlowConfig,
    ModelConfig,
    ScoringConfig,
    TrainingConfig,
)
from attentdiffernet.figures.palette import ANOMALOUS_COLOUR, NORMAL_COLOUR, VARIANT_COLOURS
from demo.dashboard import parts

INK = "currentColor"
WIDTH, HEIGHT = 180, 130


def shape(element: str, content: str = "", /, **attributes: object) -> str:
    """One SVG element; `stroke_width` stands for `stroke-width`."""
    written = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<{element}{written}>{content}</{element}>"


def path(d: str, colour: str = INK, width: float = 1.5, fill: str = "none", **more: object) -> str:
    return shape("path", **{"d": d, "stroke": colour, "stroke_width": width, "fill": fill, **more})


def word(x: float, y: float, said: str, size: int = 11, **more: object) -> str:
    return shape("text", said, **{"x": x, "y": y, "font_size": size, "fill": INK, "text_anchor": "middle", **more})


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


STATIONS = [
    (
        "Image",
        image,
        "One photograph, squeezed to 448 × 448 px, or to as many pixels of its own aspect where that does better.",
        "A photograph of a part with a scratch",
    ),
    (
        "Views",
        views,
        "Copies of it: rotations, quarter turns or flips, whichever suits the category. DifferNet has 64 random "
        "rotations.",
        "Four rotated copies of the photograph; corners that turn in from outside are black",
    ),
    ("Scales", scales, "Each view at full, half and quarter size.", "The view at 448, 224 and 112 pixels"),
    (
        "Features",
        backbone,
        "AlexNet's convolutions, frozen. SE or CBAM blocks gate them at three places; DifferNet has none.",
        "Five convolutions of AlexNet with attention gates behind the first, the second and the last",
    ),
    (
        "Flow",
        flow,
        "256 channel means per scale, 768 in all, mapped invertibly to z, which is Gaussian for normal images.",
        "768 features pass coupling blocks and come out as a round cloud, z",
    ),
    (
        "Score",
        scoring,
        "z² over the 768 dimensions, of the views' average; above the threshold an image is anomalous.",
        "A histogram of held-out normal scores, a threshold, and one score far above it",
    ),
]


def drawing() -> str:
    items = []
    for k, (title, draw, words, alt) in enumerate(STATIONS, 1):
        svg = shape("svg", draw(), viewBox=f"0 0 {WIDTH} {HEIGHT}", font_family="system-ui, sans-serif")
        items.append(f"<li>{parts.drawing(svg, alt)}<h4>{k}. {title}</h4><p>{words}</p></li>")
    return f"<ol class='pipeline'>{''.join(items)}</ol>"


FORMULAS = [
    (
        "Squeeze and excitation (SE)",
        r"x'_c = x_c\,g\big(W_2\,\mathrm{ReLU}(W_1\,\bar x)\big)_c",
        "Every channel is multiplied by a gate made from all channel means. The paper has g = σ. Here gates that are "
        "trained have g = 2σ and W₂ = 0 at first: all are 1, DifferNet unchanged, and may raise as well as lower. (Hu "
        "et al., 2018)",
    ),
    (
        "CBAM",
        r"\begin{aligned} x' &= x\,g\big(M(\bar x) + M(\hat x)\big)\\"
        r"x'' &= x'\,g\big(f^{7\times7}[\mathrm{mean}_c\,x';\ \mathrm{max}_c\,x']\big)\end{aligned}",
        "Channel gates from means and maxima through one bottleneck M, then one gate per place; g as for SE. (Woo et "
        "al., 2018)",
    ),
    (
        "One coupling block of the flow",
        r"\begin{aligned} v_2 &= u_2 \odot e^{\gamma(s_1(u_1))} + t_1(u_1)\\"
        r"v_1 &= u_1 \odot e^{\gamma(s_2(v_2))} + t_2(v_2)\\"
        r"\gamma(s) &= 0.636\,\alpha \arctan(s/\alpha)\end{aligned}",
        "Each half of the features scales and shifts the other, so the block can be inverted; γ bounds the scales, α = "
        "3. A fixed permutation stands before each block. (Rudolph et al., WACV 2021)",
    ),
    (
        "Loss",
        r"\mathcal L = \tfrac1{768}\big(\tfrac12\lVert z\rVert^2 - \log\lvert\det J\rvert\big)",
        "Negative log-likelihood of normal images. It does not count the backbone's Jacobian: attention trained by it "
        "alone could make the features collapse.",
    ),
    (
        "Training of the gates",
        r"\mathcal A = \mathrm{mean}\;\mathrm{softplus}\big(\log d(x_i) - \log d(\tilde x_j)\big)",
        "d: squared Mahalanobis distance to other normal images; x̃: a training normal with a synthetic defect, and x "
        "the same without. The gates learn that defects lie farther out. Kept where the whole detector is better with "
        "them on others, else left at 1. A choice of this reproduction.",
    ),
    (
        "Anomaly score",
        r"\tau(x) = \frac1{V\cdot768}\sum_{v=1}^{V}\lVert z_v\rVert^2",
        "Unbounded, higher is more anomalous, no probability. V is the number of views.",
    ),
    (
        "Threshold",
        r"\theta = \tau_{(\lceil (n+1)(1-r)\rceil)}",
        "Of n training normals that were held out, the score of this rank: a new normal image like them exceeds it "
        "with probability r at most (split conformal prediction). No test image has a say.",
    ),
]


def choices() -> list[list[str]]:
    """What is published beside what is done here; numbers of this project come from its defaults."""
    model, training, scoring, attention = ModelConfig(), TrainingConfig(), ScoringConfig(), AttentionConfig()
    compact, paper = FlowConfig(), FLOW_SIZES["paper"]
    place = attention.placement.replace("_", " ")
    return [
        ["Backbone", "AlexNet, ImageNet weights, frozen", "the same; the sample models use a small bundled backbone"],
        [
            "Input",
            "448 px at three scales, nearest neighbour",
            f"{model.image_size} px at {model.n_scales} scales, the same; where a category has images of several "
            "aspects, the rule may keep them (<code>keep_aspect</code>)",
        ],
        [
            "Exposure",
            "as it is; magnetic tiles with brightness and contrast varied by ±15 % (recalled)",
            "brought to one brightness and contrast where those of training normals vary together by more than "
            f"{UNSTEADY_LIGHT:.0%} from image to image",
        ],
        [
            "Attention blocks",
            "after pool1, pool2 and the last ReLU, by the authors' figure; their code is not published",
            f"{place.capitalize()}; <code>before_pool</code> is the other reading",
        ],
        [
            "Reduction, kernel",
            "not stated (SE and CBAM papers: 16, 7)",
            f"{attention.reduction}, {attention.kernel_size}",
        ],
        [
            "Training of attention",
            "not stated",
            f"<code>{attention.training}</code>: the score learns to see synthetic defects in training normals, "
            "convolutions frozen, and no more of it is kept than helps on others; also <code>proxy</code> (a linear "
            "head does), <code>joint</code> (likelihood, with a "
            "flow) and <code>untrained</code>",
        ],
        [
            "Flow",
            f"{paper.n_blocks} blocks, {paper.hidden_layers} hidden layers of {paper.hidden_width}, 172.1 M parameters",
            f"{compact.n_blocks} blocks, {compact.hidden_layers} hidden layers of {compact.hidden_width}, 0.6 M, on "
            "whitened features, starting as a Gaussian; recipe <code>paper</code> is an option",
        ],
        [
            "Views in training",
            "4 new random rotations per image and epoch",
            "4 quarter turns (8 with mirrored copies) or flips, or 8 to 48 rotations per image, chosen on synthetic "
            f"defects in training normals; features made once, noise of {training.feature_noise:g} σ on them",
        ],
        [
            "Epochs",
            "192, the best of 24 evaluations on test images",
            f"{training.epochs}, fixed in advance; the best on test is measured beside it, and labelled",
        ],
        [
            "Views in scoring",
            "64 random rotations",
            f"the same quarter turns or flips, or {scoring.n_views} to 64 rotations, as few as normals need",
        ],
        [
            "Score",
            "mean z² over the views",
            "z² of the features averaged over the views, unless another readout does better on synthetic defects; "
            "<code>--readout z2</code> is the published one",
        ],
        [
            "Threshold",
            "none; AUROC only",
            f"on {training.calibration_fraction:.0%} of the training normals, at most "
            f"{training.false_positive_rate:.0%} flagged",
        ],
        ["Grad-CAM", "layer and target not stated", "of the anomaly score, last features, full scale, selectable"],
        [
            "Maps",
            "pictures by Grad-CAM; no measurement of them is known to us",
            "on all test images with a mask: how much of a map lies on the defect, against chance and DifferNet",
        ],
        [
            "Uncertainty",
            "none for single categories",
            "95 % intervals and paired tests (DeLong, bootstrap) everywhere, several seeds where they were run, "
            "correction for the number of tests (Holm)",
        ],
    ]


parts.head(
    "How it works",
    "DifferNet asks how likely the features of an image are among those of normal images. AttentDifferNet puts "
    "attention blocks into the network that makes the features.",
)
st.html(drawing())
st.html(
    "<p class='small'><span class='variant variant-se'>SE block</span> &nbsp; "
    "<span class='variant variant-cbam'>CBAM block</span> &nbsp; in the same places, one or the other.</p>"
)
st.subheader("Formulas", anchor=False)
for k in range(0, len(FORMULAS), 2):
    for column, (title, formula, words) in zip(st.columns(2, gap="large"), FORMULAS[k : k + 2], strict=False):
        with column, st.container(key=f"formula-{title[:4].strip().lower()}"):
            st.markdown(f"**{title}**")
            st.latex(formula)
            st.caption(words)
st.subheader("Published, and chosen here", anchor=False)
st.markdown(
    "The authors of AttentDifferNet published no code. What the papers leave open is an option here, is stored in "
    "every checkpoint and is said beside every map."
)
parts.table(["", "Published (DifferNet, AttentDifferNet)", "This reproduction"], choices(), stacked=True)
st.subheader("Sources", anchor=False)
st.markdown(
    "- e Silva et al., *Attention Modules Improve Image-Level Anomaly Detection for Industrial Inspection: A DifferNet "
    "Case Study*, WACV 2024, [arXiv 2311.02747](https://arxiv.org/abs/2311.02747)\n"
    "- Rudolph et al., *Same Same But DifferNet*, WACV 2021, [arXiv 2008.12577](https://arxiv.org/abs/2008.12577)\n"
    "- Hu et al., *Squeeze-and-Excitation Networks*, CVPR 2018; Woo et al., *CBAM*, ECCV 2018\n"
    "- Selvaraju et al., *Grad-CAM*, ICCV 2017; DeLong et al., *Biometrics* 44, 1988"
)
