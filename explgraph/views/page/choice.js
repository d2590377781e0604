// What is looked at. A thing is {kind: "part", "node", "link" (between parts) or "edge" (between
// nodes), at: its number}.

let view_kind = "parts";  // or "nodes"
let scope = -1;           // the part whose nodes are shown; -1 for all
let chosen = null, over = null;  // things
let merging = null;       // what the next click is merged with
let current = -1;         // the chosen image
const narrow = matchMedia("(max-width: 720px)");  // as in page.css
let panel_tab = "thing";  // or "image"

const is = (thing, kind, at) => thing !== null && thing.kind === kind && thing.at === at;
const same = (a, b) => a === b || (a !== null && b !== null && a.kind === b.kind && a.at === b.at);

/** Opens a thing's details, or closes them. */
function choose(thing, tab = "thing") {
  if (thing?.kind === "part") thing = { kind: "part", at: lead(thing.at) };
  if (merging && thing?.kind === merging.kind) { const first = merging; end_merge(); merge(first, thing); return; }
  chosen = thing;
  hide_tip();
  if (thing) {
    panel_tab = strip && current >= 0 && tab === "image" ? "image" : "thing";
    $("panel").hidden = false;
    say(told(thing));
    if (thing.kind === "node") bring_into_view(thing.at);
    if (thing.kind === "part" && !shown_parts().includes(thing.at)) { all_parts = true; show_parts(); }
  } else if (current < 0) $("panel").hidden = true;
  else panel_tab = "image";
  document.body.classList.toggle("reading", !$("panel").hidden);
  show_crumbs(); show_panel(); paint_thumbs(); resized(); show_choice();
  if (thing?.kind === "node" && view_kind === "nodes") show_node(thing.at);
  redraw();
}
function close_panel() {
  chosen = null; current = -1;
  $("panel").hidden = true;
  document.body.classList.remove("reading");
  paint_thumbs(); resized(); show_choice(); redraw();
}
/** Tells where the pointer, or the keyboard's focus, is: everywhere the thing is shown. */
function hover(thing) {
  if (same(thing, over)) return;
  over = thing;
  if (!thing) hide_tip();
  show_choice(); redraw();
  if (current >= 0 && panel_tab === "image") paint_photo();
}
/** Shows a thing's tip beside a point of the window, after a while (ms) if it would hide neighbours. */
function tell(thing, x, y, after = 0) {
  hover(thing);
  if (!after) show_tip(tip_of(thing), x, y);
  else setTimeout(() => { if (same(thing, over)) show_tip(tip_of(thing), x, y); }, after);
}
/** Marks what is chosen and hovered among tiles, in the map, and beside the image. */
function show_choice() {
  const focus = over || chosen;
  for (const item of document.querySelectorAll("[data-part]")) {
    const k = Number(item.dataset.part);
    item.classList.toggle("chosen", is(chosen, "part", k));
    item.classList.toggle("over", is(over, "part", k) || (focus?.kind === "link" && [links.a[focus.at], links.b[focus.at]].some(end => lead(end) === k)));
  }
  for (const item of document.querySelectorAll("[data-node]")) item.classList.toggle("over", is(over, "node", Number(item.dataset.node)));
  draw_map_links();
}
function told(thing) {
  const { kind, at } = thing;
  if (kind === "part") return `${part_title(at)}, ${counted(nodes_of(at).length, "node")}, ${counted(layers_of(at).length, "layer")}`;
  if (kind === "node") return `${node_title(at)}, layer ${layers[nodes.layer[at]].name}, ${up[at].length} links up, ${down[at].length} down`;
  return link_title(thing);
}

/** Goes to the parts, or to the nodes of one or of all. */
function open_parts() {
  if (!P) return;
  view_kind = "parts"; scope = -1;
  after_view();
}
function open_nodes(k = -1, node = -1) {
  view_kind = "nodes"; scope = k < 0 ? -1 : lead(k);
  if (chosen && node < 0 && (chosen.kind === "edge" || (chosen.kind === "node" && scope >= 0 && lead_of_node(chosen.at) !== scope))) chosen = null;
  filters.best = true;
  after_view();
}
const lead_of_node = i => part_of[i] < 0 ? -1 : lead(part_of[i]);
function after_view() {
  document.body.classList.toggle("nodes", view_kind === "nodes");
  if (narrow.matches && chosen?.kind !== "node") $("panel").hidden = true;  // it lies over the graph
  if (view_kind === "nodes") document.body.dataset.tab = "graph";
  hover(null);
  show_crumbs(); show_tabs();
  refilter(); show_panel(); paint_thumbs(); resized(); show_choice();
  if (view_kind === "nodes") fit(false);
}
/** Makes sure that a node is among those that are shown. */
function bring_into_view(i) {
  if (view_kind !== "nodes") open_nodes(part_of[i] >= 0 ? part_of[i] : -1, i);
  if (!shown[i] && scope >= 0 && lead_of_node(i) !== scope) open_nodes(part_of[i] >= 0 ? part_of[i] : -1, i);
  if (!shown[i] && filters.best) { filters.best = false; apply_filters(); }
  if (!shown[i]) reset_filters();
}
/** Parts, the nodes of one, all nodes: where one is, and the way to the others. */
function show_crumbs() {
  const step = (text, here, go, title) => el("button", { text, title, click: go, ...(here ? { "aria-current": "page" } : {}) });
  const made = [], nodes_here = view_kind === "nodes";
  if (P) made.push(step(counted(leads().length, "part"), !nodes_here, open_parts, "Back to the parts (p)"));
  const k = scope >= 0 ? scope : chosen?.kind === "part" ? chosen.at : -1;
  if (k >= 0) made.push(step(`${short(part_title(k), 30)}: ${counted(nodes_of(k).length, "node")}`, nodes_here && scope === k, () => open_nodes(k), "The nodes of this part (o)"));
  made.push(step(`All ${counted(N, "node")}`, nodes_here && scope < 0, () => open_nodes(), "All nodes (a)"));
  $("crumbs").replaceChildren(...made);
}
