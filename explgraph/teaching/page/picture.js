// The image: rings and pins on it, zoom, the loupe, and what mouse, pen and fingers do to it.
// Places are px of the image as the network saw it; the picture is drawn in its own proportions.

import { $, el, svg, colour_of, badge } from "./elements.js";
import { state } from "./state.js";

const NEAR = 16; // screen px from which a pin is taken hold of
const STILL = 4; // screen px that a click may slip
const FARTHEST = 1, NEAREST = 16; // zoom
const LOUPE = 132, TIMES = 2.5; // screen px; magnification

const stage = $("stage"), picture = $("picture"), photo = $("photo"), loupe = $("loupe");
let view = { zoom: 1, x: 0, y: 0 }; // what of the picture is in the middle of the stage, px from its own
let pins = []; // { part, k, place, radius, by }
let handlers = { place() {}, started() {}, active: () => null };
let shown = null; // row

/** Says who is told of placing: `place(part, place)` in the end, `started()` when a pointer is down, `active()` gives the part. */
export function handle(them) { handlers = them; }

/** Loads an image; true once it is there, unless another was asked for meanwhile. */
export async function open(row, name) {
  shown = row;
  stage.setAttribute("aria-busy", "true");
  stage.setAttribute("aria-label", `Image ${name}`);
  draw([]);
  photo.src = `image/${row}`;
  try { await photo.decode(); } catch { /* replaced by another, or not to be read: the alternative text says so */ }
  if (shown !== row) return false;
  photo.alt = photo.naturalWidth ? "" : `${name} can't be shown`;
  stage.removeAttribute("aria-busy");
  reset();
  return true;
}

// --- zoom

function fitted() {
  const w = stage.clientWidth, h = stage.clientHeight, ratio = (photo.naturalWidth || 1) / (photo.naturalHeight || 1);
  return w / h > ratio ? [h * ratio, h] : [w, w / ratio];
}
function lay_out() {
  const [w, h] = fitted().map(side => side * view.zoom), sw = stage.clientWidth, sh = stage.clientHeight;
  // no farther than the picture's edge in the stage's
  const slack = [Math.max(0, (w - sw) / 2), Math.max(0, (h - sh) / 2)];
  view.x = Math.min(slack[0], Math.max(-slack[0], view.x)); view.y = Math.min(slack[1], Math.max(-slack[1], view.y));
  Object.assign(picture.style, { width: `${w}px`, height: `${h}px`, left: `${(sw - w) / 2 + view.x}px`, top: `${(sh - h) / 2 + view.y}px` });
}
function reset() { view = { zoom: 1, x: 0, y: 0 }; lay_out(); }
/** Zooms by a factor, around a point of the stage. */
export function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const next = Math.min(NEAREST, Math.max(FARTHEST, view.zoom * factor)), by = next / view.zoom;
  const dx = x - stage.clientWidth / 2, dy = y - stage.clientHeight / 2;
  view = { zoom: next, x: dx + (view.x - dx) * by, y: dy + (view.y - dy) * by };
  lay_out();
}
export function zoom_out() { reset(); }
new ResizeObserver(lay_out).observe(stage);

const clamped = ([x, y]) => [Math.min(state.size[0], Math.max(0, x)), Math.min(state.size[1], Math.max(0, y))];
/** Where a point of the screen is in the network's image. */
function place_at(event) {
  const box = picture.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * state.size[0], (event.clientY - box.top) / box.height * state.size[1]];
}
function screen_of([x, y]) {
  const box = picture.getBoundingClientRect();
  return [box.left + x / state.size[0] * box.width, box.top + y / state.size[1] * box.height];
}

// --- rings and pins

/** Draws what is known: `pins` are { part, k, place, ring: { place, radius }, by, active }. */
export function draw(them) {
  pins = them;
  const [w, h] = state.size, rings = $("rings");
  rings.setAttribute("viewBox", `0 0 ${w} ${h}`);
  rings.replaceChildren(...pins.filter(pin => pin.ring && pin.ring.radius).flatMap(({ ring, k, by, place }) => {
    const at = { cx: ring.place[0], cy: ring.place[1], r: ring.radius, class: by === "guess" && place ? "ring" : "ring old" };
    return [svg("circle", { ...at, class: `${at.class} under` }), svg("circle", { ...at, stroke: colour_of(k) })];
  }));
  $("pins").replaceChildren(...pins.filter(pin => pin.place).map(({ place, k, by, active }) => {
    const pin = el("div", { class: `pin ${by}${active ? " active" : ""}` }, pins.length > 1 && badge(k));
    pin.style.left = `${100 * place[0] / w}%`; pin.style.top = `${100 * place[1] / h}%`;
    pin.style.setProperty("--part", colour_of(k));
    return pin;
  }));
}

function show_loupe(event, place, k) {
  const dense = devicePixelRatio || 1, side = LOUPE * dense, box = stage.getBoundingClientRect();
  loupe.width = loupe.height = side;
  const ctx = loupe.getContext("2d"), scale = photo.naturalWidth / picture.getBoundingClientRect().width; // its px for one of the screen
  const wide = LOUPE / TIMES * scale, x = place[0] / state.size[0] * photo.naturalWidth, y = place[1] / state.size[1] * photo.naturalHeight;
  ctx.fillStyle = "#777"; ctx.fillRect(0, 0, side, side);
  ctx.drawImage(photo, x - wide / 2, y - wide / 2, wide, wide, 0, 0, side, side);
  const arm = 13 * dense, gap = 3 * dense, c = side / 2;
  for (const [colour, width] of [["#000c", 4], [colour_of(k), 2]]) {
    ctx.strokeStyle = colour; ctx.lineWidth = width * dense; ctx.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) { ctx.moveTo(c + gap * dx, c + gap * dy); ctx.lineTo(c + arm * dx, c + arm * dy); }
    ctx.stroke();
  }
  let left = event.clientX - box.left - LOUPE / 2, top = event.clientY - box.top - LOUPE - 36;
  if (top < 4) { top = Math.max(4, event.clientY - box.top - LOUPE / 2); left += left + LOUPE / 2 > box.width / 2 ? -LOUPE / 2 - 50 : LOUPE / 2 + 50; }
  Object.assign(loupe.style, { left: `${Math.min(box.width - LOUPE - 4, Math.max(4, left))}px`, top: `${top}px` });
  loupe.hidden = false;
}

// --- pointers: one places, two zoom and move, one with Space or the middle button moves

const down = new Map(); // pointer -> [x, y]
let placing = null; // { id, part, k, from, grabbed }
let moving = null; // id of a pointer that moves the picture
let space = false;
addEventListener("keydown", event => { if (event.key === " ") space = true; });
addEventListener("keyup", event => { if (event.key === " ") space = false; });

function nearest(event) {
  const near = pins.filter(pin => pin.place).map(pin => { const [x, y] = screen_of(pin.place); return { pin, far: Math.hypot(x - event.clientX, y - event.clientY) }; });
  near.sort((a, b) => a.far - b.far);
  return near.length && near[0].far < NEAR ? near[0].pin : null;
}
function within(event) {
  const box = picture.getBoundingClientRect(), slack = 12;
  return event.clientX > box.left - slack && event.clientX < box.right + slack && event.clientY > box.top - slack && event.clientY < box.bottom + slack;
}
function give_up() { if (placing) { placing = null; loupe.hidden = true; handlers.place(null, null, false); } }

stage.addEventListener("pointerdown", event => {
  if (event.target.closest("button") || stage.hasAttribute("aria-busy")) return;
  down.set(event.pointerId, [event.clientX, event.clientY]);
  stage.setPointerCapture(event.pointerId);
  if (down.size === 2) { give_up(); return; }
  if (event.button === 1 || (event.button === 0 && space)) { moving = event.pointerId; event.preventDefault(); return; }
  if (event.button !== 0 || down.size > 2 || !within(event)) return;
  const active = handlers.active();
  if (!active) return;
  stage.focus({ preventScroll: true });
  handlers.started();
  const grabbed = nearest(event), other = grabbed && grabbed.part !== active.part;
  // on another part's pin it is not known yet whether that is to be dragged, or this part put there
  placing = { id: event.pointerId, ...active, from: [event.clientX, event.clientY], grabbed: other ? grabbed : null };
  move_to(event);
});
function move_to(event) {
  const place = clamped(place_at(event));
  show_loupe(event, place, placing.k);
  if (!placing.grabbed) handlers.place(placing.part, place, false);
}
stage.addEventListener("pointermove", event => {
  const before = down.get(event.pointerId);
  if (!before) return;
  const now = [event.clientX, event.clientY];
  if (down.size === 2) {
    const [a, b] = [...down.entries()].map(([id, at]) => id === event.pointerId ? [at, now] : [at, at]);
    const gap = which => Math.hypot(a[which][0] - b[which][0], a[which][1] - b[which][1]), box = stage.getBoundingClientRect();
    view.x += (now[0] - before[0]) / 2; view.y += (now[1] - before[1]) / 2;
    zoom(gap(1) / Math.max(1, gap(0)), (a[1][0] + b[1][0]) / 2 - box.left, (a[1][1] + b[1][1]) / 2 - box.top);
  } else if (moving === event.pointerId) {
    view.x += now[0] - before[0]; view.y += now[1] - before[1]; lay_out();
  } else if (placing && placing.id === event.pointerId) {
    if (placing.grabbed && Math.hypot(now[0] - placing.from[0], now[1] - placing.from[1]) > STILL) Object.assign(placing, { part: placing.grabbed.part, k: placing.grabbed.k, grabbed: null });
    move_to(event);
  }
  down.set(event.pointerId, now);
});
function up(event) {
  down.delete(event.pointerId);
  if (moving === event.pointerId) moving = null;
  if (!placing || placing.id !== event.pointerId) return;
  const { part } = placing;
  placing = null; loupe.hidden = true;
  handlers.place(part, clamped(place_at(event)), true);
}
stage.addEventListener("pointerup", up);
stage.addEventListener("pointercancel", event => { down.delete(event.pointerId); if (moving === event.pointerId) moving = null; if (placing && placing.id === event.pointerId) give_up(); });
stage.addEventListener("wheel", event => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? .05 : .0015)), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
stage.addEventListener("auxclick", event => event.preventDefault());
$("closer").addEventListener("click", () => zoom(1.5));
$("farther").addEventListener("click", () => zoom(1 / 1.5));
