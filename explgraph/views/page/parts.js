// The opening view: a tile for each part, the most telling first.

const DOZEN = 12;
const LEAST_TILE = 116, MOST_TILE = 230;  // px
const LINGER = 350;  // ms over a tile before its tip hides the next one
let all_parts = false;  // also those that are left out at first

const moves = k => members(k).some(j => !parts.still[j]);
/** Parts in the order of their tiles, and how many of them are shown unless more are asked for. */
function ordered_parts() {
  const all = leads().filter(k => !is_out(k)), moving = all.filter(moves), still = all.filter(k => !moves(k));
  const ordered = [...moving, ...still, ...leads().filter(is_out)];
  return { ordered, first: Math.min(DOZEN, moving.length || still.length), moving: moving.length, still: still.length };
}
function shown_parts() {
  const { ordered, first } = ordered_parts();
  return all_parts ? ordered : ordered.slice(0, first);
}
function sureness(k) {
  const much = parts.reliability[k];
  return `${much >= .85 ? "very sure" : much >= .65 ? "sure" : "less sure"}`;
}
const HELP = {
  sure: "How far two halves of the network's filters, each without the other, find the same part",
  support: "Share of the mined images that show it",
  part_follows: "Share of its movement that goes along with the object; near 0 for what stands still in the image, such as background at a corner",
  layers: "Mined layers that have nodes of this part",
};
function show_parts() {
  const { ordered, first, still } = ordered_parts(), here = shown_parts();
  const focused = document.activeElement?.closest(".card")?.dataset.part;  // keeps the keyboard's focus
  $("tiles").replaceChildren(...here.map(card));
  if (focused !== undefined) $("tiles").querySelector(`[data-part="${focused}"] .card-main`)?.focus();
  const rest = ordered.length - first, out = leads().filter(is_out).length, more = $("more-parts");
  more.hidden = rest === 0;
  const why = [still && first + still === ordered.length - out ? `${still === 1 ? "it stands" : "they stand"} still in the image: more likely background` : "less telling, or standing still in the image", out && `${out} rejected`].filter(Boolean).join(", ");
  more.textContent = all_parts ? "Fewer parts" : `${counted(rest, "more part")} (${rest === out ? "rejected" : why})`;
  size_tiles(); lay_map();
}
function card(k) {
  const thing = { kind: "part", at: k }, n = nodes_of(k).length;
  const sure = `${sureness(k)} · ${counted(layers_of(k).length, "layer")}`, seen = `in ${percent(parts.support[k])} of images`;
  const main = el("button", { class: "card-main", "aria-label": `${part_title(k)}: ${sure}, ${seen}${is_out(k) ? ", rejected" : ""}`, click: () => choose(thing) },
    four(thing),
    el("span", { class: "card-title" }, badge(k), el("b", { text: short(part_title(k), 120), dir: "auto" })),
    el("span", { class: "quiet", text: sure, title: `${HELP.sure}: ${percent(parts.reliability[k])}` }));
  const item = el("li", { class: `card${is_out(k) ? " rejected" : ""}`, "data-part": String(k) }, main,
    el("span", { class: "card-foot" }, el("span", { class: "quiet", text: is_out(k) ? "rejected" : moves(k) ? `in ${percent(parts.support[k])}` : "stands still", title: moves(k) ? HELP.support : HELP.part_follows }),
      el("button", { class: "link", text: `${counted(n, "node")} ›`, "aria-label": `${counted(n, "node")} of ${part_title(k)}`, title: "Show the nodes of this part", click: () => { choose(thing); open_nodes(k); } })));
  item.addEventListener("pointerenter", event => { if (event.pointerType !== "touch") { const box = item.getBoundingClientRect(); tell(thing, box.right - 12, box.top, LINGER); } });
  item.addEventListener("pointerleave", () => hover(null));
  main.addEventListener("focus", () => { if (main.matches(":focus-visible")) { over = thing; show_choice(); if (current >= 0) paint_photo(); } });
  main.addEventListener("blur", () => { if (is(over, "part", k)) hover(null); });
  return item;
}
/** Tiles as large as can be without scrolling; else of a size that can be read. */
function size_tiles() {
  const box = $("tiles-box").getBoundingClientRect(), n = shown_parts().length, gap = 10;
  if (!box.width || narrow.matches) { $("tiles").style.gridTemplateColumns = ""; return; }
  const wide = box.width - 30, high = box.height - ($("more-parts").hidden ? 24 : 70), text = 84;  // px of a tile below its patches
  const side = c => (wide + gap) / c - gap, rows = c => Math.ceil(n / c) * (side(c) - 14 + text + gap) - gap;
  let columns = Math.max(1, Math.floor((wide + gap) / (LEAST_TILE + gap)));
  while (columns > 1 && side(columns - 1) <= MOST_TILE && rows(columns - 1) <= high) columns--;
  $("tiles").style.gridTemplateColumns = `repeat(${columns}, minmax(0, ${MOST_TILE}px))`;
}
/** What a tip says of a thing. */
function tip_of(thing) {
  const { kind, at } = thing;
  if (kind === "part") {
    return [el("b", { text: part_title(at), dir: "auto" }), el("span", { class: "quiet", text: `${sureness(at)} (${percent(parts.reliability[at])}) · ${counted(nodes_of(at).length, "node")} · in ${percent(parts.support[at])} of the images` }),
      exemplars(thing).length ? eight(thing) : el("span", { class: "quiet", text: why_no_patches(thing) })];
  }
  if (kind === "node") {
    return [el("b", { text: node_title(at), dir: "auto" }),
      el("span", { class: "quiet", text: `${short(layers[nodes.layer[at]].name, 40)} · filter ${filter_name(at)}${part_of[at] < 0 ? " · of no part" : ` · ${short(part_title(part_of[at]), 40)}`}` }),
      el("span", { text: `reliability ${nodes.reliability[at].toFixed(2)}, follows ${percent(nodes.follows[at])}, support ${percent(nodes.support[at])}` }),
      exemplars(thing).length ? eight(thing) : el("span", { class: "quiet", text: why_no_patches(thing) })];
  }
  return [el("b", { text: link_title(thing), dir: "auto" }), ...link_facts(thing).map(([name, text]) => el("span", {}, el("span", { class: "quiet", text: `${name}: ` }), text))];
}
/** Moves the focus among the tiles. */
function step_tiles(key) {
  const all = [...document.querySelectorAll(".card-main")];
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  if (at < 0) { all[0].focus(); return; }
  const columns = all.filter(item => Math.abs(item.getBoundingClientRect().top - all[0].getBoundingClientRect().top) < 8).length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  all[Math.max(0, Math.min(all.length - 1, at + by))].focus();
}
$("more-parts").addEventListener("click", () => { all_parts = !all_parts; show_parts(); show_choice(); });
