// The choice in the page's address, so that a reload or a link brings it back.
(category, detectors, map, scale, example, rate) => {
    const asked = new URLSearchParams(location.search);
    const choice = {category, detectors: (detectors ?? []).join(','), map, scale: scale ? 'own' : '', example,
                    rate: rate === 5 ? '' : String(rate)};
    for (const [name, value] of Object.entries(choice)) value ? asked.set(name, value) : asked.delete(name);
    const query = asked.toString().replaceAll('%2F', '/').replaceAll('%2C', ',');
    history.replaceState(history.state, '', query ? `?${query}` : location.pathname);
}
