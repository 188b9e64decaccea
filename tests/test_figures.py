"""What figures show, read back from the figures themselves."""

import json
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from attentdiffernet.figures.curves import Curve
from attentdiffernet.figures.overlay import (
    colour_bar,
    heat_layer,
    new_figure,
    outline,
    overlay,
    pixels,
    with_outline,
    with_ring,
)
from attentdiffernet.figures.palette import INK, VARIANT_COLOURS, VARIANT_DASHES
from attentdiffernet.figures.print import (
    FORMATS,
    GridRow,
    draw_histogram,
    figure_file,
    qualitative_grid,
    roc_paper_figure,
)
from attentdiffernet.figures.screen import percentile_svg, roc_figure, scatter_figure
from attentdiffernet.figures.still import gate_still, histogram_still, roc_still
from attentdiffernet.figures.ticks import score_ticks
from attentdiffernet.study.statistics import auroc_interval, operating_point, roc_curve
from attentdiffernet.words import score_text

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1], [40, 30])
SCORES = RNG.gamma(3, 0.3, size=70) * (1 + LABELS)
CURVES = [
    Curve("DifferNet", "none", LABELS, SCORES, threshold=1.5),
    Curve("AttentDifferNet <SE>", "se", LABELS, SCORES + 0.5 * LABELS),
    Curve("Gaussian", "gaussian", LABELS, SCORES * RNG.uniform(0.5, 2, 70)),
]
IMAGE = RNG.integers(0, 256, (30, 50, 3), dtype=np.uint8)
SVG = "{http://www.w3.org/2000/svg}"


# -- Plotly


def test_roc_figure_shows_the_curve_the_interval_and_the_threshold():
    figure = roc_figure(CURVES)
    chance, curve, marker, second, third = figure.data
    assert (list(chance.x), list(chance.y)) == ([0, 1], [0, 1])
    roc = roc_curve(LABELS, SCORES, drop_intermediate=True)
    assert (curve.x == roc.fpr).all() and (curve.y == roc.tpr).all()
    interval = auroc_interval(LABELS, SCORES)
    shown = [float(number) for number in re.findall(r"\d+\.\d", curve.name)]
    assert shown == pytest.approx([100 * interval.auroc, 100 * interval.low, 100 * interval.high], abs=0.05)
    point = operating_point(LABELS, SCORES, 1.5)
    assert (marker.x[0], marker.y[0]) == (point.fpr, point.tpr)
    assert [trace.line.color for trace in (curve, second)] == [VARIANT_COLOURS["none"], VARIANT_COLOURS["se"]]
    assert third.line.color == INK and second.name.startswith("AttentDifferNet &lt;SE&gt;<br>")
    assert figure.layout.xaxis.tickformat == ".0%"


def test_a_scatter_names_its_points_and_refuses_what_has_no_logarithm():
    names = [f"{k}.png" for k in range(70)]
    figure = scatter_figure((SCORES, 2 * SCORES), LABELS, names, ("DifferNet", "SE"), mark="50.png")
    normal, anomalous, *lines = figure.data
    assert [list(one.x) for one in (normal, anomalous)] == [list(SCORES[:40]), list(SCORES[40:])]
    assert [point[0] for point in anomalous.customdata] == names[40:] and max(normal.marker.size) == 9
    assert anomalous.marker.size[10] == max(anomalous.marker.size) > 9, "the image to point out"
    assert [list(lines[0].x), list(lines[1].y)] == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="positive"):
        scatter_figure((SCORES, 0 * SCORES), LABELS, names, ("DifferNet", "SE"))


def test_runs_of_one_variant_differ_by_a_dash_per_style_in_print_too():
    pairs = [(variant, style) for variant in ("none", "se") for style in ("imagenet", "bundled", "random")]
    curves = [Curve(f"{variant} {style}", variant, LABELS, SCORES, style=style) for variant, style in pairs]
    lines = [trace.line for trace in roc_figure(curves).data[1:]]
    assert [line.color for line in lines] == [VARIANT_COLOURS[variant] for variant, _ in pairs]
    assert [line.dash for line in lines] == ["solid", "dash", "dot"] * 2
    _, *printed = roc_paper_figure(curves).axes[0].get_lines()
    assert len({(line.get_color(), str(line._dash_pattern)) for line in printed}) == 6
    one = [Curve(variant, variant, LABELS, SCORES, style="imagenet") for variant in VARIANT_DASHES]
    assert [trace.line.dash for trace in roc_figure(one).data[1:]] == list(VARIANT_DASHES.values())


def test_a_long_title_is_broken_in_the_legend():
    (curve,) = roc_figure(
        [Curve("AttentDifferNet (CBAM), attention untrained, bundled, seed 0", "cbam", LABELS, SCORES)]
    ).data[1:]
    assert max(len(line) for line in curve.name.split("<br>")) <= 34


def test_roc_band_is_drawn_around_the_curve():
    band = roc_figure(CURVES[:1], band=True).data[1]
    half = len(band.x) // 2
    assert (band.y[:half] <= band.y[half:][::-1]).all() and band.fill == "toself"


def test_screen_figures_are_json_with_transparent_ground_and_no_remote_font():
    names = [str(k) for k in range(70)]
    for figure in (roc_figure(CURVES, band=True), scatter_figure((SCORES, SCORES), LABELS, names, ("a", "b"))):
        layout = json.loads(figure.to_json())["layout"]
        assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
        assert layout["font"]["family"] == "system-ui, sans-serif" and "http" not in json.dumps(layout)
        assert "sendChartToCloud" in layout["modebar"]["remove"]


# -- figures that need no pointer


def histogram_axes(normal, anomalous, threshold=None):
    axes = new_figure(4, 2, 50).add_subplot()
    draw_histogram(axes, np.asarray(normal), np.asarray(anomalous), threshold)
    return axes


@pytest.mark.parametrize("spread", [1, 1000])
def test_histogram_counts_every_image_once(spread):
    axes = histogram_axes(SCORES[:40], SCORES[40:] * spread, 1.5)
    assert [bars.get_data().values.sum() for bars in axes.patches] == [40, 30]
    assert axes.get_xscale() == "log" and list(axes.get_lines()[0].get_xdata()) == [1.5, 1.5]


def test_histogram_of_equal_scores_and_of_those_without_a_logarithm():
    axes = histogram_axes([1.0, 1.0], [1.0])
    assert [bars.get_data().values.sum() for bars in axes.patches] == [2, 1] and not axes.get_lines()
    assert histogram_axes([-1.0, 1.0], [2.0]).get_xscale() == "linear"
    for score in (-2.0, 0.0, 3.0):
        assert "svg" in histogram_still(np.array([score]), np.array([score, score]), score)


def test_a_threshold_beyond_all_scores_is_in_sight():
    for threshold in (0.01, 500.0):
        low, high = histogram_axes([0.5, 1.0], [2.0], threshold).get_xlim()
        assert low < threshold < high


def test_the_curves_for_print_have_the_logarithmic_axis_of_the_screen():
    screen, (axes,) = roc_figure(CURVES, log_fpr=True), roc_paper_figure(CURVES, band=True, log_fpr=True).axes
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == list(screen.layout.xaxis.tickvals)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(screen.layout.xaxis.ticktext)
    assert min(line.get_xdata().min() for line in axes.get_lines()) == pytest.approx(0.5 / 40), "0 at the left edge"


@pytest.mark.parametrize("ink", ["#b9c3cf", "#4b5768"])
def test_a_still_is_svg_in_the_ink_of_the_page_the_same_each_time(ink):
    def drawn():
        return [
            roc_still(CURVES, band=True, ink=ink),
            histogram_still(SCORES[:40], SCORES[40:], 1.5, ink=ink),
            gate_still({"Full": [0.2, 0.9], "Half": [0.3, 1.8]}, 2.0, ink=ink),
        ]

    for still, again in zip(drawn(), drawn(), strict=True):
        assert ET.fromstring(still).tag == f"{SVG}svg" and still == again
        assert ink in still and "<text" not in still and "fill: #ffffff" not in still


def test_gates_that_may_raise_have_a_line_where_they_change_nothing():
    plain, trained = gate_still({"Full": [0.2, 0.9]}), gate_still({"Full": [0.2, 0.9]}, 2.0)
    assert (plain.count("stroke-dasharray"), trained.count("stroke-dasharray")) == (0, 2), "the line, and its legend"


# -- the small SVG


def drawn(scores, score, threshold):
    root = ET.fromstring(percentile_svg(scores, score, threshold))
    _, bars, line, marker = (path.get("d") for path in root.iter(f"{SVG}path"))
    start = [float(path[1:].split()[0]) for path in (line, marker)]
    return root, bars, *start


@pytest.mark.parametrize("score", [-50.0, 0.0, 0.3, 1.0, 1.5, 2.0, 900.0])
def test_percentile_svg_is_accessible_xml_within_its_frame(score):
    root, bars, threshold_x, score_x = drawn(SCORES[:40], score, 1.5)
    assert root.get("role") == "img" and root.get("viewBox") == "0 0 220 56"
    title, description = root[0], root[1]
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert ("not above" in title.text) == (score <= 1.5)
    xs = [float(x) for x in re.findall(r"[MH](-?[\d.]+)", bars)]
    assert min(xs) >= 0 and max(xs) <= 220 and 0 <= threshold_x <= 220 and 0 <= score_x <= 220
    assert (score_x > threshold_x) == (score > 1.5)
    assert ("beyond the edge" in description.text) == (score in (-50, 900))
    colours = {element.get(key) for element in root.iter() for key in ("fill", "stroke")} - {None}
    assert colours == {"none", "currentColor"}


def test_percentile_svg_places_scores_in_proportion():
    # 0, 1, ..., 10 and a threshold of 10: a score at the threshold lies on its line, one halfway at half way.
    _, bars, threshold_x, score_x = drawn(np.arange(11.0), 5.0, 10.0)
    left = float(re.match(r"M([\d.]+)", bars)[1])
    assert score_x == pytest.approx((left + threshold_x) / 2, abs=0.2)
    _, _, threshold_x, score_x = drawn(np.arange(11.0), 10.0, 10.0)
    assert score_x == threshold_x


@pytest.mark.parametrize("scores", [[2.0], [0.0, 0.0], [3.0, 3.0, 3.0]])
def test_percentile_svg_of_equal_scores(scores):
    drawn(scores, scores[0], scores[0])


@pytest.mark.parametrize(("score", "threshold"), [(np.nan, 1), (np.inf, 1), (1, np.nan)])
def test_percentile_svg_refuses_what_has_no_place(score, threshold):
    with pytest.raises(ValueError, match=r"nan|finite"):
        percentile_svg([1, 2, 3], score, threshold)


# -- overlays


def test_overlay_leaves_pixels_at_or_below_vmin_as_they_are():
    heat = np.zeros((3, 5))
    heat[:, 4] = 1.0
    out = overlay(IMAGE, heat, 0.0, 1.0)
    assert out.shape == IMAGE.shape and out.dtype == np.uint8
    assert (out[:, :35] == IMAGE[:, :35]).all()  # bilinear: heat starts at the centre of the fourth column
    assert (out[:, 46:] != IMAGE[:, 46:]).any()
    assert (overlay(IMAGE, heat, 1.0, 2.0) == IMAGE).all()
    assert (overlay(IMAGE, np.full((3, 5), -7.0), 0.0, 1.0) == IMAGE).all()
    assert (overlay(IMAGE, np.zeros((3, 5)), 0.0, 0.0) == IMAGE).all()  # a map of zeros on its own scale


def test_overlay_at_vmax_is_the_top_colour_at_full_opacity():
    from matplotlib import colormaps

    top = 255 * np.array(colormaps["inferno"](1.0)[:3])
    expected = np.round(0.25 * IMAGE + 0.75 * top).astype(np.uint8)
    assert (overlay(IMAGE, np.full((2, 2), 3.0), 0.0, 3.0) == expected).all()
    assert (overlay(IMAGE, np.full((2, 2), 9.0), 0.0, 3.0) == expected).all()


def test_a_layer_laid_on_the_photograph_is_the_overlay():
    heat = np.linspace(0, 1, 12).reshape(3, 4)
    height, width = IMAGE.shape[:2]
    layer = heat_layer(heat, 0.2, 0.9, width, height).astype(float)
    alpha = 0.75 * layer[..., 3:] / 255
    np.testing.assert_allclose(IMAGE * (1 - alpha) + layer[..., :3] * alpha, overlay(IMAGE, heat, 0.2, 0.9), atol=1.5)


def test_an_outline_runs_where_the_level_is_crossed():
    values = np.zeros((40, 80))
    values[10:20, 40:60] = 1
    (line,) = outline(values, 0.5)
    np.testing.assert_allclose(line.min(axis=0), [40 / 80, 10 / 40], atol=0.5 / 40)
    np.testing.assert_allclose(line.max(axis=0), [60 / 80, 20 / 40], atol=0.5 / 40)
    assert outline(values, 2.0) == [] and outline(np.eye(1), 0.5) == []
    black = np.zeros((400, 800, 3), np.uint8)
    drawn = with_outline(black, [line])
    y, x = np.nonzero(drawn.any(axis=2))
    assert (black == 0).all() and abs(x.min() - 400) < 10 and abs(y.max() - 200) < 10
    y, x = np.nonzero(with_ring(black, 0.75, 0.25).any(axis=2))
    assert abs(x.mean() - 600) < 2 and abs(y.mean() - 100) < 2 and abs(np.ptp(x) - np.ptp(y)) < 2 < np.ptp(x) < 50


def test_overlay_departs_more_from_a_black_image_the_hotter_it_is():
    black = np.zeros((4, 64, 3), dtype=np.uint8)
    brightness = overlay(black, np.linspace(0, 1, 64)[None], 0, 1).sum(axis=(0, 2)).astype(int)
    assert (np.diff(brightness) >= 0).all() and brightness[-1] > brightness[32] > brightness[0] == 0


@pytest.mark.parametrize(
    ("image", "heat", "vmin", "vmax", "message"),
    [
        (IMAGE / 255, np.zeros((2, 2)), 0, 1, "uint8, got .30, 50, 3. float64"),
        (IMAGE[..., 0], np.zeros((2, 2)), 0, 1, "got .30, 50. uint8"),
        (IMAGE, np.zeros(4), 0, 1, "heatmap must be .h, w."),
        (IMAGE, np.full((2, 2), np.nan), 0, 1, "finite"),
        (IMAGE, np.zeros((2, 2)), 1, 0, "vmin must not exceed vmax, got 1 and 0"),
        (IMAGE, np.zeros((2, 2)), 0, np.nan, "vmin must not exceed"),
    ],
)
def test_overlay_refuses_in_words(image, heat, vmin, vmax, message):
    with pytest.raises(ValueError, match=message):
        overlay(image, heat, vmin, vmax)


# -- Matplotlib


def test_paper_figure_holds_the_same_curves(tmp_path):
    figure = roc_paper_figure(CURVES, band=True)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    roc = roc_curve(LABELS, SCORES)
    assert (lines[CURVES[0].legend].get_ydata() == roc.tpr).all()
    assert len({str(line.get_linestyle()) + line.get_label()[:9] for line in axes.get_lines()}) >= 4
    for suffix in ("pdf", "svg", "png"):
        figure.savefig(tmp_path / f"roc.{suffix}")
        assert (tmp_path / f"roc.{suffix}").stat().st_size > 1000


def test_qualitative_grid_has_one_scale_for_all_maps():
    maps = [np.array([[0.0, 1.0]]), np.array([[0.0, 4.0]])]
    captions = ["0.8 × threshold", "3 × threshold"]
    rows = [GridRow("crack", IMAGE, maps, captions), GridRow("good", IMAGE.swapaxes(0, 1), maps)]
    figure = qualitative_grid(rows, ["DifferNet", "SE"])
    *cells, bar = figure.axes
    assert len(cells) == 6 and bar.get_xlim() == (0, 4)
    shown = [cell.get_images()[0].get_array() for cell in cells[:3]]
    assert (shown[0] == IMAGE).all()
    assert (shown[1] == overlay(IMAGE, maps[0], 0, 4)).all() and (shown[2] == overlay(IMAGE, maps[1], 0, 4)).all()
    assert [cell.get_xlabel() for cell in cells] == ["", *captions, "", "", ""]
    assert [cell.get_title() for cell in cells[:3]] == ["Image", "DifferNet", "SE"]
    assert pixels(figure).std() > 0
    assert pixels(qualitative_grid([GridRow(r"a $\frac$ b", IMAGE, [])], [])).std() > 0, "no formula"
    with pytest.raises(ValueError, match="'crack' needs 1 heatmaps"):
        qualitative_grid(rows, ["DifferNet"])
    with pytest.raises(ValueError, match="one row or more"):
        qualitative_grid([], [])


def test_colour_bar_is_transparent_and_spans_the_scale():
    figure = colour_bar(0.0, 0.8, "heat")
    assert figure.axes[0].get_xlim() == (0, 0.8)
    image = pixels(figure)
    assert image.shape == (90, 540, 4) and image[0, 0, 3] == 0
    pixels(colour_bar(0.0, 0.0, "nothing to show"))


def test_no_figure_is_registered_globally():
    roc_paper_figure(CURVES)
    colour_bar(0, 1, "heat")
    pyplot = sys.modules.get("matplotlib.pyplot")  # pytorch-grad-cam loads it
    assert pyplot is None or not pyplot.get_fignums()


def test_ink_can_be_read_on_light_and_on_dark_pages():
    channel = int(INK[1:3], 16) / 255
    luminance = ((channel + 0.055) / 1.055) ** 2.4  # WCAG 2, of a grey
    assert 1.05 / (luminance + 0.05) >= 4.5 and (luminance + 0.05) / 0.05 >= 4.5


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (2.41124, "2.411"),
        (0.000123456, "0.0001235"),
        (999.96, "1,000"),
        (652_103, "652,100"),
        (999_999, "10⁶"),
        (2.04e6, "2.04 × 10⁶"),
        (-3e9, "-3 × 10⁹"),
        (1.2e-5, "1.2 × 10⁻⁵"),
        (0, "0"),
        (float("inf"), "∞"),
    ],
)
def test_a_score_is_readable_at_any_size(score, said):
    assert score_text(score) == said


def test_ticks_of_scores_over_many_powers_of_ten_do_not_run_into_each_other():
    ticks = dict(zip(*score_ticks(0.5, 1e10), strict=True))
    assert 4 <= len(ticks) <= 7 and ticks[1e7] == "10⁷"
    assert set(score_ticks(0.9, 30)[1]) >= {"1", "2", "5", "10", "20"}


def test_a_figure_for_paper_is_a_file_whose_text_stays_text():
    figure = roc_paper_figure(CURVES)
    files = {suffix: figure_file(figure, suffix, dpi=50) for suffix in FORMATS}
    assert files["pdf"].startswith(b"%PDF") and files["png"].startswith(b"\x89PNG")
    assert b"False-positive rate</text>" in files["svg"]
    with pytest.raises(ValueError, match="must be one of pdf, svg, png, got 'gif'"):
        figure_file(figure, "gif")
