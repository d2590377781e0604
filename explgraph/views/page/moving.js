// Moving about the canvas of nodes: by pointer, wheel and keys.

let fitted = true, flight = null;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
function fit_view() {
  const room = { w: stage.w - 40, h: stage.h - 92 };
  const k = Math.min(2.2, room.w / extent.w, room.h / extent.h);
  return { k, x: stage.w / 2 - (extent.x + extent.w / 2) * k, y: 36 + room.h / 2 - (extent.y + extent.h / 2) * k };
}
function fit(smooth = true) { go(fit_view(), smooth); fitted = true; }
function go(target, smooth) {
  fitted = false;
  if (!smooth || calm.matches || document.hidden) { Object.assign(view, target); flight = null; fresh(); return; }
  flight = { from: { ...view }, to: target, start: null };
  redraw();
}
function step_flight(time) {
  flight.start ??= time;
  const t = Math.min(1, (time - flight.start) / 280), s = 1 - (1 - t) ** 3, { from, to } = flight;
  // the centre of the window moves evenly while the scale changes by even factors
  const k = from.k * (to.k / from.k) ** s, cx = stage.w / 2, cy = stage.h / 2;
  const wx = ((cx - from.x) / from.k) * (1 - s) + ((cx - to.x) / to.k) * s, wy = ((cy - from.y) / from.k) * (1 - s) + ((cy - to.y) / to.k) * s;
  Object.assign(view, { k, x: cx - wx * k, y: cy - wy * k });
  if (t === 1) { Object.assign(view, to); flight = null; stale = true; }
  redraw();
}
function zoom(factor, x = stage.w / 2, y = stage.h / 2) {
  const k = Math.min(8, Math.max(Math.min(.05, fit_view().k * .5), view.k * factor)), s = k / view.k;
  fitted = false; flight = null;
  Object.assign(view, { k, x: x - (x - view.x) * s, y: y - (y - view.y) * s });
  clearTimeout(settle);
  settle = setTimeout(fresh, 110);  // sharp again when the zoom has come to rest
  if (view.k / drawn.k > 2.5 || view.k / drawn.k < .7) stale = true;
  redraw();
}
function pan(dx, dy) {
  fitted = false; flight = null;
  view.x += dx; view.y += dy;
  const keep = 60;  // px of the graph that stay in sight
  view.x = Math.min(stage.w - keep - extent.x * view.k, Math.max(keep - (extent.x + extent.w) * view.k, view.x));
  view.y = Math.min(stage.h - keep, Math.max(keep - extent.h * view.k, view.y));
  redraw();
}
function show_node(i) {
  const k = Math.max(view.k, 16 / SIDE[i]), x = X[i] * view.k + view.x, y = Y[i] * view.k + view.y;
  if (k === view.k && x > 40 && y > 40 && x < stage.w - 40 && y < stage.h - 60) { redraw(); return; }
  // in the middle, but not so that half of the window is empty
  const within = (middle, low, size, room) => size * k <= room ? room / 2 - (low + size / 2) * k : Math.min(30 - low * k, Math.max(room - 30 - (low + size) * k, room / 2 - middle * k));
  go({ k, x: within(X[i], extent.x, extent.w, stage.w), y: within(Y[i], extent.y, extent.h, stage.h) }, true);
}
function node_at(x, y, slack = 4) {
  let best = -1, least = Infinity;
  for (let i = 0; i < N; i++) {
    if (!shown[i]) continue;
    const dx = Math.abs(X[i] * view.k + view.x - x), dy = Math.abs(Y[i] * view.k + view.y - y), reach = SIDE[i] * view.k / 2 + slack;
    if (dx <= reach && dy <= reach && dx + dy < least) { least = dx + dy; best = i; }
  }
  return best;
}
/** The edge at a point: of those that are drawn, or of the chosen node. */
function edge_at(x, y, slack = 5) {
  const near = chosen?.kind === "node" ? [...up[chosen.at], ...down[chosen.at]].filter(e => shown[edges.parent[e]] && shown[edges.child[e]]) : edges_drawn;
  let best = -1, least = slack;
  for (const e of near) {
    const { x0, y0, x1, y1, bend } = bow(e, view.k, view.x, view.y);
    if (x < Math.min(x0, x1) - slack || x > Math.max(x0, x1) + slack || y < Math.min(y0, y1) - slack || y > Math.max(y0, y1) + slack) continue;
    for (let n = 0, px = x0, py = y0; n < 16; n++) {
      const t = (n + 1) / 16, s = 1 - t, a = s * s * s, b = 3 * s * s * t, c = 3 * s * t * t, d = t * t * t;
      const qx = (a + b) * x0 + (c + d) * x1, qy = a * y0 + b * (y0 + bend) + c * (y1 - bend) + d * y1;
      const wx = qx - px, wy = qy - py, along = Math.max(0, Math.min(1, ((x - px) * wx + (y - py) * wy) / (wx * wx + wy * wy || 1)));
      const off = Math.hypot(px + along * wx - x, py + along * wy - y);
      if (off < least) { least = off; best = e; }
      px = qx; py = qy;
    }
  }
  return best;
}
function thing_at(x, y, slack = 4) {
  const i = node_at(x, y, slack);
  if (i >= 0) return { kind: "node", at: i };
  const e = edge_at(x, y, slack + 1);
  return e >= 0 ? { kind: "edge", at: e } : null;
}
function point_at(thing, event) {
  canvas.classList.toggle("over", thing !== null);
  if (!thing) hover(null);
  else if (same(thing, over)) move_tip(event.clientX, event.clientY);
  else tell(thing, event.clientX, event.clientY);
}
const pointers = new Map();
let press = null;
const at_stage = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.addEventListener("pointerdown", event => {
  if (event.button > 0) return;
  canvas.setPointerCapture(event.pointerId);
  const [x, y] = at_stage(event);
  pointers.set(event.pointerId, [x, y]);
  press = { x, y, moved: pointers.size > 1 };
});
canvas.addEventListener("pointermove", event => {
  const [x, y] = at_stage(event), last = pointers.get(event.pointerId);
  if (!last) { if (event.pointerType !== "touch") point_at(thing_at(x, y), event); return; }
  if (Math.hypot(x - press.x, y - press.y) > 4) { press.moved = true; point_at(null, event); canvas.classList.add("moving"); }
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const before = Math.hypot(last[0] - other[0], last[1] - other[1]), now = Math.hypot(x - other[0], y - other[1]);
    if (before > 0 && now > 0) zoom(now / before, (x + other[0]) / 2, (y + other[1]) / 2);
    pan((x - last[0]) / 2, (y - last[1]) / 2);
  } else if (press.moved) pan(x - last[0], y - last[1]);
  pointers.set(event.pointerId, [x, y]);
});
function lifted(event) {
  if (!pointers.delete(event.pointerId)) return;
  canvas.classList.remove("moving");
  if (press && !press.moved && event.type === "pointerup") {
    const thing = thing_at(press.x, press.y, event.pointerType === "touch" ? 10 : 4);
    if (thing || !merging) choose(thing);
  }
  if (!pointers.size && press && press.moved) fresh();
}
canvas.addEventListener("pointerup", lifted);
canvas.addEventListener("pointercancel", lifted);
canvas.addEventListener("pointerleave", event => { if (!pointers.size) point_at(null, event); });
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const [x, y] = at_stage(event), unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? 300 : 1;
  if (event.shiftKey) pan(-(event.deltaY || event.deltaX) * unit, 0); else zoom(Math.exp(-Math.max(-60, Math.min(60, event.deltaY * unit)) * .004), x, y);
}, { passive: false });
canvas.addEventListener("dblclick", event => zoom(1.8, ...at_stage(event)));

