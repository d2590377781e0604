// Pictures: sheets of tiles, the strip's photographs, and the patches that show a node or part best.

function picture(address, then) {
  const image = new Image();
  image.addEventListener("load", then);
  image.src = address;
  return image;
}
const usable = image => image && image.complete && image.naturalWidth > 0;
const waiting = new Set();  // what is painted again when a picture has arrived
function arrived() { for (const paint of [...waiting]) paint(); fresh(); }
/** Pictures that are decoded when they are first asked for. */
function on_demand(addresses = [], then = arrived) {
  const images = [];
  return k => images[k] ??= picture(addresses[k], () => then(k));
}
const node_sheet = on_demand(data.top_sheets), part_sheet = on_demand(data.part_patches?.sheets);
const photo = on_demand(strip?.pictures, m => { paint_thumb(m); if (m === current) paint_photo(); arrived(); });

/** Draws tile `t` of sheets; false while it has not arrived. */
function draw_tile(ctx, sheet_of, size, t, x, y, side) {
  const per = data.sheet * data.sheet, sheet = sheet_of(Math.floor(t / per)), k = t % per;
  if (!usable(sheet)) return false;
  ctx.drawImage(sheet, k % data.sheet * size, Math.floor(k / data.sheet) * size, size, size, x, y, side, side);
  return true;
}
/** Side of a thing's patches, px of the image. */
const side_of = ({ kind, at }) => kind === "part" ? data.part_patches.side : data.patch_side[at];
/** Cuts a patch out of a photograph of the strip. */
function draw_cut(ctx, m, thing, x, y, side) {
  const image = photo(m);
  if (!usable(image)) return false;
  const [px, py] = place_in(m, thing), s = image.naturalWidth / W, wide = side_of(thing);
  ctx.fillStyle = "#808080"; ctx.fillRect(x, y, side, side);
  ctx.drawImage(image, (px - wide / 2) * s, (py - wide / 2) * s, wide * s, wide * s, x, y, side, side);
  return true;
}

const known_patches = { part: new Map(), node: new Map() };
/** The patches that show a node or part best, best first: {name, score, draw}. */
function exemplars(thing) {
  const known = known_patches[thing.kind];
  if (!known.has(thing.at)) known.set(thing.at, find_exemplars(thing));
  return known.get(thing.at);
}
function find_exemplars(thing) {
  const { kind, at } = thing, given = kind === "part" ? data.part_patches : data;
  if (!data.top) return [];
  const first = kind === "part" ? given.first[at] : given.top_tile[at], sheet_of = kind === "part" ? part_sheet : node_sheet;
  if (first >= 0) return given.top[at].map(([name, score], k) => ({ name, score, draw: (ctx, x, y, side) => draw_tile(ctx, sheet_of, given.tile, first + k, x, y, side) }));
  if (!strip || kind === "part") return [];
  // left out of the sheets: the best ones of the strip
  const seen = Array.from({ length: M }, (_, m) => m).filter(m => share_in(m, thing) > 0).sort((a, b) => share_in(b, thing) - share_in(a, thing));
  return seen.slice(0, 8).map(m => ({ name: strip.names[m], score: share_in(m, thing), draw: (ctx, x, y, side) => draw_cut(ctx, m, thing, x, y, side) }));
}
/** Why there are none: what was not looked for is told from what was not found. */
function why_no_patches(thing) {
  if (!data.top) return "No pictures: the page was made without images.";
  if (strip && !strip.complete) return "Not among these images. The page was made without a parse, so it knows the images only that the graph remembers.";
  return `Found in none of the images.${thing.kind === "node" && !strip ? " (Less reliable nodes have no patches in a page without images below.)" : ""}`;
}

/** A canvas that is painted now, and again until `draw` has all it needs. */
function painted(name, w, h, draw) {
  const made = el("canvas", { class: name, "aria-hidden": "true" });
  made.width = w; made.height = h;
  const paint = () => {
    if (paint.tried && !made.isConnected) { waiting.delete(paint); return; }
    paint.tried = true;
    if (draw(made.getContext("2d"))) waiting.delete(paint);
  };
  waiting.add(paint);
  paint();
  return made;
}
/** One patch of a thing as a tile. */
function tile(thing, k = 0, pixels = 96) {
  const seen = exemplars(thing)[k];
  if (seen) return painted("tile", pixels, pixels, ctx => seen.draw(ctx, 0, 0, pixels));
  if (thing.kind === "part" && !data.top) return usual_places(thing.at, "tile", pixels);
  const dot = el("span", { class: "tile empty-tile" });
  if (thing.kind === "node") dot.style.background = shade(thing.at);
  return dot;
}
/** A patch with a ring at its middle: the very place, in what is around it. */
function ringed(ctx, one, x, y, side) {
  if (!one.draw(ctx, x, y, side)) return false;
  for (const [style, width] of [["#000a", 4.5], ["#fff", 2]]) {
    ctx.strokeStyle = style; ctx.lineWidth = width;
    ctx.beginPath(); ctx.arc(x + side / 2, y + side / 2, side * .13, 0, 7); ctx.stroke();
  }
  return true;
}
/** The best four patches in a square. */
function four(thing, name = "four", pixels = 288) {
  const seen = exemplars(thing).slice(0, 4), gap = 4, side = (pixels - gap) / 2;
  if (!seen.length && thing.kind === "part" && !data.top) return usual_places(thing.at, name, pixels);
  if (!seen.length) return el("span", { class: `${name} empty-tile`, text: data.top ? "not found in these images" : "no pictures" });
  // one alone fills the square
  if (seen.length === 1) return painted(name, pixels, pixels, ctx => ringed(ctx, seen[0], 0, 0, pixels));
  return painted(name, pixels, pixels, ctx => seen.map((one, k) => ringed(ctx, one, k % 2 * (side + gap), Math.floor(k / 2) * (side + gap), side)).every(Boolean));
}
/** In a page without images: where a part's nodes usually are in one, among all others. */
function usual_places(k, name, pixels) {
  return painted(name, pixels, pixels, ctx => {
    const scale = pixels / Math.max(W, H), left = (pixels - W * scale) / 2, upper = (pixels - H * scale) / 2;
    const dot = (i, r) => { ctx.beginPath(); ctx.arc(left + nodes.x[i] * scale, upper + nodes.y[i] * scale, r, 0, 7); ctx.fill(); };
    ctx.fillStyle = "#8886"; ctx.fillRect(left, upper, W * scale, H * scale);
    for (let i = 0; i < N; i++) if (part_of[i] >= 0) dot(i, pixels / 110);
    ctx.fillStyle = part_colour(lead(k)); ctx.strokeStyle = "#000"; ctx.lineWidth = pixels / 300;
    for (const i of nodes_of(k)) { dot(i, pixels / 45); ctx.stroke(); }
    return true;
  });
}
/** The eight that a tip shows. */
function eight(thing) {
  return el("div", { class: "eight" }, ...exemplars(thing).map((_, k) => tile(thing, k)));
}
