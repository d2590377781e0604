// The panel: what is known of the chosen part, node or link.

/** Gives the keyboard back to the canvas, or to the chosen tile. */
function focus_view() {
  if (view_kind === "nodes") canvas.focus();
  else (document.querySelector(".card.chosen .card-main") || document.querySelector(".card-main"))?.focus();
}
function show_panel() {
  if ($("panel").hidden) return;
  for (const tab of ["thing", "image"]) {
    $(`tab-${tab}`).setAttribute("aria-selected", String(panel_tab === tab));
    $(`tab-${tab}`).tabIndex = panel_tab === tab ? 0 : -1;
    $(tab).hidden = panel_tab !== tab;
  }
  $("tab-image").hidden = !strip;
  $("tab-thing").textContent = { part: "Part", node: "Node", link: "Link", edge: "Link" }[chosen?.kind] || (P ? "Part" : "Node");
  if (panel_tab === "image") { show_image(); return; }
  const panel = $("thing"), key = chosen ? `${chosen.kind} ${chosen.at}` : "", kept = $("panel").dataset.of === key ? $("panel").scrollTop : 0;
  const content = !chosen ? [el("p", { class: "empty", text: view_kind === "parts" ? "Choose a part, by a click on its tile or in the graph." : "Choose a node in the graph, by a click or with the arrow keys." })]
    : chosen.kind === "part" ? part_details(chosen.at) : chosen.kind === "node" ? node_details(chosen.at) : link_details(chosen);
  panel.replaceChildren(...content.filter(Boolean));
  $("panel").dataset.of = key;
  $("panel").scrollTop = kept;
}
function name_field(thing) {
  const what = thing.kind, input = el("input", { type: "text", id: "name", placeholder: `Name this ${what} ...`, "aria-label": `Name of the ${what}`, dir: "auto", maxlength: "20000" });
  input.value = what === "part" ? name_of(thing.at) : label_of(thing.at);
  input.addEventListener("change", () => give_name(thing, input.value));
  input.addEventListener("keydown", event => { if (event.key === "Enter") { event.preventDefault(); input.blur(); focus_view(); } });
  return el("div", { class: "name" }, input);
}
function decision_buttons(thing, merged, out) {
  return [
    el("button", { text: merging ? "Cancel" : "Merge with ...", title: `Say that another ${thing.kind} is the same (m)`, click: () => merging ? end_merge() : start_merge(thing) }),
    merged && el("button", { text: thing.kind === "part" ? "Take apart again" : "Take out of its group", click: () => take_apart(thing) }),
    el("button", { text: out ? "Take back" : "Reject", title: `Leave this ${thing.kind} out (r)`, "aria-pressed": String(out), click: () => reject(thing) })];
}
function patch_section(thing) {
  const seen = exemplars(thing);
  if (!seen.length) return section("Seen best in", why_no_patches(thing), []);
  return section("Seen best in", null, seen.map(({ name, score }, k) => {
    const m = strip ? strip.names.indexOf(name) : -1;
    return el("button", { title: `${short(name, 200)} (score ${Number(score).toFixed(2)})${m < 0 ? "" : ", open"}`, "aria-label": `patch ${k + 1}, image ${short(name, 200)}`, click: () => m >= 0 && choose_image(m), ...(m < 0 ? { disabled: "" } : {}) }, tile(thing, k));
  }), "patches");
}
/** A row that leads to a thing: its patch, its name, a note, and a bar. */
function item(thing, note, value = null, colour = "", what = "") {
  return el("button", { class: "item", title: value === null ? "" : `${what} ${value.toFixed(2)}`, [`data-${thing.kind}`]: String(thing.at), click: () => choose(thing) },
    tile(thing), el("span", { class: "what" }, el("b", { text: short(title_of(thing), 200), dir: "auto" }), el("span", { text: note })),
    value === null ? el("span") : el("span", { class: "meter" }, bar(value, colour)));
}
/** Rows of links: to the thing at the other end, and to the link itself. */
function linked(things, other, value, colour, note = () => "") {
  const rows = things.map(thing => () => el("div", { class: "linked" },
    item(other(thing), note(thing), value(thing), colour, thing.kind === "link" ? "share of the most links" : "consistency"),
    el("button", { class: "link", text: "link", title: link_title(thing), "aria-label": `the link ${link_title(thing)}`, click: () => choose(thing) })));
  return few_of(rows, 8);
}
function few_of(rows, few) {
  const made = rows.slice(0, few).map(make => make());
  if (rows.length > few) {
    const more = el("button", { text: `Show all ${rows.length}`, click: () => more.replaceWith(...rows.slice(few).map(make => make())) });
    made.push(more);
  }
  return made;
}

function part_details(k) {
  const thing = { kind: "part", at: k }, mine = nodes_of(k), out = is_out(k), all = links_of(k), together = members(k);
  const most = Math.max(1, ...all.map(l => links.links[l]));
  const other = ({ at }) => ({ kind: "part", at: ends_of(at).find(end => end !== k) });
  const top = [...mine].sort((i, j) => nodes.reliability[j] - nodes.reliability[i]);
  return [
    el("div", { class: "head" }, four(thing, "four head-four", 256), el("div", {}, el("h2", {}, badge(k), " ", el("span", { text: short(part_title(k), 2000), dir: "auto" })),
      el("div", { class: "quiet", text: `${sureness(k)} · in ${percent(parts.support[k])} of the images` }))),
    name_field(thing),
    el("div", { class: "row" }, el("button", { class: "main", text: `Its ${counted(mine.length, "node")} ›`, title: "Show the nodes of this part (o)", click: () => open_nodes(k) }), ...decision_buttons(thing, together.length > 1, out).filter(Boolean)),
    out && el("p", { class: "quiet", text: "Rejected by you: its nodes will belong to no part." }),
    el("div", { class: "figures" },
      ...meter("How sure", parts.reliability[k], HELP.sure),
      ...meter("In images", parts.support[k], HELP.support),
      ...meter("Follows", Math.max(...together.map(j => parts.follows[j])), HELP.part_follows),
      ...fact("Layers", layers_of(k).map(l => short(layers[l].name, 40)).join(", "), HELP.layers)),
    !moves(k) && el("p", { class: "quiet", text: "It stands still in the image while the object moves: more likely background than part of the object." }),
    together.length > 1 && section("Merged", "One part, by your decision.", together.map(j => el("div", { class: "id", text: `part ${part_number(j)}${parts.name[j] ? `, ${short(parts.name[j], 80)}` : ""}: ${counted(parts.nodes[j].length, "node")}`, dir: "auto" }))),
    parts.located[k] && section("Located from marks", `${parts.located[k]}.`, []),
    patch_section(thing),
    section(`Linked parts (${all.length})`, !parts.links ? "Not computed: the graph was saved without what mining fitted." : all.length ? "Parts whose nodes tell each other's place." : "None: no node of it is linked with one of another part.",
      linked(all.map(l => ({ kind: "link", at: l })), other, ({ at }) => links.links[at] / most, colours.accent, ({ at }) => counted(links.links[at], "link"))),
    section("Most reliable nodes", "Each is one pattern of one filter of the network.", top.slice(0, 6).map(i => item({ kind: "node", at: i }, short(layers[nodes.layer[i]].name, 60), nodes.reliability[i], colours.accent, "reliability"))),
  ];
}
function node_details(i) {
  const thing = { kind: "node", at: i }, group = group_of(i), layer = layers[nodes.layer[i]], k = part_of[i];
  const edge = e => ({ kind: "edge", at: e }), effect_of = ({ at }) => edges.effect && edges.effect[at] !== null ? ` · effect ${percent(edges.effect[at])}` : "";
  const towards = far => ({ at }) => ({ kind: "node", at: far[at] }), note = far => link => short(layers[nodes.layer[far[link.at]]].name, 60) + effect_of(link);
  const others = siblings_of(i).filter(j => j !== i), effects = Object.entries(nodes.effects).filter(([, values]) => values[i] !== null);
  const effect = text => edges.effect ? ` Effect: the share of ${text}.` : "";
  return [
    el("div", { class: "head" }, four(thing, "four head-four", 256), el("div", {}, el("h2", { text: short(node_title(i), 2000), dir: "auto" }),
      el("div", { class: "quiet", text: `filter ${filter_name(i)} of layer ${short(layer.name, 60)}` }), el("div", { class: "id", text: ids[i], dir: "auto" }),
      k >= 0 ? el("button", { class: "link", "data-part": String(lead(k)), click: () => choose({ kind: "part", at: k }) }, badge(lead(k)), ` of ${short(part_title(k), 60)}`) : P ? el("div", { class: "quiet", text: "of no part" }) : null)),
    name_field(thing),
    el("div", { class: "row" }, ...decision_buttons(thing, group, is_rejected(i)).filter(Boolean)),
    el("div", { class: "figures" },
      ...meter("Reliability", nodes.reliability[i], "How much worse its filter would be explained if the node moved as in other images"),
      ...meter("Follows", nodes.follows[i], "Share of where it is that moves along with the object; 0 for what stands still"),
      ...meter("Support", nodes.support[i], "Share of the images in which it is present"),
      ...meter("Energy", nodes.energy[i], "Share of its filter's activation that it explains"),
      ...fact("Field", `${Math.round(nodes.receptive_field[i])} px${data.patch_side ? `, patches of ${Math.round(data.patch_side[i])} px` : ""}`, "Side of the theoretical receptive field"),
      ...effects.flatMap(([name, values]) => fact(`On ${short(name, 40)}`, String(values[i]), "What the score of this class loses when the node is taken away, mean over images")),
      ...(effects.length ? [] : fact("On classes", "not computed (explgraph effects)", "What the scores of classes lose when the node is taken away"))),
    el("div", { class: "where" }, place_frame(i), el("div", {}, el("div", { text: `Usually at (${Math.round(nodes.x[i])}, ${Math.round(nodes.y[i])}) of ${W} × ${H} px` }), el("div", { class: "quiet", text: `give or take ${Math.round(nodes.sigma[i])} px around where the image's pose expects it` }))),
    group && section("Merged with", "One node, by your decision.", group.filter(j => j !== i).map(j => item({ kind: "node", at: j }, short(layers[nodes.layer[j]].name, 60)))),
    patch_section(thing),
    section(`Same filter (${others.length})`, others.length ? `What filter ${filter_name(i)} answers to as well.` : `Filter ${filter_name(i)} has no other node in this graph.`, others.map(j => item({ kind: "node", at: j }, short(layers[nodes.layer[j]].name, 60), nodes.energy[j], colours.quiet, "energy"))),
    section(`Nodes above (${up[i].length})`, up[i].length ? "They move along with it, and tell where it must be." + effect("their scores that is lost without it") : "None.", linked(up[i].map(edge), towards(edges.parent), ({ at }) => edges.consistency[at], colours.parent, note(edges.parent))),
    section(`Nodes below (${down[i].length})`, down[i].length ? "It tells where these must be." + effect("its score that is lost without them") : "None.", linked(down[i].map(edge), towards(edges.child), ({ at }) => edges.consistency[at], colours.child, note(edges.child))),
  ];
}
/** The strip's image that shows both ends best; -1 if none does. */
function image_of_both(pair) {
  let best = -1, least = 0;
  for (let m = 0; m < M; m++) {
    const s = share_in(m, pair[0]) * share_in(m, pair[1]);
    if (s > least) { least = s; best = m; }
  }
  return best;
}
function link_details(thing) {
  const pair = ends(thing), m = image_of_both(pair);
  const cut_of = end => m < 0 ? tile(end, 0, 192) : painted("tile", 192, 192, ctx => ringed(ctx, { draw: (to, x, y, side) => draw_cut(to, m, end, x, y, side) }, 0, 0, 192));
  return [
    el("h2", { class: "link-head", text: link_title(thing), dir: "auto" }),
    el("div", { class: "pair" }, ...pair.map(end => el("button", { class: "pair-end", [`data-${end.kind}`]: String(end.at), click: () => choose(end) }, cut_of(end), el("b", { text: short(title_of(end), 80), dir: "auto" })))),
    el("p", { class: "quiet", text: m >= 0 ? `Both in image ${short(strip.names[m], 120)}.` : !data.top ? why_no_patches(pair[0]) : strip ? "None of the images below is known to show both; these are each one's best patches." : "Each one's best patch." }),
    m >= 0 && el("div", { class: "row" }, el("button", { text: "Show the image", click: () => choose_image(m) })),
    el("dl", { class: "facts" }, ...link_facts(thing).flatMap(([name, text, help]) => [el("dt", { class: "help", text: name, title: help }), el("dd", { text, dir: "auto" })])),
  ];
}
function place_frame(i) {
  const frame = el("canvas", { class: "frame", role: "img", "aria-label": "usual place within the image" }), scale = 240 / W;
  frame.width = 240; frame.height = Math.round(H * scale);
  const ctx = frame.getContext("2d");
  for (const j of siblings_of(i)) {
    const x = nodes.x[j] * scale, y = nodes.y[j] * scale, own = i === j;
    ctx.strokeStyle = ctx.fillStyle = own ? colours.accent : colours.quiet;
    ctx.globalAlpha = own ? .2 : .1; ctx.beginPath(); ctx.arc(x, y, Math.max(3, nodes.sigma[j] * scale), 0, 7); ctx.fill();
    ctx.globalAlpha = own ? 1 : .6; ctx.lineWidth = 2; ctx.beginPath(); ctx.arc(x, y, own ? 5 : 3.5, 0, 7); own ? ctx.fill() : ctx.stroke();
  }
  return frame;
}
function start_merge(thing) {
  merging = thing;
  $("banner").textContent = `Click the ${thing.kind} that is the same as ${short(title_of(thing), 80)}, or Esc to cancel`;
  $("banner").hidden = false;
  show_panel();
}
function end_merge() { merging = null; $("banner").hidden = true; show_panel(); }
