// Making elements, the signs of parts and layers, colours, tips.

function el(tag, { text, class: name, dir, title, click, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (dir) made.dir = dir;
  if (title) made.title = title;
  if (click) made.addEventListener("click", click);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter(Boolean));
  return made;
}
const SVG = document.getElementById("map-lines").namespaceURI;
function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function say(text) { $("said").textContent = text; }

// Okabe and Ito's, which colour-blind people can tell apart; the same as in figures
const PALETTE = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#999999"];
const layer_colour = l => PALETTE[(top_layer - l) % 7];
const part_number = k => /^p\d+$/.test(parts.id[k]) ? Number(parts.id[k].slice(1)) : k + 1;
const part_colour = k => PALETTE[(part_number(k) - 1) % PALETTE.length];
function ink_on(colour) {
  const [r, g, b] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
  return .299 * r + .587 * g + .114 * b > 100 ? "#000" : "#fff";
}
function badge(k) {
  const made = el("span", { class: "badge", text: String(part_number(k)), "aria-hidden": "true" });
  made.style.background = part_colour(k);
  made.style.color = ink_on(part_colour(k));
  return made;
}

let colours = {}, ramp = [];
function read_theme() {
  const style = getComputedStyle(document.documentElement);
  colours = Object.fromEntries(["bg", "surface", "text", "quiet", "line", "accent", "band", "parent", "child", "edge", "track"].map(name => [name, style.getPropertyValue(`--${name}`).trim()]));
  const dark = document.documentElement.dataset.theme === "dark";
  // one hue; more reliable is farther from the background, so lightness alone tells
  const stops = dark ? [[58, 70, 84], [58, 128, 184], [166, 220, 255]] : [[201, 213, 224], [96, 156, 201], [4, 70, 126]];
  ramp = Array.from({ length: 16 }, (_, k) => {
    const t = k / 15 * 2, low = stops[t < 1 ? 0 : 1], high = stops[t < 1 ? 1 : 2], s = t < 1 ? t : t - 1;
    return `rgb(${low.map((v, c) => Math.round(v + s * (high[c] - v))).join(",")})`;
  });
  $("ramp").style.background = `linear-gradient(90deg, ${ramp.join(",")})`;
}
const shade = i => ramp[Math.min(15, Math.floor(nodes.reliability[i] * 16))];

/** A layer's sign: a colour and a shape of its own. */
function mark(ctx, layer, x, y, r, ring) {
  ctx.beginPath();
  switch ((top_layer - layer) % 4) {
    case 0: ctx.arc(x, y, r, 0, 7); break;
    case 1: ctx.rect(x - r * .88, y - r * .88, r * 1.76, r * 1.76); break;
    case 2: ctx.moveTo(x, y - r * 1.2); ctx.lineTo(x + r * 1.15, y + r * .85); ctx.lineTo(x - r * 1.15, y + r * .85); ctx.closePath(); break;
    default: ctx.moveTo(x, y - r * 1.25); ctx.lineTo(x + r * 1.25, y); ctx.lineTo(x, y + r * 1.25); ctx.lineTo(x - r * 1.25, y); ctx.closePath();
  }
  ctx.fillStyle = layer_colour(layer); ctx.fill();
  ctx.lineWidth = ring ? Math.max(1, r * .22) : 1; ctx.strokeStyle = ring ? "#000c" : "#0006"; ctx.stroke();
}
/** A disc with a number in it. */
function numbered(ctx, text, colour, x, y, r) {
  ctx.beginPath(); ctx.arc(x, y, r, 0, 7);
  ctx.fillStyle = colour; ctx.fill();
  ctx.lineWidth = Math.max(1.5, r * .14); ctx.strokeStyle = "#000"; ctx.stroke();
  ctx.font = `700 ${Math.round(r * (text.length > 2 ? .8 : 1.1))}px system-ui, "Liberation Sans", sans-serif`;
  ctx.textAlign = "center"; ctx.textBaseline = "middle";
  ctx.fillStyle = ink_on(colour); ctx.fillText(text, x, y + r * .06);
}
/** Moves points as little as it takes for each to be `apart` from all others, within w × h. */
function spread(points, apart, w, h) {
  const keep = ([x, y]) => [Math.min(w - apart / 2, Math.max(apart / 2, x)), Math.min(h - apart / 2, Math.max(apart / 2, y))];
  // of the same place each goes another way
  let at = points.map((p, k) => { const [x, y] = keep(p); return [x + .02 * apart * Math.cos(2.4 * k), y + .02 * apart * Math.sin(2.4 * k)]; });
  for (let turn = 0; turn < 300; turn++) {
    let moved = false;
    const push = at.map(() => [0, 0]);
    for (let a = 0; a < at.length; a++) for (let b = 0; b < a; b++) {
      const dx = at[a][0] - at[b][0], dy = at[a][1] - at[b][1], d = Math.hypot(dx, dy) || 1e-9, near = apart - d;
      if (near < .5) continue;
      moved = true;
      push[a][0] += dx / d * near / 2; push[a][1] += dy / d * near / 2;
      push[b][0] -= dx / d * near / 2; push[b][1] -= dy / d * near / 2;
    }
    if (!moved) break;
    at = at.map(([x, y], k) => keep([x + push[k][0], y + push[k][1]]));
  }
  return at;
}

function bar(value, colour) { const filled = el("i"); filled.style.width = `${Math.round(100 * Math.max(0, Math.min(1, value)))}%`; filled.style.background = colour; return filled; }
function meter(name, value, help) {
  return [el("span", { class: "help", title: help, text: name }), el("span", { class: "meter" }, bar(value, colours.accent)), el("span", { class: "v", text: percent(value) })];
}
function fact(name, text, help) { return [el("span", { class: help ? "help" : "", title: help, text: name }), el("span", { class: "wide", text })]; }
function section(heading, note, content, kind = "items") {
  return el("section", {}, el("h3", { text: heading }), note && el("p", { class: "quiet", text: note }), el("div", { class: kind }, ...content));
}

/** Shows what is known of a thing beside the pointer, or beside an element. */
function show_tip(content, x, y) {
  const tip = $("tip");
  tip.replaceChildren(...content.filter(Boolean));
  tip.hidden = false;
  move_tip(x, y);
}
function move_tip(x, y) {
  const tip = $("tip"), w = innerWidth, h = innerHeight;
  tip.style.left = `${x + 18 + tip.offsetWidth > w - 6 ? Math.max(4, x - tip.offsetWidth - 14) : x + 18}px`;
  tip.style.top = `${Math.max(4, Math.min(h - tip.offsetHeight - 6, y + 14))}px`;
}
function hide_tip() { $("tip").hidden = true; }
