// The header, the first view, and what the page tells of itself.

$("title").textContent = data.title;
$("title").title = short(data.title, 300);
$("about").textContent = [`model ${data.fingerprint.slice(0, 8)}`, `mined from ${counted(data.n_images, "image")}`, counted(layers.length, "layer"), P && counted(P, "part"), counted(N, "node"), counted(E, "link")].filter(Boolean).join(" · ");
$("about").title = `Model ${data.fingerprint}\nLayers ${layers.map(layer => short(layer.name, 80)).join(", ")}`;
$("reading").textContent = P
  ? `Each tile is a part: a place on the object that many filters of the network know, ${data.top ? "in the images that show it best." : "shown where its nodes usually are: the page was made without images."}`
  : `Each square is a node: something that one filter of the network answers to, at a place of its own. ${N ? "This graph has no parts: nodes of different filters agree on none." : ""}`;
$("search").placeholder = P ? "Search parts and nodes ..." : "Search nodes ...";
$("links").max = String(most_links);
$("links").value = String(filters.links);
try { const kept = localStorage.getItem(memory_key); if (kept) decisions = from_json(JSON.parse(kept)); } catch { /* what can't be read is left */ }
document.documentElement.dataset.theme = prefers_dark.matches ? "dark" : "light";
document.body.dataset.tab = "parts";
read_theme(); build_layer_checks(); show_decisions();
build_strip();
if (P) { show_crumbs(); show_tabs(); show_parts(); apply_filters(); } else { open_nodes(); apply_filters(); }
const tiles_there = data.part_patches?.sheets.length ? part_sheet(0).decode().catch(() => {}) : Promise.resolve();
tiles_there.then(() => requestAnimationFrame(() => requestAnimationFrame(() => {
  window.explorer.painted = performance.now();  // the tiles, or the nodes, are on the screen
  photos_wanted = true; paint_thumbs();
  new ResizeObserver(resized).observe($("stage"));
  matchMedia("(resolution: 1dppx)").addEventListener("change", resized);
  window.explorer.loaded = performance.now(); window.explorer.script = performance.now() - started;
})));
/** What the page knows of itself, for those who test and measure it. */
const named = thing => thing && { part: () => parts.id[thing.at], node: () => ids[thing.at], link: () => ends_of(thing.at).map(k => parts.id[k]), edge: () => ends(thing).map(({ at }) => ids[at]) }[thing.kind]();
window.explorer = {
  frames, zoom,
  state: () => ({
    nodes: N, edges: E, parts: P, view_kind, scope: scope < 0 ? null : parts.id[scope], shown: shown_count, drawn: { ...drawn }, view: { ...view },
    chosen: named(chosen), over: named(over), image: current < 0 ? null : strip.names[current], decisions: as_json(),
    tiles: [...document.querySelectorAll(".card")].map(item => parts.id[Number(item.dataset.part)]),
    lines: [...document.querySelectorAll(".line")].map(line => named({ kind: "link", at: Number(line.dataset.link) })),
  }),
  at: id => { const i = index.get(id), b = canvas.getBoundingClientRect(); return [b.left + X[i] * view.k + view.x, b.top + Y[i] * view.k + view.y]; },
  edge_at: (parent, child) => {
    const e = up[index.get(child)].find(e => edges.parent[e] === index.get(parent)), b = canvas.getBoundingClientRect(), { x0, y0, x1, y1 } = bow(e, view.k, view.x, view.y);
    return [b.left + (x0 + x1) / 2, b.top + (y0 + y1) / 2];
  },
  place: (image, kind, id) => place_in(strip.names.indexOf(image), { kind, at: (kind === "part" ? part_index : index).get(id) }),
  dots: () => image_view.dots.map(({ thing, number, x, y, label }) => ({ id: named(thing), number, x, y, label })),
};
