// The nodes on a canvas: which ones are shown, where they lie, how they are drawn. Layers are bands.

const SPACING = 60;
const X = new Float32Array(N), Y = new Float32Array(N), SIDE = new Float32Array(N);
for (let i = 0; i < N; i++) SIDE[i] = 24 + 26 * Math.sqrt(nodes.support[i]);
const shown = new Uint8Array(N), matched = new Uint8Array(N).fill(1);
let bands = [], extent = { x: 0, y: 0, w: 1, h: 1 }, shown_count = 0, scope_count = N, searching = false;
// best: only the most reliable quarter, and of these what is linked
const filters = { best: true, layers: new Set(layers.map((_, k) => k)), reliability: 0, filter: null, named: "all", links: Math.min(1, most_links) };
const FEW = 60;  // nodes that are shown in any case, if a quarter is fewer
let cut = { reliability: 0, linked: false };

const in_scope = i => scope < 0 || lead_of_node(i) === scope;
function find_cut() {
  const mine = [];
  for (let i = 0; i < N; i++) if (in_scope(i)) mine.push(i);
  const sorted = mine.map(i => nodes.reliability[i]).sort((a, b) => b - a), count = Math.min(mine.length, Math.max(FEW, Math.ceil(mine.length / 4)));
  scope_count = mine.length;
  cut = { reliability: sorted[count - 1] ?? 0, linked: mine.some(i => up[i].length || down[i].length) };
}
function passes(i) {
  if (!in_scope(i)) return false;
  if (filters.best && (nodes.reliability[i] < cut.reliability || (cut.linked && !up[i].length && !down[i].length))) return false;
  if (!filters.layers.has(nodes.layer[i]) || nodes.reliability[i] < filters.reliability) return false;
  if (filters.filter !== null && channel_of(i) !== filters.filter) return false;
  switch (filters.named) {
    case "named": return Boolean(label_of(i));
    case "unnamed": return !label_of(i);
    case "merged": return Boolean(group_of(i));
    case "rejected": return is_rejected(i);
    case "open": return !label_of(i) && !is_rejected(i);
    default: return true;
  }
}
/** Folds each layer's nodes into rows, so that the whole has the shape of the window. */
function lay_out() {
  const lists = data.order.map(band => band.filter(i => shown[i])).filter(band => band.length);
  const longest = lists.reduce((most, band) => Math.max(most, band.length), 1);
  const size = columns => {
    const gap = SPACING * Math.max(1.6, columns / 7);
    const rows = lists.reduce((sum, band) => sum + Math.ceil(band.length / columns), 0);
    return { gap, w: SPACING * (columns + 1), h: SPACING * rows + gap * (lists.length - 1) + SPACING * 1.4 };
  };
  const wanted = Math.max(.5, stage.w / Math.max(1, stage.h));
  let columns = Math.min(longest, 4), best = Infinity;
  for (let c = columns; c <= longest; c++) {
    const { w, h } = size(c), off = Math.abs(Math.log(w / h / wanted));
    if (off < best) { best = off; columns = c; }
  }
  const { gap, w, h } = size(columns);
  bands = [];
  let y = SPACING;
  for (const band of lists) {
    const rows = Math.ceil(band.length / columns), across = Math.ceil(band.length / rows);
    band.forEach((i, k) => {
      X[i] = SPACING * (Math.floor(k / rows) - (across - 1) / 2);
      Y[i] = y + SPACING * (k % rows);
    });
    bands.push({ layer: nodes.layer[band[0]], count: band.length, top: y - SPACING * .62, bottom: y + SPACING * (rows - .38) });
    y += SPACING * (rows - 1) + gap + SPACING;
  }
  extent = { x: -w / 2, y: 0, w, h: Math.max(SPACING, y - gap - SPACING * .1) };
}

// ---------------------------------------------------------------------------------------- drawing
const canvas = $("graph"), screen = canvas.getContext("2d", { alpha: false });
const scene = document.createElement("canvas"), scene_ctx = scene.getContext("2d", { alpha: false });
const stage = { w: 800, h: 600, dpr: 1 };
const view = { k: 1, x: 0, y: 0 };               // screen = world * k + (x, y)
const drawn = { k: 0, x: 0, y: 0, nodes: 0, edges: 0, capped: false };  // the view that the scene was drawn for
const MARGIN = 160;                              // px drawn around the window, so that moving needs no drawing
const MOST_EDGES = 4000, MOST_MOVING = 1200, WIDE = 800, DOTS = 16, CAPTIONS = 40;
let stale = true, scheduled = false, settle = 0, edges_drawn = [];

function draw_node(ctx, i, x, y, side, ring) {
  const left = x - side / 2, upper = y - side / 2, frame = Math.min(7, Math.max(1.5, side * .09)), inner = side - 2 * frame;
  ctx.fillStyle = ring || shade(i);
  ctx.fillRect(left, upper, side, side);
  const [best] = exemplars({ kind: "node", at: i });
  if (!(best && best.draw(ctx, left + frame, upper + frame, inner)) && ring) {
    ctx.fillStyle = shade(i);
    ctx.fillRect(left + frame, upper + frame, inner, inner);
  }
  if (is_rejected(i)) {
    ctx.fillStyle = colours.bg; ctx.globalAlpha *= .65; ctx.fillRect(left, upper, side, side); ctx.globalAlpha /= .65;
    ctx.strokeStyle = colours.text; ctx.lineWidth = Math.max(1.5, side * .06);
    ctx.beginPath(); ctx.moveTo(left + side * .2, upper + side * .2); ctx.lineTo(left + side * .8, upper + side * .8);
    ctx.moveTo(left + side * .8, upper + side * .2); ctx.lineTo(left + side * .2, upper + side * .8); ctx.stroke();
  }
}
const widths = new Map();
function clipped(ctx, text, room) {
  const key = `${room | 0}|${text}`;
  if (widths.has(key)) return widths.get(key);
  const whole = text.replace(/\s+/g, " ").trim();
  let cut_ = whole.slice(0, 60);
  if (cut_ === whole && ctx.measureText(whole).width <= room) { widths.set(key, whole); return whole; }
  while (cut_.length > 1 && ctx.measureText(cut_ + "…").width > room) cut_ = cut_.slice(0, -1);
  cut_ += "…";
  if (widths.size > 5000) widths.clear();
  widths.set(key, cut_);
  return cut_;
}
function caption(ctx, i, x, y, side, room) {
  const label = label_of(i);
  ctx.font = `${label ? "600 " : ""}11px system-ui, "Liberation Sans", sans-serif`;
  ctx.textAlign = "center"; ctx.textBaseline = "top";
  ctx.lineWidth = 3; ctx.lineJoin = "round"; ctx.strokeStyle = colours.bg; ctx.fillStyle = label ? colours.text : colours.quiet;
  const text = clipped(ctx, short_name(i), room);
  ctx.strokeText(text, x, y + side / 2 + 2); ctx.fillText(text, x, y + side / 2 + 2);
}
/** Ends of an edge and how far it bends, on the screen. */
function bow(e, k, ox, oy) {
  const u = edges.parent[e], v = edges.child[e];
  const x0 = X[u] * k + ox, y0 = (Y[u] + SIDE[u] / 2) * k + oy, x1 = X[v] * k + ox, y1 = (Y[v] - SIDE[v] / 2) * k + oy;
  return { x0, y0, x1, y1, bend: (y1 - y0) * .45 };
}
function trace(ctx, e, k, ox, oy) {
  const { x0, y0, x1, y1, bend } = bow(e, k, ox, oy);
  ctx.moveTo(x0, y0); ctx.bezierCurveTo(x0, y0 + bend, x1, y1 - bend, x1, y1);
}
/** Draws everything that doesn't depend on the pointer, for the present view and a margin around it. */
function draw_scene() {
  const { w, h, dpr } = stage, ctx = scene_ctx, { k } = view;
  const wide = w + 2 * MARGIN, high = h + 2 * MARGIN, ox = view.x + MARGIN, oy = view.y + MARGIN;
  if (scene.width !== Math.round(wide * dpr) || scene.height !== Math.round(high * dpr)) { scene.width = Math.round(wide * dpr); scene.height = Math.round(high * dpr); }
  ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
  ctx.fillStyle = colours.bg; ctx.fillRect(0, 0, wide, high);
  for (const band of bands) {
    ctx.fillStyle = colours.band;
    ctx.beginPath();
    ctx.roundRect(extent.x * k + ox - 10, band.top * k + oy, extent.w * k + 20, (band.bottom - band.top) * k, 12);
    ctx.fill();
  }
  // links: the strongest in sight, in few strokes, one per width
  const taken = [], buckets = [[], [], [], []];
  const left = -ox / k, right = (wide - ox) / k, upper = -oy / k, lower = (high - oy) / k;
  const most = pointers.size || flight ? MOST_MOVING : MOST_EDGES;  // all of them again when the view has come to rest
  let capped = false;
  for (let e = 0; e < E && filters.links; e++) {
    if (rank[e] >= filters.links) continue;
    const u = edges.parent[e], v = edges.child[e];
    if (!shown[u] || !shown[v] || (searching && !(matched[u] && matched[v]))) continue;
    if (Math.max(X[u], X[v]) < left || Math.min(X[u], X[v]) > right || Y[v] < upper || Y[u] > lower) continue;
    if (taken.length === most) { capped = true; break; }
    taken.push(e);
    buckets[Math.min(3, Math.floor(edges.consistency[e] * 4))].push(e);
  }
  const hairlines = taken.length > WIDE, fade = Math.min(1, 16 / Math.sqrt(taken.length + 1) + .12);
  ctx.strokeStyle = colours.edge;
  buckets.forEach((bucket, b) => {
    if (!bucket.length) return;
    // lines of one pixel are drawn many times faster than wider ones
    ctx.lineWidth = hairlines ? 1 / dpr : (.7 + .45 * b) * Math.min(1.6, Math.max(.7, k));
    ctx.globalAlpha = (.22 + .16 * b) * fade;
    ctx.beginPath();
    for (const e of bucket) trace(ctx, e, k, ox, oy);
    ctx.stroke();
  });
  ctx.globalAlpha = 1;
  let count = 0;
  const dots = Array.from({ length: 16 }, () => []), pictures = [];
  for (let i = 0; i < N; i++) {
    if (!shown[i]) continue;
    const x = X[i] * k + ox, y = Y[i] * k + oy, side = SIDE[i] * k;
    if (x < -side || x > wide + side || y < -side || y > high + side) continue;
    count++;
    if (searching && !matched[i]) { ctx.globalAlpha = .22; ctx.fillStyle = colours.quiet; ctx.fillRect(x - side * .3, y - side * .3, side * .6, side * .6); ctx.globalAlpha = 1; }
    else if (SPACING * k < DOTS) dots[Math.min(15, Math.floor(nodes.reliability[i] * 16))].push(x, y, side);
    else pictures.push(i);
  }
  dots.forEach((list, b) => {
    ctx.fillStyle = ramp[b];
    ctx.beginPath();
    for (let d = 0; d < list.length; d += 3) ctx.rect(list[d] - list[d + 2] / 2, list[d + 1] - list[d + 2] / 2, list[d + 2], list[d + 2]);
    ctx.fill();
  });
  for (const i of pictures) {
    const x = X[i] * k + ox, y = Y[i] * k + oy, side = SIDE[i] * k;
    draw_node(ctx, i, x, y, side);
    if (SPACING * k >= (label_of(i) ? CAPTIONS : CAPTIONS * 1.6)) caption(ctx, i, x, y, side, SPACING * k - 6);
  }
  edges_drawn = taken;
  Object.assign(drawn, { k, x: view.x, y: view.y, nodes: count, edges: taken.length, capped });
  stale = false;
}
function draw() {
  if (view_kind !== "nodes" || !stage.w) return;
  const { w, h, dpr } = stage, ctx = screen, moved_x = view.x - drawn.x, moved_y = view.y - drawn.y;
  if (stale || (view.k === drawn.k && Math.max(Math.abs(moved_x), Math.abs(moved_y)) > MARGIN)) draw_scene();
  const s = view.k / drawn.k;
  // a drawn point p (with the margin) is now at (p - MARGIN - drawn.x) * s + view.x
  const left = view.x - (MARGIN + drawn.x) * s, upper = view.y - (MARGIN + drawn.y) * s;
  if (s === 1) {
    // whole pixels are copied, not sampled
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.drawImage(scene, Math.round(left * dpr), Math.round(upper * dpr));
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
  } else {
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.fillStyle = colours.bg; ctx.fillRect(0, 0, w, h);
    ctx.drawImage(scene, left, upper, (w + 2 * MARGIN) * s, (h + 2 * MARGIN) * s);
  }
  const focus = over || chosen;
  if (focus?.kind === "node" && shown[focus.at]) draw_focus(ctx, focus.at);
  else if (focus?.kind === "edge") draw_edge(ctx, focus.at);
  if (chosen?.kind === "node" && shown[chosen.at] && !same(chosen, over)) outline(ctx, chosen.at);
  draw_band_names(ctx);
  const some = filters.links < most_links || drawn.capped ? `${drawn.edges.toLocaleString("en")} of ${E.toLocaleString("en")} links` : counted(drawn.edges, "link");
  const text = E ? some : "";
  if ($("level").textContent !== text) $("level").textContent = text;
}
function outline(ctx, i) {
  const { k } = view, side = SIDE[i] * k + 6;
  ctx.strokeStyle = colours.text; ctx.lineWidth = 2.5;
  ctx.strokeRect(X[i] * k + view.x - side / 2, Y[i] * k + view.y - side / 2, side, side);
}
function dim(ctx) { ctx.fillStyle = colours.bg; ctx.globalAlpha = .62; ctx.fillRect(0, 0, stage.w, stage.h); ctx.globalAlpha = 1; }
function draw_focus(ctx, i) {
  const { k } = view, near = new Map([[i, colours.text]]);
  dim(ctx);
  for (const [list, far, colour, dash] of [[up[i], edges.parent, colours.parent, []], [down[i], edges.child, colours.child, [6, 4]]]) {
    ctx.strokeStyle = colour; ctx.setLineDash(dash);
    list.forEach((e, n) => {
      const j = far[e];
      if (!shown[j]) return;
      if (n < 60) near.set(j, colour);
      ctx.globalAlpha = .25 + .7 * edges.consistency[e]; ctx.lineWidth = .6 + 1.9 * edges.consistency[e];
      ctx.beginPath(); trace(ctx, e, k, view.x, view.y); ctx.stroke();
    });
  }
  ctx.setLineDash([]); ctx.globalAlpha = 1;
  for (const j of siblings_of(i)) if (shown[j] && !near.has(j)) near.set(j, colours.quiet);
  for (const [j, colour] of [...near].reverse()) {
    const side = Math.max(SIDE[j] * k, j === i ? 30 : 12), x = X[j] * k + view.x, y = Y[j] * k + view.y;
    draw_node(ctx, j, x, y, side, colour);
    if (side >= 22 && SPACING * k >= 32) caption(ctx, j, x, y, side, Math.max(60, SPACING * k - 4));
  }
}
function draw_edge(ctx, e) {
  const { k } = view;
  if (!shown[edges.parent[e]] || !shown[edges.child[e]]) return;
  dim(ctx);
  ctx.strokeStyle = colours.accent; ctx.lineWidth = 3.5;
  ctx.beginPath(); trace(ctx, e, k, view.x, view.y); ctx.stroke();
  for (const j of [edges.parent[e], edges.child[e]]) draw_node(ctx, j, X[j] * k + view.x, Y[j] * k + view.y, Math.max(SIDE[j] * k, 24), colours.accent);
}
function draw_band_names(ctx) {
  const { k } = view;
  ctx.textAlign = "left"; ctx.textBaseline = "middle";
  for (const band of bands) {
    const top = band.top * k + view.y, bottom = band.bottom * k + view.y;
    if (bottom < 0 || top > stage.h) continue;
    const name = layers[band.layer].name, role = band.layer === top_layer ? " · output side" : band.layer === 0 ? " · input side" : "";
    ctx.font = '600 12px system-ui, "Liberation Sans", sans-serif';
    const text = `${clipped(ctx, name, 150)} · ${band.count.toLocaleString("en")}${role}`;
    const width = ctx.measureText(text).width + 30, x = Math.max(8, Math.min(extent.x * k + view.x - 10, stage.w - width - 8)), y = Math.max(16, Math.min(top - 14, stage.h - 16));
    ctx.fillStyle = colours.surface; ctx.globalAlpha = .88;
    ctx.beginPath(); ctx.roundRect(x, y - 11, width, 22, 7); ctx.fill(); ctx.globalAlpha = 1;
    mark(ctx, band.layer, x + 13, y, 5, false);
    ctx.fillStyle = colours.text; ctx.fillText(text, x + 24, y + .5);
  }
}
function fresh() { stale = true; redraw(); }
const frames = [];  // times of the page's own frames, for whoever measures it
function redraw() {
  if (scheduled || view_kind !== "nodes") return;
  scheduled = true;
  requestAnimationFrame(time => {
    scheduled = false;
    frames.push(time);
    if (frames.length > 2000) frames.splice(0, 1000);
    if (flight) step_flight(time);
    draw();
  });
}
function resized() {
  if (view_kind === "parts") { size_tiles(); lay_map(); return; }
  const box = $("canvas-box").getBoundingClientRect();
  if (!box.width || !box.height) return;
  const before = stage.w / stage.h, centre = { x: (stage.w / 2 - view.x) / view.k, y: (stage.h / 2 - view.y) / view.k };
  const was_fit = fitted;
  Object.assign(stage, { w: Math.max(50, box.width), h: Math.max(50, box.height), dpr: Math.min(2, devicePixelRatio || 1) });
  canvas.width = Math.round(stage.w * stage.dpr); canvas.height = Math.round(stage.h * stage.dpr);
  if (was_fit) { if (Math.abs(Math.log(stage.w / stage.h / before)) > .6) lay_out(); fit(false); }
  else { view.x = stage.w / 2 - centre.x * view.k; view.y = stage.h / 2 - centre.y * view.k; }
  fresh();
}
