// What a visitor changes in the pictures without asking the server: opacity, a picture in full, a picture as a file.
// `element` is the HTML of the results; the controls lie beside it, may come later, and are found by their id.

const opacity = () => (document.querySelector('#opacity')?.value ?? 75) / 100;
document.addEventListener('input', event => {
    if (event.target.id === 'opacity') document.documentElement.style.setProperty('--heat-opacity', opacity());
});

// On a narrow page results lie below the fold: go there when they arrive.
const scrollToResults = () => innerWidth < 800 && document.querySelector('#status')?.scrollIntoView();
let shownName = '';
watch('value', () => {
    const name = element.querySelector('.cards')?.dataset.name ?? '';
    if (name !== shownName) setTimeout(scrollToResults, 200);
    shownName = name;
});

const visible = node => node && getComputedStyle(node).display !== 'none';

function strokes(context, path, width, height) {
    const drawn = new Path2D();
    drawn.addPath(new Path2D(path.getAttribute('d')), new DOMMatrix([width, 0, 0, height, 0, 0]));
    const style = getComputedStyle(path), thin = Math.max(1, Math.max(width, height) / 400);
    for (const [colour, thickness] of [['black', 3 * thin], [style.stroke, thin]]) {
        context.strokeStyle = colour;
        context.lineWidth = thickness;
        context.stroke(drawn);
    }
}

function save(picture) {
    const photo = picture.querySelector('.photo'), heat = picture.querySelector('.heat');
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [photo.naturalWidth, photo.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(photo, 0, 0);
    if (heat) {
        context.globalAlpha = opacity();
        context.drawImage(heat, 0, 0, canvas.width, canvas.height);
        context.globalAlpha = 1;
    }
    for (const path of picture.querySelectorAll('path.line')) {
        if (visible(path)) strokes(context, path, canvas.width, canvas.height);
    }
    canvas.toBlob(blob => {
        const link = document.createElement('a');
        link.href = URL.createObjectURL(blob);
        link.download = picture.dataset.file;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
}

// The tools of a picture are one stop of the tab key; left and right go from one tool to the other.
element.addEventListener('keydown', event => {
    const tool = event.target.closest('.tools button');
    const other = { ArrowLeft: tool?.previousElementSibling, ArrowRight: tool?.nextElementSibling }[event.key];
    if (!other) return;
    event.preventDefault();
    [tool.tabIndex, other.tabIndex] = [-1, 0];
    other.focus();
});

element.addEventListener('click', event => {
    const button = event.target.closest('button[data-do]'), picture = button?.closest('.picture');
    if (!picture) return;
    if (button.dataset.do === 'save') save(picture);
    else if (document.fullscreenElement) document.exitFullscreen();
    else picture.requestFullscreen();
});
