"""Attention: what the blocks do to one image, and Grad-CAM at any layer and scale."""

import io
import math

import numpy as np
import streamlit as st

from attentdiffernet.figures.overlay import colour_bar, heat_picture, overlay, pixels
from attentdiffernet.figures.screen import gate_figure
from attentdiffernet.study.formats import energy_difference_text, energy_text, hit_difference_text, hit_text
from attentdiffernet.words import METHOD_TITLES, variant_title
from demo import shipped
from demo.dashboard import parts
from demo.service import attention, catalogue

BLOCKS = {
    "attention1": "Block 1 (64 channels)",
    "attention2": "Block 2 (192 channels)",
    "attention3": "Block 3 (256 channels)",
}
SCALES = ("Full", "Half", "Quarter")
RANGE = {
    True: "They started at 1, where nothing is changed, and lie between 0 and 2.",
    False: "They lie between 0 and 1: all of them lower what passes.",
}


@st.cache_data(max_entries=4, scope="session", show_spinner=False)  # of a visitor's own images, too
def reading(file: bytes, key: str, variant: str, name: str) -> attention.AttentionView:
    return attention.attention_view(io.BytesIO(file), key, variant, name)


@st.cache_data(max_entries=4, scope="session", show_spinner=False)  # of a visitor's own images, too
def cam(file: bytes, key: str, variant: str, layer: str, scale: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    return attention.grad_cam_view(io.BytesIO(file), key, variant, layer, scale, name)


def bar(low: float, high: float, label: str) -> None:
    if 0 < high < 0.01:  # a scale without 1e-8 at its corner
        power = math.floor(math.log10(high))
        low, high, label = low / 10.0**power, high / 10.0**power, f"{label}, × $10^{{{power}}}$"
    said = f"Colour scale from {low:.3g} to {high:.3g}: {label}"
    st.image(pixels(colour_bar(low, high, label, ink=parts.ink())), width=360, alt=said)


def before_and_after(view: attention.AttentionView, block: str, scale: int, name: str) -> None:
    found = view.readings[block, scale]
    top = float(max(found.before.max(), found.after.max()))
    what = f"{BLOCKS[block]}, {SCALES[scale].lower()} scale, {name}"
    pictures = [
        (view.image, "Image", f"The image {name}"),
        (heat_picture(found.before, 0, top), "Before the block", f"Mean activation before {what}"),
        (heat_picture(found.after, 0, top), "After the block", f"Mean activation after {what}"),
    ]
    if found.spatial_gate is not None:
        gate = found.spatial_gate
        low, high = float(gate.min()), float(gate.max())
        caption = f"Spatial gate, {low:.2f} to {high:.2f}"
        pictures.append((heat_picture(gate, 0, view.highest_gate), caption, f"{caption}, {what}"))
        laid = f"Over the image, clear at {low:.2f}"
        pictures.append((overlay(view.image, gate, low, high), laid, f"The spatial gate over the image, {what}"))
    with st.container(key="pairs-blocks"):
        columns = st.columns(max(4, len(pictures)))
    for column, (picture, caption, alt) in zip(columns, pictures, strict=False):
        column.image(picture, caption=caption, width="stretch", alt=alt)
    with st.container(horizontal=True):
        bar(0, top, "mean activation over channels")
        if found.spatial_gate is not None:
            unchanged = "; 1: unchanged" if view.highest_gate > 1 else ""
            bar(0, view.highest_gate, f"spatial gate: what each place is multiplied by{unchanged}")


def channel_gates(view: attention.AttentionView, block: str, titles: dict[str, str]) -> None:
    gates = {
        titles[str(scale)]: found.channel_gates
        for (which, scale), found in view.readings.items()
        if which == block and found.channel_gates is not None
    }
    figure = gate_figure(gates, view.highest_gate, ink=parts.ink())
    parts.chart(figure, f"Channel gates of {BLOCKS[block]} at {len(gates)} scales, sorted by the first", "gates")
    rows = [
        [BLOCKS[name], titles[str(scale)], f"{low:.3f}", f"{median:.3f}", f"{high:.3f}"]
        for name, scale, _, low, median, high in view.summary
    ]
    with st.expander("All blocks and scales in numbers"):
        parts.table(["Block", "Scale", "Lowest gate", "Median", "Highest gate"], rows)


def where_maps_lie(key: str) -> None:
    found = shipped.maps_of(key)
    if found.empty:
        command = f"attentdiffernet localise MODEL DATA/{key} --results results"
        parts.empty("Not measured for this category.", f"Its test images need masks of their defects: `{command}`.")
        return
    one, two = st.columns(2)
    with one:
        titles = {"defect": "Defect", "object": "Object"}
        targets = {t: title for t, title in titles.items() if t in set(found["target"])}
        target = parts.choice("On the", targets, "target", segments=True)
    with two:
        kinds = {"raw": "Raw", "excess": "Above held-out normals"}
        kind = parts.choice("Map", kinds, "map", segments=True)
    found = found[(found["target"] == target) & (found["map"] == kind)]
    rows = []
    for row in found.to_dict("records"):
        images = f"{row['n_images']}" + (f", {row['n_empty']} maps all zero" if row["n_empty"] else "")
        name = parts.variant_name(row["variant"]) + parts.text(f", {row['backbone']}, seed {row['seed']}")
        cells = [
            energy_text(row),
            energy_difference_text(row),
            hit_text(row),
            f"{100 * row['chance']:.1f} %",
            hit_difference_text(row),
        ]
        rows.append([METHOD_TITLES[row["method"]], name, images, *map(parts.text, cells)])
    against = "against DifferNet"
    heads = ["Map", "Model", "Images", "Energy over chance (95 %)", against, "Maximum on it (95 %)", "Chance", against]
    parts.table(heads, rows)
    st.caption(
        "Energy: share of the map's sum that lies on the mask, over the share of the image that the mask covers; 1 is "
        "chance. A low bar: parts lie in the middle of their pictures, and a map that always looks there beats it. "
        "Intervals and p values over images. An all-zero map counts as chance."
    )


parts.head(
    "What do the attention blocks do?",
    "Gates multiply what passes: 0 stops a channel or a place, 1 leaves it as it is, and trained gates may go on to 2, "
    "which doubles it. Shown for the unrotated image, at the scales that the backbone sees.",
)
ready = parts.usable_categories()
one, two = st.columns(2)
with one:
    key = parts.category(list(ready))
with two:
    variants = {v: variant_title(v) for v in catalogue.detectors(key)}
    variant = parts.choice("Variant", variants, "variant", "cbam" if "cbam" in variants else None, segments=True)
image = parts.image_of(key)
if image is None:
    st.stop()
name, file = image
view = reading(file, key, variant, name)
titles = {str(k): f"{SCALES[k]}, {size} px" for k, size in enumerate(view.scale_sizes)}

if view.readings:
    untrained = "untrained" in view.note
    (st.warning if untrained else st.info)(
        f"{view.note} {RANGE[view.highest_gate > 1]} Choices of this reproduction: {view.choices}.",
        icon=":material/casino:" if untrained else ":material/school:",
    )
    one, two = st.columns(2)
    with one:
        block = parts.choice("Block", BLOCKS, "block", "attention3")
    with two:
        scale = int(parts.choice("Scale", titles, "scale", segments=True))
    before_and_after(view, block, scale, name)
    st.subheader("Channel gates", anchor=False)
    channel_gates(view, block, titles)
else:
    st.info(f"{view.note} Choose SE or CBAM to see gates; Grad-CAM works for every variant.", icon=":material/block:")

st.subheader("Grad-CAM", anchor=False)
st.markdown(
    "Places whose activations at this layer raise the anomaly score through this scale, the other scales held "
    "constant. Raw values on a scale of their own: heights of two layers or variants cannot be compared."
)
one, two = st.columns(2)
with one:
    layers = {layer: BLOCKS.get(layer, "Last features") for layer in attention.layers(key, variant)}
    layer = parts.choice("Layer", layers, "layer")
with two:
    through = int(parts.choice("Through the scale", titles, "through", segments=True))
picture, heat = cam(file, key, variant, layer, through, name)
top = float(heat.max())
left, middle, _ = st.columns(3)
left.image(picture, caption="Image", width="stretch", alt=f"The image {name}")
shown = overlay(picture, heat, 0, top)
middle.image(
    shown, caption=f"Grad-CAM, {variants[variant]}", width="stretch", alt=f"Grad-CAM at {layers[layer]}, {name}"
)
if top > 0:
    bar(0, top, "Grad-CAM, raw")
else:
    st.caption("Nothing at this layer raises the score of this image: the map is zero everywhere.")

st.subheader("Do the maps look at the defect?", anchor=False)
where_maps_lie(key)
