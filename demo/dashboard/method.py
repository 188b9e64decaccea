"""Method: the pipeline in one drawing, its formulas, and what is published beside what is chosen here."""

from dataclasses import dataclass

import streamlit as st

from attentdiffernet.options import FLOW_SIZES, SCORING_VIEWS, UNSTEADY_LIGHT, Options
from demo.dashboard import widgets
from demo.dashboard.pipeline import pipeline


@dataclass(frozen=True)
class Formula:
    title: str
    latex: str
    text: str


FORMULAS = [
    Formula(
        "Squeeze and excitation (SE)",
        r"x'_c = x_c\,g\big(W_2\,\mathrm{ReLU}(W_1\,\bar x)\big)_c",
        "Every channel is multiplied by a gate that is computed from the means of all channels. In the paper g = σ. "
        "Trained gates here have g = 2σ and start with W₂ = 0: all gates are then 1, which is DifferNet, and may rise "
        "or fall. (Hu et al., 2018)",
    ),
    Formula(
        "CBAM",
        r"\begin{aligned} x' &= x\,g\big(M(\bar x) + M(\hat x)\big)\\"
        r"x'' &= x'\,g\big(f^{7\times7}[\mathrm{mean}_c\,x';\ \mathrm{max}_c\,x']\big)\end{aligned}",
        "Channel gates from means and maxima through one bottleneck M, then one gate per place; g as for SE. (Woo et "
        "al., 2018)",
    ),
    Formula(
        "One coupling block of the flow",
        r"\begin{aligned} v_2 &= u_2 \odot e^{\gamma(s_1(u_1))} + t_1(u_1)\\"
        r"v_1 &= u_1 \odot e^{\gamma(s_2(v_2))} + t_2(v_2)\\"
        r"\gamma(s) &= 0.636\,\alpha \arctan(s/\alpha)\end{aligned}",
        "Each half of the features scales and shifts the other, so that the block can be inverted. γ bounds the scale "
        "(α = 3). A fixed permutation precedes each block. (Rudolph et al., WACV 2021)",
    ),
    Formula(
        "Loss",
        r"\mathcal L = \tfrac1{768}\big(\tfrac12\lVert z\rVert^2 - \log\lvert\det J\rvert\big)",
        "Negative log-likelihood of normal images. It does not include the Jacobian of the backbone: attention trained "
        "by this loss alone could make the features collapse.",
    ),
    Formula(
        "Training of the gates",
        r"\mathcal A = \mathrm{mean}\;\mathrm{softplus}\big(\log d(x_i) - \log d(\tilde x_j)\big)",
        "d: squared Mahalanobis distance to other normal images. x̃: a training normal with a synthetic defect; x: the "
        "same without it. The gates learn that defects lie farther out. They are kept only if the detector separates "
        "synthetic defects in other normal images better with them than without; else all gates are set to 1. A choice "
        "of this reproduction.",
    ),
    Formula(
        "Anomaly score",
        r"\tau(x) = \frac1{V\cdot768}\sum_{v=1}^{V}\lVert z_v\rVert^2",
        "Unbounded, higher is more anomalous; not a probability. V is the number of views.",
    ),
    Formula(
        "Threshold",
        r"\theta = \tau_{(\lceil (n+1)(1-r)\rceil)}",
        "The score of this rank among n held-out training normals. A new normal image like them exceeds it with "
        "probability r at most (split conformal prediction). Test images are not used.",
    ),
]


def choices() -> list[list[str]]:
    """Rows of (what, published, here). Numbers of this project are its defaults."""
    return [*input_choices(), *attention_choices(), *training_choices(), *scoring_choices()]


def input_choices() -> list[list[str]]:
    options = Options()
    return [
        ["Backbone", "AlexNet, ImageNet weights, frozen", "the same; sample models use a small bundled backbone"],
        [
            "Input",
            "448 px at three scales, nearest neighbour",
            f"{options.image_size} px at {options.n_scales} scales, the same; if a category has images of several "
            "aspects, these may be kept (<code>keep_aspect</code>)",
        ],
        [
            "Exposure",
            "unchanged; for magnetic tiles, brightness and contrast varied by ±15 % (from memory of the paper)",
            "standardised if the brightness and contrast of training normals vary together by more than "
            f"{100 * UNSTEADY_LIGHT:.0f} % from image to image",
        ],
    ]


def attention_choices() -> list[list[str]]:
    attention = Options().attention
    place = attention.placement.replace("_", " ")
    return [
        [
            "Attention blocks",
            "after pool1, pool2 and the last ReLU, by the authors' figure; their code is not published",
            f"{place}; <code>before_pool</code> is the other reading",
        ],
        [
            "Reduction, kernel",
            "not stated (SE and CBAM papers: 16, 7)",
            f"{attention.reduction}, {attention.kernel_size}",
        ],
        [
            "Training of attention",
            "not stated",
            f"<code>{attention.training}</code>: gates are trained to separate synthetic defects in training normals, "
            "with frozen convolutions, and are kept only if they help on others; also <code>proxy</code> (by a linear "
            "classifier), <code>joint</code> (for likelihood, with a flow) and <code>untrained</code>",
        ],
    ]


def training_choices() -> list[list[str]]:
    options = Options()
    compact, paper = options.flow, FLOW_SIZES["paper"]
    return [
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
            f"defects in training normals; features computed once, with noise of {options.feature_noise:g} σ",
        ],
        [
            "Epochs",
            "192, the best of 24 evaluations on test images",
            f"{options.epochs}, fixed in advance; the best on test is measured beside it, and labelled",
        ],
    ]


def scoring_choices() -> list[list[str]]:
    options = Options()
    return [
        [
            "Views in scoring",
            "64 random rotations",
            f"the same quarter turns or flips, or {SCORING_VIEWS} to 64 rotations, as few as normals need",
        ],
        [
            "Score",
            "mean z² over the views",
            "z² of the features averaged over the views, unless another read-out is better on synthetic defects; "
            "<code>--readout z2</code> is the published one",
        ],
        [
            "Threshold",
            "none; AUROC only",
            f"on {100 * options.calibration_fraction:.0f} % of the training normals, at most "
            f"{100 * options.false_positive_rate:.0f} % flagged",
        ],
        ["Grad-CAM", "layer and target not stated", "of the anomaly score, last features, full scale, selectable"],
        [
            "Maps",
            "pictures by Grad-CAM; we know of no measurement",
            "measured on all test images with a mask: how much of a map lies on the defect, against chance and "
            "DifferNet",
        ],
        [
            "Uncertainty",
            "none for single categories",
            "95 % intervals and paired tests (DeLong, bootstrap) everywhere, several seeds where they were run, "
            "correction for the number of tests (Holm)",
        ],
    ]


widgets.head(
    "How it works",
    "DifferNet estimates how likely the features of an image are among those of normal images. AttentDifferNet adds "
    "attention blocks to the network that computes the features.",
)
st.html(pipeline())
st.html(
    "<p class='small'><span class='variant variant-se'>SE block</span> &nbsp; "
    "<span class='variant variant-cbam'>CBAM block</span> &nbsp; in the same places, one or the other.</p>"
)
st.header("Formulas", anchor=False)
for k in range(0, len(FORMULAS), 2):
    for column, formula in zip(st.columns(2, gap="large"), FORMULAS[k : k + 2], strict=False):
        with column, st.container(key=f"formula-{formula.title[:4].strip().lower()}"):
            st.markdown(f"**{formula.title}**")
            st.latex(formula.latex)
            st.caption(formula.text)
st.header("Published, and chosen here", anchor=False)
st.markdown(
    "The authors of AttentDifferNet published no code. What the papers leave open is an option here; it is stored in "
    "every checkpoint and stated beside every map."
)
widgets.table(["What", "Published (DifferNet, AttentDifferNet)", "This reproduction"], choices(), stacked=True)
st.header("Sources", anchor=False)
st.markdown(
    "- e Silva et al., *Attention Modules Improve Image-Level Anomaly Detection for Industrial Inspection: A DifferNet "
    "Case Study*, WACV 2024, [arXiv 2311.02747](https://arxiv.org/abs/2311.02747)\n"
    "- Rudolph et al., *Same Same But DifferNet*, WACV 2021, [arXiv 2008.12577](https://arxiv.org/abs/2008.12577)\n"
    "- Hu et al., *Squeeze-and-Excitation Networks*, CVPR 2018; Woo et al., *CBAM*, ECCV 2018\n"
    "- Selvaraju et al., *Grad-CAM*, ICCV 2017; DeLong et al., *Biometrics* 44, 1988"
)
