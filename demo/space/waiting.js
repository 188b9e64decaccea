// Gradio tells the place in its queue as `queue: 2/3`; here it is told in words, once it lasts.
// `element` is the HTML of a status line; its block holds Gradio's words as well, which the style sheet hides.
const block = element.closest('.block'), ahead = document.createElement('p');
ahead.className = 'ahead';
ahead.setAttribute('role', 'status');
block.append(ahead);
let since = 0;
new MutationObserver(() => {
    const place = Number(block.querySelector('.progress-text')?.textContent.match(/queue: (\d+)/)?.[1] ?? 0);
    since = place ? since || Date.now() : 0;
    const lasts = place && Date.now() - since > 400;
    const said = lasts ? `${place} visitor${place > 1 ? 's' : ''} ahead of you` : '';
    if (ahead.textContent !== said) ahead.textContent = said;
}).observe(block, {subtree: true, childList: true, characterData: true});
