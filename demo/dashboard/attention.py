"""Attention: what the blocks do to one image, and Grad-CAM at any layer and scale."""

import io
import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import streamlit as st

from attentdiffernet.figures.overlay import colour_bar, heat_picture, overlay, pixels
from attentdiffernet.figures.still import gate_still
from attentdiffernet.study.formats import energy_difference_text, energy_text, hit_difference_text, hit_text
from attentdiffernet.words import METHOD_TITLES, percent, variant_title
from demo import shipped
from demo.dashboard import address, widgets
from demo.markup import text
from demo.service import attention, catalogue

BLOCKS = {
    "attention1": "Block 1 (64 channels)",
    "attention2": "Block 2 (192 channels)",
    "attention3": "Block 3 (256 channels)",
}
SCALES = ("Full", "Half", "Quarter")
TARGETS = {"defect": "Defect", "object": "Object"}
KINDS = {"raw": "Raw", "excess": "Above held-out normals"}
MASK_HEADS = [
    *("Map", "Model", "Images"),
    *("Energy over chance (95 %)", "against DifferNet", "Maximum on it (95 %)", "Chance", "against DifferNet"),
]


# What is found about an image of ours is kept for all visitors; about one of a visitor's own, for their session.
def reading(image: widgets.ImageChosen, key: str, variant: str) -> attention.AttentionView:
    return (reading_of_own if image.own else reading_of_ours)(image.file, key, variant, image.name)


def cam(image: widgets.ImageChosen, key: str, variant: str, layer: str, scale: int) -> tuple[np.ndarray, np.ndarray]:
    return (cam_of_own if image.own else cam_of_ours)(image.file, key, variant, layer, scale, image.name)


@st.cache_data(max_entries=16, show_spinner=False)
def reading_of_ours(file: bytes, key: str, variant: str, name: str) -> attention.AttentionView:
    return attention.attention_view(io.BytesIO(file), key, variant, name)


@st.cache_data(max_entries=4, scope="session", show_spinner=False)
def reading_of_own(file: bytes, key: str, variant: str, name: str) -> attention.AttentionView:
    return attention.attention_view(io.BytesIO(file), key, variant, name)


@st.cache_data(max_entries=16, show_spinner=False)
def cam_of_ours(
    file: bytes, key: str, variant: str, layer: str, scale: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    return attention.grad_cam_view(io.BytesIO(file), key, variant, layer, scale, name)


@st.cache_data(max_entries=4, scope="session", show_spinner=False)
def cam_of_own(file: bytes, key: str, variant: str, layer: str, scale: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    return attention.grad_cam_view(io.BytesIO(file), key, variant, layer, scale, name)


@st.cache_data(max_entries=64, show_spinner=False)
def gates_of_ours(gates: dict[str, np.ndarray], highest: float, ink: str) -> str:
    return gate_still(gates, highest, ink=ink)


@st.cache_data(max_entries=4, scope="session", show_spinner=False)
def gates_of_own(gates: dict[str, np.ndarray], highest: float, ink: str) -> str:
    return gate_still(gates, highest, ink=ink)


@st.cache_data(max_entries=64, show_spinner=False)
def bar_picture(low: float, high: float, label: str, ink: str) -> np.ndarray:
    return pixels(colour_bar(low, high, label, ink=ink))


def bar(low: float, high: float, label: str) -> None:
    """A colour bar; very small numbers are shown in units of a power of ten."""
    if 0 < high < 0.01:
        power = math.floor(math.log10(high))
        low, high, label = low / 10.0**power, high / 10.0**power, f"{label}, × $10^{{{power}}}$"
    alt = f"Colour scale from {low:.3g} to {high:.3g}: {label}"
    st.image(bar_picture(low, high, label, widgets.ink()), width=360, alt=alt)


# -- the blocks


def blocks(view: attention.AttentionView, image: widgets.ImageChosen, scales: dict[str, str]) -> None:
    """Gates and activations of the block and scale chosen. scales: their titles."""
    if not view.readings:
        hint = "Choose SE or CBAM to see gates; Grad-CAM works for every variant."
        st.info(f"{view.note} {hint}", icon=":material/block:")
        return
    gate_range = (
        "They started at 1, which changes nothing, and lie between 0 and 2."
        if view.highest_gate > 1
        else "They lie between 0 and 1: all of them reduce what passes."
    )
    untrained = "untrained" in view.note
    (st.warning if untrained else st.info)(
        f"{view.note} {gate_range} Choices of this reproduction: {view.choices}.",
        icon=":material/casino:" if untrained else ":material/school:",
    )
    one, two = st.columns(2)
    with one:
        block = address.choice("Block", BLOCKS, "block", "attention3")
    with two:
        scale = int(address.choice("Scale", scales, "scale", segments=True))
    before_and_after(view, block, scale, image.name)
    st.header("Channel gates", anchor=False)
    channel_gates(view, block, scales, image.own)


def before_and_after(view: attention.AttentionView, block: str, scale: int, name: str) -> None:
    found = view.readings[block, scale]
    top = float(max(found.before.max(), found.after.max()))
    where = f"{BLOCKS[block]}, {SCALES[scale].lower()} scale, {name}"
    pictures = [
        (view.image, "Image", f"The image {name}"),
        (heat_picture(found.before, 0, top), "Before the block", f"Mean activation before {where}"),
        (heat_picture(found.after, 0, top), "After the block", f"Mean activation after {where}"),
    ]
    if found.spatial_gate is not None:
        pictures += spatial_gate(view, found.spatial_gate, where)
    with st.container(key="pairs-blocks"):
        columns = st.columns(max(4, len(pictures)))
    for column, (picture, caption, alt) in zip(columns, pictures, strict=False):
        column.image(picture, caption=caption, width="stretch", alt=alt)
    with st.container(horizontal=True):
        bar(0, top, "mean activation over channels")
        if found.spatial_gate is not None:
            unchanged = "; 1: unchanged" if view.highest_gate > 1 else ""
            bar(0, view.highest_gate, f"spatial gate: factor at each place{unchanged}")


def spatial_gate(view: attention.AttentionView, gate: np.ndarray, where: str) -> list[tuple[np.ndarray, str, str]]:
    """(picture, caption, alternative text) of the gate alone and over the image."""
    low, high = float(gate.min()), float(gate.max())
    caption = f"Spatial gate, {low:.2f} to {high:.2f}"
    return [
        (heat_picture(gate, 0, view.highest_gate), caption, f"{caption}, {where}"),
        (
            overlay(view.image, gate, low, high),
            f"Over the image, no colour at {low:.2f}",
            f"The spatial gate over the image, {where}",
        ),
    ]


def channel_gates(view: attention.AttentionView, block: str, scales: dict[str, str], own: bool) -> None:
    gates = {
        scales[str(scale)]: found.channel_gates
        for (which, scale), found in view.readings.items()
        if which == block and found.channel_gates is not None
    }
    alt = f"Channel gates of {BLOCKS[block]} at {len(gates)} scales, sorted by the first"
    draw = gates_of_own if own else gates_of_ours
    widgets.still(draw(gates, view.highest_gate, widgets.ink()), alt)
    rows = [
        [BLOCKS[name], scales[str(scale)], f"{low:.3f}", f"{median:.3f}", f"{high:.3f}"]
        for name, scale, _, low, median, high in view.summary
    ]
    with widgets.on_demand("All blocks and scales in numbers") as is_open:
        if is_open:
            widgets.table(["Block", "Scale", "Lowest gate", "Median", "Highest gate"], rows)


# -- Grad-CAM


def grad_cam(image: widgets.ImageChosen, key: str, variant: str, scales: dict[str, str]) -> None:
    st.markdown(
        "Places whose activations at this layer raise the anomaly score through this scale, while the other scales are "
        "held constant. The values are raw and each map has its own scale: do not compare the values of two maps."
    )
    one, two = st.columns(2)
    with one:
        layers = {layer: BLOCKS.get(layer, "Last features") for layer in attention.layers(key, variant)}
        layer = address.choice("Layer", layers, "layer")
    with two:
        through = int(address.choice("Through the scale", scales, "through", segments=True))
    picture, heat = cam(image, key, variant, layer, through)
    top = float(heat.max())
    left, middle, _ = st.columns(3)
    left.image(picture, caption="Image", width="stretch", alt=f"The image {image.name}")
    caption, alt = f"Grad-CAM, {variant_title(variant)}", f"Grad-CAM at {layers[layer]}, {image.name}"
    middle.image(overlay(picture, heat, 0, top), caption=caption, width="stretch", alt=alt)
    if top > 0:
        bar(0, top, "Grad-CAM, raw")
    else:
        st.caption("Nothing at this layer raises the score of this image: the map is zero everywhere.")


# -- maps against masks


def maps_against_masks(key: str) -> None:
    found = shipped.maps_of(key)
    if found.empty:
        command = f"attentdiffernet localise MODEL DATA/{key} --results results"
        widgets.empty("Not measured for this category.", f"Its test images need masks of their defects: `{command}`.")
        return
    one, two = st.columns(2)
    with one:
        targets = {target: title for target, title in TARGETS.items() if target in set(found["target"])}
        target = address.choice("On the", targets, "target", segments=True)
    with two:
        kind = address.choice("Map", KINDS, "map", segments=True)
    found = found[(found["target"] == target) & (found["map"] == kind)]
    widgets.table(MASK_HEADS, [mask_row(row) for row in found.to_dict("records")])
    st.caption(
        "Energy: the share of the map's sum that lies on the mask, divided by the share of the image that the mask "
        "covers; 1 is chance. This is easy to beat: parts lie in the middle of their pictures, so a map that always "
        "looks there beats it. Intervals and p values are over images. An all-zero map counts as chance."
    )


def mask_row(row: Mapping[Hashable, Any]) -> list[str]:
    images = f"{row['n_images']}" + (f", {row['n_empty']} maps all zero" if row["n_empty"] else "")
    model = widgets.variant_name(row["variant"]) + text(f", {row['backbone']}, seed {row['seed']}")
    energy, hit, chance = energy_text(row), hit_text(row), f"{percent(row['chance'])} %"
    cells = [energy, energy_difference_text(row), hit, chance, hit_difference_text(row)]
    return [METHOD_TITLES[row["method"]], model, images, *map(text, cells)]


# -- the page


widgets.head(
    "What do the attention blocks do?",
    "A gate is a factor: 0 stops a channel or a place, 1 leaves it unchanged, and trained gates may go up to 2. Shown "
    "for the unrotated image, at the scales that the backbone sees.",
)
usable = widgets.usable_categories()
one, two = st.columns(2)
with one:
    key = address.category(list(usable))
titles = {variant: variant_title(variant) for variant in catalogue.differnets(key)}
if not titles:
    why = f"They need {catalogue.WHY_NOT}." if catalogue.detectors_left_out(key) else widgets.HOW_TO_TRAIN
    widgets.empty("No variant of DifferNet can be used here.", why)
    st.stop()
with two:
    variant = address.choice("Variant", titles, "variant", "cbam" if "cbam" in titles else None, segments=True)
image = widgets.image_of(key)
if image is None:
    st.stop()
view = reading(image, key, variant)
scales = {str(k): f"{SCALES[k]}, {size} px" for k, size in enumerate(view.scale_sizes)}
blocks(view, image, scales)
opened = not view.readings or address.asked_for("layer", "through")
with widgets.on_demand("Grad-CAM at any layer and scale", opened) as is_open:
    if is_open:
        grad_cam(image, key, variant, scales)
with widgets.on_demand("Do the maps look at the defect?", address.asked_for("target", "map")) as is_open:
    if is_open:
        maps_against_masks(key)
