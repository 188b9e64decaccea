// Sorts, filters and walks through a table of verdicts. The server sends the table anew after each answer; what the
// visitor chose stays, and so does the place of the keyboard.

let sort = {key: 'score', number: true, down: true}, filter = 'all', looked = null, open = null, focused = false;

const rows = () => [...element.querySelectorAll('tbody tr')];
const shown = () => rows().filter(row => !row.hidden);

function order(a, b) {
    const of = row => row.getAttribute(`data-${sort.key}`) ?? '';  // dataset knows no key with a hyphen
    const [x, y] = [of(a), of(b)];
    if (!x || !y) return !x - !y;  // what has no value stands last
    return (sort.down ? -1 : 1) * (sort.number ? x - y : x.localeCompare(y, undefined, {numeric: true}));
}

// Only one row is reached by Tab; the arrow keys go on from there.
function look(row) {
    looked = row?.dataset.k;
    for (const one of rows()) {
        const here = one === row;
        if (here) one.setAttribute('aria-current', 'true');
        else one.removeAttribute('aria-current');
        for (const button of one.querySelectorAll('button')) button.tabIndex = here ? 0 : -1;
    }
    const figure = element.querySelector('.looked-at');
    if (!figure) return;
    figure.hidden = !row;
    if (!row) return;
    const [large, small] = [figure.querySelector('img'), row.querySelector('img')];
    [large.src, large.alt] = [small.src, small.alt];
    figure.querySelector('figcaption').textContent = row.dataset.name;
}

function apply() {
    const body = element.querySelector('tbody');
    if (!body) return;
    watcher.disconnect();
    element.querySelector('[data-filter]').value = filter;
    body.append(...rows().sort(order));
    for (const row of rows()) row.hidden = filter !== 'all' && !row.dataset.kinds.split(' ').includes(filter);
    for (const head of element.querySelectorAll('[data-sort]')) {
        const here = head.dataset.sort === sort.key;
        if (here) head.closest('th').ariaSort = sort.down ? 'descending' : 'ascending';
        else head.closest('th').removeAttribute('aria-sort');
    }
    element.querySelector('[data-count]').textContent = `${shown().length} of ${rows().length}`;
    const opened = element.querySelector('[data-open]')?.dataset.k;
    if (opened !== open) looked = open = opened;
    look(shown().find(row => row.dataset.k === looked) ?? shown()[0]);
    const lost = focused && document.activeElement === document.body;
    if (lost) element.querySelector('[aria-current] [data-look]')?.focus({preventScroll: true});
    watcher.observe(element, {childList: true, subtree: true});
}

const watcher = new MutationObserver(apply);
watcher.observe(element, {childList: true, subtree: true});

// A row that the server has replaced took the focus with it; one that the visitor left did not.
element.addEventListener('focusin', event => focused = event.target.matches('[data-look]'));
document.addEventListener('focusin', event => focused &&= element.contains(event.target));
document.addEventListener('pointerdown', event => focused &&= element.contains(event.target));

element.addEventListener('click', event => {
    const button = event.target.closest('button'), row = event.target.closest('tbody tr');
    if (button?.dataset.sort) {
        const key = button.dataset.sort;
        sort = {key, number: 'number' in button.dataset, down: sort.key === key ? !sort.down : key !== 'name'};
        apply();
    } else if (row) look(row);
    const asked = button?.dataset.index ? button : row?.querySelector('[data-look][data-index]');
    if (asked) trigger('click', {index: Number(asked.dataset.index), fine: asked.dataset.fine === '1'});
});

element.addEventListener('change', event => {
    if (!event.target.matches('[data-filter]')) return;
    filter = event.target.value;
    apply();
});

element.addEventListener('keydown', event => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key], row = event.target.closest('tbody tr');
    if (!step || !row) return;
    event.preventDefault();
    const all = shown(), next = all[all.indexOf(row) + step];
    if (!next) return;
    look(next);
    next.querySelector('[data-look]').focus();
});

apply();
