// Photographs from the clipboard go where the tab that is open takes photographs.
() => document.addEventListener('paste', event => {
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
})
