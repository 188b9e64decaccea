// How photographs reach the page, beside being dropped.
() => {
// The chooser asks for pictures when it opens: a phone then offers its camera, and converts HEIC. Other files are refused
// by the page, with a sentence.
document.addEventListener('click', ({target}) => {
    if (!target.matches?.('input[type=file]')) return;
    if (target.closest('#upload')) target.accept = 'image/*';
    if (target.closest('#own-parts, #own-defects, #own-tests')) target.accept = 'image/*,.zip';
}, true);

// Gradio puts the button that adds files into another one: two stops of the tab key, of which the outer one did nothing.
// Now it is the only one.
const adding = 'button[aria-label="Add files"]';
new MutationObserver(() => {
    for (const inner of document.querySelectorAll(`${adding} button:not([inert])`)) inner.inert = true;
}).observe(document.body, {childList: true, subtree: true});
document.addEventListener('click', ({target}) => {
    if (!target.matches?.('input[type=file]')) target.closest?.(adding)?.querySelector('input[type=file]')?.click();
});

// Those of the clipboard go where the tab that is open takes photographs.
document.addEventListener('paste', event => {
    const files = [...event.clipboardData?.files ?? []].filter(file => file.type.startsWith('image/'));
    if (!files.length || event.target.closest('input, textarea, [contenteditable]')) return;
    const open = ['#upload', '#own-tests', '#own-parts'].find(id => document.querySelector(id)?.offsetParent);
    const input = document.querySelector(`${open} input[type=file]`);
    if (!input) return;
    event.preventDefault();
    const given = new DataTransfer();
    for (const file of files) given.items.add(file);
    input.files = given.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
});
}
