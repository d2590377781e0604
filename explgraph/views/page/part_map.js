// The graph between the parts: each where it usually is in the image, moved apart to be seen.

const map = { w: 0, h: 0, side: 60, at: new Map(), parts: [], spots: new Map(), names: "" };

/** Links between the parts that are shown, the strongest first; of merged ones the strongest. */
function part_links() {
  const here = new Set(map.parts), best = new Map();
  links.a.forEach((_, l) => {
    const [a, b] = ends_of(l);
    if (a === b || !here.has(a) || !here.has(b)) return;
    const key = a < b ? `${a} ${b}` : `${b} ${a}`;
    if (!best.has(key) || links.links[best.get(key)] < links.links[l]) best.set(key, l);
  });
  return [...best.values()].sort((l, o) => links.links[o] - links.links[l] || l - o);
}
const ends_of = l => [lead(links.a[l]), lead(links.b[l])];
const links_of = k => links.a.map((_, l) => l).filter(l => ends_of(l).includes(k) && ends_of(l)[0] !== ends_of(l)[1]).sort((l, o) => links.links[o] - links.links[l]);
/** At rest each part has the one link that most of its nodes have. */
function links_at_rest(all) {
  const rest = new Set();
  for (const k of map.parts) { const l = all.find(l => ends_of(l).includes(k)); if (l !== undefined) rest.add(l); }
  return rest;
}
function lay_map() {
  map.parts = shown_parts().filter(k => !is_out(k));
  const note = $("map-note");
  note.textContent = !P ? "" : !parts.links ? "Links between parts were not computed: the graph was saved without what mining fitted."
    : map.parts.length < 2 ? "One part alone has no links." : !part_links().length ? "None of these parts are linked."
    : "Parts lie as in the images, moved apart. A line joins two parts if one tells where the other is. Point at a part to see all its lines.";
  const box = $("map").getBoundingClientRect();
  if (!box.width || !box.height) return;
  const room = Math.sqrt(box.width * box.height / Math.max(1, map.parts.length)), side = Math.max(26, Math.min(84, room * .55)), pad = side * .75;
  const xs = map.parts.map(k => parts.x[k]), ys = map.parts.map(k => parts.y[k]);
  const low = [Math.min(...xs), Math.min(...ys)], size = [Math.max(...xs) - low[0], Math.max(...ys) - low[1]];
  const scale = Math.min((box.width - 2 * pad) / Math.max(size[0], W * .1), (box.height - 2 * pad) / Math.max(size[1], H * .1));
  const off = [(box.width - size[0] * scale) / 2, (box.height - size[1] * scale) / 2];
  const places = spread(map.parts.map(k => [off[0] + (parts.x[k] - low[0]) * scale, off[1] + (parts.y[k] - low[1]) * scale]), Math.max(side * 1.32, room * .62), box.width, box.height);
  Object.assign(map, { w: box.width, h: box.height, side, at: new Map(map.parts.map((k, n) => [k, places[n]])) });
  $("map-lines").setAttribute("viewBox", `0 0 ${map.w} ${map.h}`);
  const names = JSON.stringify(map.parts.map(k => [k, name_of(k)]));
  if (names !== map.names) {
    for (const spot of map.spots.values()) spot.remove();
    map.spots = new Map(map.parts.map(k => [k, map_spot(k)]));
    map.names = names;
    $("map").append(...map.spots.values());
  }
  for (const [k, spot] of map.spots) {
    const [x, y] = map.at.get(k);
    Object.assign(spot.style, { left: `${x - side / 2}px`, top: `${y - side / 2}px`, width: `${side}px`, height: `${side}px` });
  }
  show_choice();
}
function map_spot(k) {
  const thing = { kind: "part", at: k };
  const spot = el("button", { class: "spot", "data-part": String(k), "aria-label": `${part_title(k)} in the graph`, click: () => choose(thing) }, tile(thing, 0, 144), badge(k));
  if (name_of(k)) spot.append(el("span", { class: "spot-name", text: short(name_of(k), 16), dir: "auto" }));
  spot.addEventListener("pointerenter", event => { if (event.pointerType !== "touch") { const box = spot.getBoundingClientRect(); tell(thing, box.right, box.top, LINGER); } });
  spot.addEventListener("pointerleave", () => hover(null));
  spot.addEventListener("focus", () => { if (spot.matches(":focus-visible")) { over = thing; show_choice(); } });
  spot.addEventListener("blur", () => { if (is(over, "part", k)) hover(null); });
  return spot;
}
let lines_drawn = "";
function draw_map_links() {
  if (!map.at.size) { $("map-lines").replaceChildren(); lines_drawn = ""; return; }
  const all = part_links(), rest = links_at_rest(all), focus = over || chosen;
  const near = l => (focus?.kind === "part" && ends_of(l).includes(lead(focus.at))) || (focus?.kind === "link" && focus.at === l)
    || (chosen?.kind === "part" && ends_of(l).includes(chosen.at)) || is(chosen, "link", l);
  const drawn = all.filter(l => rest.has(l) || near(l)), most = Math.max(1, ...all.map(l => links.links[l]));
  const key = JSON.stringify([drawn, drawn.map(near), [...map.at.values()], document.documentElement.dataset.theme]);
  if (key === lines_drawn) return;  // a line that is under the pointer stays
  lines_drawn = key;
  const focused = document.activeElement?.dataset.link;  // keeps the keyboard's focus
  $("map-lines").replaceChildren(...drawn.map(l => map_line(l, near(l), links.links[l] / most)));
  if (focused !== undefined) $("map-lines").querySelector(`[data-link="${focused}"]`)?.focus();
}
function map_line(l, near, share) {
  const thing = { kind: "link", at: l }, [[x0, y0], [x1, y1]] = ends_of(l).map(k => map.at.get(k));
  // bent a little, so that it doesn't hide behind what lies between
  const d = `M${x0} ${y0}Q${(x0 + x1) / 2 - (y1 - y0) * .12} ${(y0 + y1) / 2 + (x1 - x0) * .12} ${x1} ${y1}`;
  const line = svg("g", { class: `line${near ? " near" : ""}`, "data-link": String(l), tabindex: "0", role: "button", "aria-label": link_title(thing) },
    svg("path", { d, class: "seen", "stroke-width": String(1.5 + 4 * Math.sqrt(share)) }), svg("path", { d, class: "reach" }));
  line.addEventListener("pointerenter", event => { if (event.pointerType !== "touch") tell(thing, event.clientX, event.clientY); });
  line.addEventListener("pointermove", event => move_tip(event.clientX, event.clientY));
  line.addEventListener("pointerleave", () => hover(null));
  line.addEventListener("click", () => choose(thing));
  line.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); choose(thing); } });
  return line;
}

// ---------------------------------------------------------------------- what is known of any link

const ends = ({ kind, at }) => kind === "link"
  ? [links.a[at], links.b[at]].map(k => ({ kind: "part", at: lead(k) })) : [edges.parent[at], edges.child[at]].map(i => ({ kind: "node", at: i }));
const link_title = thing => ends(thing).map(end => short(title_of(end), 60)).join(" – ");
/** Facts of a link between parts or nodes: name, text, help. */
function link_facts({ kind, at }) {
  const of = kind === "link" ? links : edges, px = value => `${Math.abs(Math.round(value))} px`;
  const [first, second] = ends({ kind, at }).map(end => short(title_of(end), 40));
  const across = Math.abs(of.dx[at]) < .5 ? "" : `${px(of.dx[at])} to the ${of.dx[at] > 0 ? "right" : "left"} of`, along = Math.abs(of.dy[at]) < .5 ? "" : `${px(of.dy[at])} ${of.dy[at] > 0 ? "below" : "above"}`;
  const side = Math.min(W, H), loose = of.sigma[at] / side;
  const rigid = loose < .03 ? "rigid" : loose < .07 ? "fairly rigid" : "loose";
  const facts = [
    ["Displacement", across || along ? `${second} is ${[across, along].filter(Boolean).join(" and ")} ${first}` : "both are at the same place", "Usual displacement, px of the image as the network saw it"],
    ["Rigidity", `${rigid}: gives or takes ${px(of.sigma[at])}${kind === "edge" ? `, consistency ${edges.consistency[at].toFixed(2)}` : ""}`, "How much the displacement changes from image to image; consistency is 1 for what is rigid, 0 for what is independent"],
    ["Co-presence", (kind === "link" ? links.copresence : edges.coactivation)[at].toFixed(2), "How far the two are there in the same images: 1 always together, 0 independently, below 0 rather one without the other"],
    ["Effect", of.effect && of.effect[at] !== null ? `${percent(of.effect[at])} of the score of ${first} is lost without ${second}` : "not computed (explgraph effects measures it)", "Share of the first one's score that the network loses when the second is taken away"],
  ];
  if (kind === "link") facts.push(["Made of", `${counted(links.links[at], "link")} between their nodes`, "Edges of the graph that join a node of the one to a node of the other"]);
  return facts;
}
