// Search, filters, popovers, theme, files of labels, tabs of the narrow view, keys.

function refilter() {
  find_cut();
  shown_count = 0;
  for (let i = 0; i < N; i++) shown_count += shown[i] = passes(i) ? 1 : 0;
  const all = shown_count === scope_count;
  $("count").textContent = view_kind === "parts" ? "" : all ? `${counted(shown_count, "node")}` : `${shown_count.toLocaleString("en")} of ${counted(scope_count, "node")}`;
  const narrowed = filters.layers.size < layers.length || filters.reliability > 0 || filters.filter !== null || filters.named !== "all";
  $("filters-button").textContent = narrowed ? "Filters ●" : "Filters";
  $("best").checked = filters.best;
  $("best-row").hidden = view_kind !== "nodes" || !N;
  $("nothing").hidden = view_kind !== "nodes" || shown_count > 0;
  $("nothing").textContent = !N ? "This graph has no nodes." : "No node passes these filters.";
  if (over?.kind === "node" && !shown[over.at]) hover(null);
  const key = `${view_kind} ${shown.join("")}`;
  if (key !== refilter.before) { refilter.before = key; if (view_kind === "nodes") { lay_out(); fit(false); } }
  fresh();
}
function apply_filters() {
  $("reliability-value").textContent = filters.reliability ? `≥ ${filters.reliability.toFixed(2)}` : "any";
  $("links-value").textContent = filters.links >= most_links ? "all" : String(filters.links);
  refilter();
}
function reset_filters() {
  Object.assign(filters, { best: false, layers: new Set(layers.map((_, l) => l)), reliability: 0, filter: null, named: "all" });
  $("reliability").value = "0"; $("filter").value = ""; $("named").value = "all";
  build_layer_checks(); apply_filters();
}
function build_layer_checks() {
  const checks = [];
  for (let l = top_layer; l >= 0; l--) {
    const box = el("input", { type: "checkbox" }), sign = el("canvas", { "aria-hidden": "true" });
    sign.width = sign.height = 28; sign.style.width = sign.style.height = "14px";
    mark(sign.getContext("2d"), l, 14, 14, 9, true);
    box.checked = filters.layers.has(l);
    box.addEventListener("change", () => { if (box.checked) filters.layers.add(l); else filters.layers.delete(l); apply_filters(); });
    checks.push(el("label", {}, box, sign, el("span", { text: short(layers[l].name, 60) })));
  }
  $("layer-checks").replaceChildren(...checks);
}
$("best").addEventListener("change", event => { filters.best = event.target.checked; apply_filters(); });
$("reliability").addEventListener("input", event => { filters.reliability = Number(event.target.value); apply_filters(); });
$("filter").addEventListener("input", event => { filters.filter = event.target.value === "" ? null : Number(event.target.value); apply_filters(); });
$("named").addEventListener("change", event => { filters.named = event.target.value; apply_filters(); });
$("links").addEventListener("input", event => { filters.links = Number(event.target.value); apply_filters(); });
$("reset").addEventListener("click", reset_filters);

// ------------------------------------------------------------------- search among parts and nodes
let hits = [], hit = 0, searched = null;
const MOST_HITS = 40;
function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  // a number is a filter's or a part's, not any digits of a name
  const fits = (all, i) => words.every(word => /^\d+$/.test(word) ? (i >= 0 && channel_of(i) === Number(word)) || new RegExp(`(^|\\D)${word}($|\\D)`).test(all) : all.includes(word));
  searching = words.length > 0;
  searched ??= ids.map((id, i) => `${id} filter ${filter_name(i)} `.toLowerCase());
  const found = [];
  for (let i = 0; i < N; i++) {
    matched[i] = !searching || fits(searched[i] + label_of(i).toLowerCase(), i) ? 1 : 0;
    if (searching && matched[i]) found.push(i);
  }
  found.sort((a, b) => (label_of(b) ? 1 : 0) - (label_of(a) ? 1 : 0) || nodes.reliability[b] - nodes.reliability[a]);
  const of_parts = searching ? leads().filter(k => fits(`${part_title(k)} part ${part_number(k)}`.toLowerCase(), -1)) : [];
  hits = [...of_parts.map(at => ({ kind: "part", at })), ...found.map(at => ({ kind: "node", at }))];
  hit = 0;
  show_hits();
  fresh();
}
function show_hits() {
  const list = $("results");
  list.hidden = !searching;
  $("search").setAttribute("aria-expanded", String(searching));
  list.replaceChildren(...hits.slice(0, MOST_HITS).map((thing, n) => el("li", { role: "option", id: `hit-${n}`, "aria-selected": String(n === hit), click: () => take_hit(n) }, tile(thing),
    el("span", { class: "hit" }, el("b", { text: short(title_of(thing), 80), dir: "auto" }), el("span", { class: "quiet", text: thing.kind === "part" ? `part, ${counted(nodes_of(thing.at).length, "node")}` : `node, ${short(layers[nodes.layer[thing.at]].name, 60)}` })))));
  if (!hits.length) list.append(el("li", { class: "none", text: P ? "No part or node is called that." : "No node is called that." }));
  if (hits.length > MOST_HITS) list.append(el("li", { class: "none", text: `and ${hits.length - MOST_HITS} more` }));
  if (searching) { say(hits.length ? `${hits.length} found` : list.textContent); $("search").setAttribute("aria-activedescendant", hits.length ? `hit-${hit}` : ""); }
}
function close_hits() { $("results").hidden = true; $("search").setAttribute("aria-expanded", "false"); }
function take_hit(n) {
  if (!hits.length) return;
  close_hits();
  choose(hits[n]);
  focus_view();
}
$("search").addEventListener("input", event => search(event.target.value));
$("search").addEventListener("focus", () => { if (searching) show_hits(); });
$("search").addEventListener("blur", () => setTimeout(close_hits, 150));
$("search").addEventListener("keydown", event => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    const count = Math.min(MOST_HITS, hits.length);
    if (!count) return;
    hit = (hit + (event.key === "ArrowDown" ? 1 : count - 1)) % count;
    show_hits();
    $(`hit-${hit}`).scrollIntoView({ block: "nearest" });
  } else if (event.key === "Enter") { event.preventDefault(); take_hit(hit); }
  else if (event.key === "Escape") { event.stopPropagation(); event.target.value = ""; search(""); focus_view(); }
});

// ----------------------------------------------------------------------- popovers, theme, narrow
const pops = ["filters", "decisions", "help"];
function close_pops(but) {
  for (const name of pops) if (name !== but && !$(name).hidden) { $(name).hidden = true; $(`${name}-button`).setAttribute("aria-expanded", "false"); }
}
function toggle_pop(name) {
  if ($(`${name}-button`).hidden) return;
  close_pops(name);
  $(name).hidden = !$(name).hidden;
  $(`${name}-button`).setAttribute("aria-expanded", String(!$(name).hidden));
  if (!$(name).hidden) $(name).querySelector("input:not([hidden]), button:not(:disabled), select")?.focus();
}
for (const name of pops) $(`${name}-button`).addEventListener("click", () => toggle_pop(name));
document.addEventListener("pointerdown", event => { if (!event.target.closest(".pop, [aria-controls]")) close_pops(); });
const prefers_dark = matchMedia("(prefers-color-scheme: dark)");
let theme = null;  // null follows the system
function set_theme() {
  document.documentElement.dataset.theme = theme ?? (prefers_dark.matches ? "dark" : "light");
  read_theme(); build_layer_checks(); show_panel(); draw_map_links(); fresh();
}
prefers_dark.addEventListener("change", set_theme);
$("theme").addEventListener("click", () => { theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; set_theme(); });
const tabs = ["parts", "graph", "images"];
function show_tabs() {
  $("narrow-parts").hidden = !P; $("narrow-images").hidden = !strip;
  for (const tab of tabs) {
    const here = document.body.dataset.tab === tab;
    $(`narrow-${tab}`).setAttribute("aria-selected", String(here));
    $(`narrow-${tab}`).tabIndex = here ? 0 : -1;
  }
  $("filters-button").hidden = view_kind !== "nodes";
}
function open_tab(tab) {
  document.body.dataset.tab = tab;
  if (tab === "parts") open_parts();
  show_tabs(); resized();
}
for (const tab of tabs) $(`narrow-${tab}`).addEventListener("click", () => { if (!$("panel").hidden) close_panel(); open_tab(tab); });
$("narrow").addEventListener("keydown", event => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.stopPropagation();
  const there = tabs.filter(tab => !$(`narrow-${tab}`).hidden), next = there[(there.indexOf(document.body.dataset.tab) + by + there.length) % there.length];
  open_tab(next); $(`narrow-${next}`).focus();
});

// ------------------------------------------------------------------------------- files of labels
$("download").addEventListener("click", () => {
  const link = el("a", { download: "labels.json", href: URL.createObjectURL(new Blob([JSON.stringify(as_json(), null, 1) + "\n"], { type: "application/json" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
$("upload").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async event => {
  const [file] = event.target.files;
  if (!file) return;
  try {
    const given = from_json(JSON.parse(await file.text()));
    decide(() => { decisions = given; }, "labels opened");
  } catch (problem) {
    $("decided").textContent = `${file.name.slice(0, 80)} can't be opened: ${problem.message}`;
  }
  event.target.value = "";
});
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => decide(() => { decisions = none_decided(); }, "all decisions removed"));

// ------------------------------------------------------------------------------------- the rest
$("nearer").addEventListener("click", () => zoom(1.4));
$("farther").addEventListener("click", () => zoom(1 / 1.4));
$("fit").addEventListener("click", () => fit());
$("close").addEventListener("click", () => { close_panel(); focus_view(); });
for (const tab of ["thing", "image"]) $(`tab-${tab}`).addEventListener("click", () => { panel_tab = tab; show_panel(); });
$("panel-tabs").addEventListener("keydown", event => {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight" || !strip) return;
  panel_tab = panel_tab === "thing" ? "image" : "thing"; show_panel(); $(`tab-${panel_tab}`).focus(); event.stopPropagation();
});
$("best-first").addEventListener("change", paint_thumbs);
$("grid").addEventListener("click", () => {
  const open = $("thumbs").classList.toggle("grid");
  $("grid").setAttribute("aria-pressed", String(open));
  resized();
});
/** From node to node: along the layer, most reliable first, or along the closest link. */
function walk(key) {
  if (chosen?.kind !== "node" || !shown[chosen.at]) {
    let first = -1;
    for (let i = 0; i < N; i++) if (shown[i] && (first < 0 || nodes.reliability[i] > nodes.reliability[first])) first = i;
    if (first >= 0) choose({ kind: "node", at: first });
    return;
  }
  const i = chosen.at;
  if (key === "ArrowUp" || key === "ArrowDown") {
    const [list, far] = key === "ArrowUp" ? [up[i], edges.parent] : [down[i], edges.child];
    const e = list.find(e => shown[far[e]]);
    if (e !== undefined) choose({ kind: "node", at: far[e] }); else say(key === "ArrowUp" ? "no node above" : "no node below");
    return;
  }
  const band = data.order.find(band => band.includes(i)).filter(j => shown[j]);
  const k = band.indexOf(i) + (key === "ArrowRight" ? 1 : -1);
  if (k >= 0 && k < band.length) choose({ kind: "node", at: band[k] });
}
const image_step = by => strip && choose_image(((current < 0 ? (by > 0 ? -1 : 0) : current) + by + M) % M);
const named_thing = () => chosen?.kind === "part" || chosen?.kind === "node" ? chosen : null;
const ACTIONS = {
  "/": () => $("search").focus(), "?": () => toggle_pop("help"),
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), "0": () => fit(),
  p: open_parts, a: () => open_nodes(), o: () => { if (chosen?.kind === "part") open_nodes(chosen.at); },
  f: () => toggle_pop("filters"), l: () => toggle_pop("decisions"), t: () => $("theme").click(), "[": () => image_step(-1), "]": () => image_step(1),
  n: () => { if (named_thing()) { panel_tab = "thing"; show_panel(); $("name").focus(); $("name").select(); } },
  m: () => { if (named_thing()) start_merge(chosen); }, r: () => { if (named_thing()) reject(chosen); },
};
function escape(typing, target) {
  if (merging) end_merge();
  else if (pops.some(name => !$(name).hidden)) { close_pops(); focus_view(); }
  else if (typing) { target.blur(); focus_view(); }
  else if (!$("panel").hidden) { close_panel(); focus_view(); }
}
document.addEventListener("keydown", event => {
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (event.key === "Escape") { escape(typing, event.target); return; }
  if (typing) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { event.preventDefault(); undo(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.startsWith("Arrow")) {
    if (view_kind === "parts") {
      if (event.target !== document.body && !event.target.matches(".card-main")) return;
      event.preventDefault();
      step_tiles(event.key);
      return;
    }
    if (event.target !== canvas && event.target !== document.body) return;
    event.preventDefault();
    const step = 80;
    if (event.shiftKey) pan(event.key === "ArrowLeft" ? step : event.key === "ArrowRight" ? -step : 0, event.key === "ArrowUp" ? step : event.key === "ArrowDown" ? -step : 0);
    else walk(event.key);
    return;
  }
  if (ACTIONS[event.key]) { event.preventDefault(); ACTIONS[event.key](); }
});
