// The strip of images, and one image with numbered markers that are tied to tiles.

const thumbs = [];
let photos_wanted = false;  // the tiles come first
const LEAST = .15;  // presence of a part that is said to be there; as in figures
const THUMB = 168, LARGE = 880;
const image_view = { what: P ? "part" : "node", most: DOZEN, dots: [] };
/** The part or node that the strip shows in every image: the chosen one. */
const followed = () => chosen?.kind === "part" || chosen?.kind === "node" ? chosen : null;
/** A thing in an image: of merged parts the surest one there. */
const here = (m, { kind, at }) => kind === "part" ? { kind, at: surest_member(m, at) } : { kind, at };
const colour_of = ({ kind, at }) => kind === "part" ? part_colour(at) : layer_colour(nodes.layer[at]);

function build_strip() {
  if (!strip) return;
  $("strip").hidden = false;
  strip.names.forEach((name, m) => {
    const drawing = el("canvas"), button = el("button", { title: short(name, 200), "aria-label": `image ${short(name, 200)}`, "aria-pressed": "false", click: () => choose_image(m) }, drawing);
    drawing.width = THUMB; drawing.height = Math.round(THUMB * H / W);
    thumbs.push({ button, drawing, ctx: drawing.getContext("2d") });
    $("thumbs").append(button);
  });
  paint_thumbs();
}
function paint_thumb(m) {
  const thumb = thumbs[m], thing = followed();
  if (!thumb || !photos_wanted || !usable(photo(m))) return;
  const { ctx, drawing, button } = thumb, found = thing && here(m, thing), s = found ? share_in(m, found) : 0;
  ctx.globalAlpha = 1;
  ctx.drawImage(photo(m), 0, 0, drawing.width, drawing.height);
  button.classList.toggle("faint", thing !== null && s < .1 && strip.complete);
  if (!s) return;
  const [x, y] = place_in(m, found), scale = THUMB / W;
  ctx.globalAlpha = .35 + .65 * s;
  ctx.strokeStyle = "#000c"; ctx.lineWidth = 7; ctx.beginPath(); ctx.arc(x * scale, y * scale, 13, 0, 7); ctx.stroke();
  ctx.strokeStyle = colour_of(thing); ctx.lineWidth = 4; ctx.stroke();
  ctx.globalAlpha = 1;
}
function paint_thumbs() {
  if (!strip) return;
  const thing = followed();
  for (let m = 0; m < M; m++) { paint_thumb(m); thumbs[m].button.setAttribute("aria-pressed", String(m === current)); }
  const order = thumbs.map((_, m) => m), sure = m => share_in(m, here(m, thing));
  if ($("best-first").checked && thing) order.sort((a, b) => sure(b) - sure(a) || a - b);
  const wanted = order.map(m => thumbs[m].button);
  if (wanted.some((button, k) => $("thumbs").children[k] !== button)) $("thumbs").append(...wanted);
  $("best-first").disabled = !thing;
  $("strip-title").textContent = thing ? `${short(title_of(thing), 80)} in ${strip.of > M ? `${M} of ${strip.of} images` : "every image"}` : "Images";
  const of = strip.of > M ? `${M} of ${strip.of}` : `${M}`;
  $("strip-note").textContent = thing ? (strip.complete ? "fainter: less sure" : "known only where it was seen best") : `${of}; choose one to see what is where in it`;
}
function choose_image(m) {
  current = m;
  panel_tab = "image";
  $("panel").hidden = false;
  document.body.classList.add("reading");
  show_panel(); paint_thumbs(); resized();
  thumbs[m].button.scrollIntoView({ block: "nearest", inline: "nearest" });
  say(`image ${strip.names[m]}`);
}
/** What an image shows, the surest first, far enough from each other to be told apart. */
function found_in(m) {
  const found = [], apart = Math.min(W, H) * .06;
  if (image_view.what === "part") {
    for (const k of shown_parts()) {
      if (is_out(k)) continue;
      const thing = { kind: "part", at: k }, s = share_in(m, here(m, thing));
      if (s >= LEAST) found.push({ thing, s, place: place_in(m, here(m, thing)), number: String(part_number(k)) });
    }
    return found.sort((a, b) => b.s - a.s);
  }
  const sure = [];
  for (let i = 0; i < N; i++) {
    const s = share_in(m, { kind: "node", at: i });
    if (s > .05 && !is_rejected(i) && (view_kind === "parts" || shown[i])) sure.push([i, s]);
  }
  sure.sort(([i, s], [j, r]) => r * (.02 + nodes.reliability[j]) - s * (.02 + nodes.reliability[i]));
  for (const [i, s] of sure) {
    const thing = { kind: "node", at: i }, place = place_in(m, thing);
    if (image_view.most <= DOZEN && found.some(one => Math.hypot(one.place[0] - place[0], one.place[1] - place[1]) < apart)) continue;
    found.push({ thing, s, place, number: String(found.length + 1) });
    if (found.length === image_view.most) break;
  }
  return found;
}
function show_image() {
  const panel = $("image"), m = current;
  if (m < 0) { panel.replaceChildren(el("p", { class: "empty", text: "Choose an image in the strip below." })); return; }
  const photograph = el("canvas", { class: "photo", id: "photo", role: "img", "aria-label": `image ${short(strip.names[m], 200)} with what was found in it; the list below says the same` });
  photograph.width = LARGE; photograph.height = Math.round(LARGE * H / W);
  photograph.addEventListener("pointermove", event => { const thing = dot_at(photograph, event); photograph.classList.toggle("on-dot", thing !== null); if (thing) { if (same(thing, over)) move_tip(event.clientX, event.clientY); else tell(thing, event.clientX, event.clientY); } else hover(null); });
  photograph.addEventListener("pointerleave", () => hover(null));
  photograph.addEventListener("click", event => { const thing = dot_at(photograph, event); if (thing) choose(thing, "image"); });
  const step = by => choose_image((m + by + M) % M), found = found_in(m);
  const kinds = P ? el("div", { class: "row", role: "group", "aria-label": "What is marked" }, ...[["part", "Parts"], ["node", "Nodes"]].map(([what, text]) => el("button", { text, "aria-pressed": String(image_view.what === what), click: () => { image_view.what = what; show_panel(); } }))) : null;
  const slider = el("input", { type: "range", min: "1", max: String(Math.max(1, Math.min(200, N))), step: "1", id: "most" }), shows = el("output", { text: String(image_view.most) });
  slider.value = String(image_view.most);
  slider.addEventListener("input", () => { image_view.most = Number(slider.value); shows.textContent = slider.value; paint_photo(); list_here(m); });
  panel.replaceChildren(...[photograph, el("div", { class: "photo-name", text: strip.names[m], dir: "auto" }),
    el("div", { class: "row" }, el("button", { text: "‹ Previous", title: "Previous image ([)", click: () => step(-1) }), el("button", { text: "Next ›", title: "Next image (])", click: () => step(1) }), kinds),
    el("p", { class: "quiet", text: found.length ? "Each number is where the part of this number was found; the fainter, the less sure. Point at a number or a row: the other one lights up." .replace(/part/g, image_view.what) : "" }),
    image_view.what === "node" && el("div", { class: "field" }, el("label", { for: "most", text: "Surest nodes" }), slider, shows),
    followed() && el("section", {}, el("h3", { text: `Chosen ${chosen.kind}` }), el("div", { class: "items" }, el("button", { class: "item", click: () => { panel_tab = "thing"; show_panel(); } }, tile(chosen), el("span", { class: "what" }, el("b", { text: short(title_of(chosen), 200), dir: "auto" }), el("span", { text: here_text(m, chosen) })), el("span", { class: "quiet", text: "details ›" })))),
    el("section", {}, el("h3", { text: "Found here" }), el("div", { class: "items", id: "here" })),
    el("p", { class: "quiet", id: "not-here" })].filter(Boolean));
  paint_photo(); list_here(m);
}
/** How sure it is in an image; what was not looked for is told from what was not found. */
function here_text(m, thing) {
  const s = share_in(m, here(m, thing));
  if (s < (thing.kind === "part" ? LEAST : .004)) return strip.complete ? "not found here" : "not known here (no parse)";
  return thing.kind === "part" && strip.complete ? `here, ${percent(s)} sure` : `here ${percent(s)} of its best`;
}
function list_here(m) {
  const found = found_in(m), rows = found.map(({ thing, s, number }) => () => {
    const row = item(thing, here_text(m, thing), s, colour_of(thing), thing.kind === "part" ? "presence" : "share of its best score");
    if (thing.kind === "node") row.querySelector("b").prepend(`${number}: `); else row.querySelector("b").before(badge(thing.at));
    row.addEventListener("pointerenter", () => hover(thing));
    row.addEventListener("pointerleave", () => hover(null));
    row.addEventListener("focus", () => { if (row.matches(":focus-visible")) hover(thing); });
    return row;
  });
  $("here").replaceChildren(...few_of(rows, 2 * DOZEN));
  const missing = image_view.what === "part" ? shown_parts().filter(k => !is_out(k) && !found.some(one => one.thing.at === k)) : [];
  $("not-here").textContent = found.length && !missing.length ? "" : [
    !found.length && (strip.complete ? `No ${image_view.what} was found in this image.` : `Nothing is known of this image: the page was made without a parse, and no ${image_view.what} has it among its best.`),
    missing.length && found.length && `${strip.complete ? "Not found here" : "Not among the best images of"}: ${missing.map(k => short(part_title(k), 40)).join(", ")}.`].filter(Boolean).join(" ");
  show_choice();
}
function paint_photo() {
  const photograph = $("photo"), m = current;
  if (!photograph || m < 0 || !usable(photo(m))) return;
  const ctx = photograph.getContext("2d"), scale = photograph.width / W, r = marker(photograph);
  ctx.globalAlpha = 1;
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(photo(m), 0, 0, photograph.width, photograph.height);
  const found = found_in(m), places = found.map(({ place: [x, y] }) => [x * scale, y * scale]), labels = spread(places, 2.2 * r, photograph.width, photograph.height);
  image_view.dots = found.map((one, n) => ({ ...one, x: places[n][0], y: places[n][1], label: labels[n] }));
  const pointed = over || chosen, focus = pointed?.kind === "part" || pointed?.kind === "node" ? pointed : null;
  for (const dot of [...image_view.dots].reverse()) {
    const own = focus && same(dot.thing, focus), [lx, ly] = dot.label, colour = colour_of(dot.thing);
    ctx.globalAlpha = (focus && !own ? .45 : 1) * Math.min(1, .4 + .75 * dot.s);
    if (Math.hypot(lx - dot.x, ly - dot.y) > 6) {
      for (const [style, width] of [["#000c", 6], [colour, 3]]) { ctx.strokeStyle = style; ctx.lineWidth = width; ctx.beginPath(); ctx.moveTo(lx, ly); ctx.lineTo(dot.x, dot.y); ctx.stroke(); }
      ctx.beginPath(); ctx.arc(dot.x, dot.y, 6, 0, 7); ctx.fillStyle = colour; ctx.fill(); ctx.lineWidth = 2; ctx.strokeStyle = "#000"; ctx.stroke();
    }
    numbered(ctx, dot.number, colour, lx, ly, r);
  }
  ctx.globalAlpha = 1;
  const there = focus && here(m, focus);
  if (!there || !share_in(m, there)) return;
  const [px, py] = place_in(m, there), x = px * scale, y = py * scale;
  if (focus.kind === "node") draw_neighbours(ctx, m, focus.at, x, y, scale);
  const side = side_of(there) * scale, dot = image_view.dots.find(one => same(one.thing, focus));
  for (const [style, width] of [["#000a", 6], ["#fff", 3]]) { ctx.strokeStyle = style; ctx.lineWidth = width; ctx.strokeRect(x - side / 2, y - side / 2, side, side); }
  if (dot) numbered(ctx, dot.number, colour_of(focus), ...dot.label, r * 1.25); else mark(ctx, nodes.layer[focus.at] ?? top_layer, x, y, 15, true);
  const text = clipped(ctx, title_of(focus), 560), [lx, ly] = dot ? dot.label : [x, y], left = lx > photograph.width / 2, off = (left ? -1 : 1) * (r * 1.25 + 12);
  ctx.font = "600 28px system-ui, sans-serif"; ctx.textAlign = left ? "right" : "left"; ctx.textBaseline = "middle";
  ctx.lineWidth = 7; ctx.lineJoin = "round"; ctx.strokeStyle = "#000c"; ctx.strokeText(text, lx + off, ly); ctx.fillStyle = "#fff"; ctx.fillText(text, lx + off, ly);
}
function draw_neighbours(ctx, m, i, x, y, scale) {
  for (const [list, far, colour] of [[up[i], edges.parent, "#ff9f5e"], [down[i], edges.child, "#4fd6a8"]]) {
    for (const e of list.slice(0, 8)) {
      const other = { kind: "node", at: far[e] };
      if (!share_in(m, other)) continue;
      const [jx, jy] = place_in(m, other);
      for (const [style, width] of [["#000a", 5], [colour, 3]]) { ctx.strokeStyle = style; ctx.lineWidth = width; ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(jx * scale, jy * scale); ctx.stroke(); }
      mark(ctx, nodes.layer[other.at], jx * scale, jy * scale, 9, true);
    }
  }
}
/** Radius of a marker, px of the canvas: 9 on the screen. */
const marker = photograph => 9 * photograph.width / Math.max(200, photograph.clientWidth || LARGE / 2);
function dot_at(photograph, event) {
  const box = photograph.getBoundingClientRect(), scale = photograph.width / box.width, x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
  let best = null, least = 1.5 * marker(photograph);
  for (const dot of image_view.dots) { const d = Math.hypot(dot.label[0] - x, dot.label[1] - y); if (d < least) { least = d; best = dot.thing; } }
  return best;
}
