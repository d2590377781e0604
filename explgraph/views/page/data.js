"use strict";
// What the page was given, and what is worked out of it once. See page_content.py.
// Text from the graph enters the page through textContent, dir="auto" or canvas only.

const started = performance.now();
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
$("data").remove();
const { nodes, edges, layers, parts } = data;
const N = nodes.filter.length, E = edges.parent.length, P = parts.id.length, top_layer = layers.length - 1;
const [H, W] = data.image_size;
// both signs of channels are filters, where they were mined: "12-" is what channel 12 gives below zero
const half_of = i => { const layer = layers[nodes.layer[i]]; return layer.signs === "both" ? layer.channels / 2 : layer.channels; };
const channel_of = i => nodes.filter[i] % half_of(i);
const filter_name = i => `${channel_of(i)}${nodes.filter[i] >= half_of(i) ? "-" : ""}`;
const ids = nodes.filter.map((_, i) => `${layers[nodes.layer[i]].name}/${filter_name(i)}/${nodes.pattern[i]}`);
const index = new Map(ids.map((id, i) => [id, i]));
const part_index = new Map(parts.id.map((id, k) => [id, k]));
const part_of = new Int32Array(N).fill(-1);
parts.nodes.forEach((mine, k) => { for (const i of mine) part_of[i] = k; });
const links = parts.links || { a: [], b: [] };  // between parts

/** Edge numbers of each node, the most consistent first: edges come in that order. */
function grouped(ends) {
  const lists = Array.from({ length: N }, () => []);
  for (let e = 0; e < E; e++) lists[ends[e]].push(e);
  return lists;
}
const up = grouped(edges.child), down = grouped(edges.parent);
const rank = new Uint16Array(E);  // place of an edge among those of its child
for (const list of up) list.forEach((e, k) => { rank[e] = k; });
const most_links = up.reduce((most, list) => Math.max(most, list.length), 0);
const siblings = new Map();  // nodes of one filter
for (let i = 0; i < N; i++) {
  const key = `${nodes.layer[i]}/${nodes.filter[i]}`;
  if (!siblings.has(key)) siblings.set(key, []);
  siblings.get(key).push(i);
}
const siblings_of = i => siblings.get(`${nodes.layer[i]}/${nodes.filter[i]}`);

// where nodes and parts are in the images of the strip; a thing is {kind, at}: see choice.js
const strip = data.strip && data.strip.names.length ? data.strip : null;
const M = strip ? strip.names.length : 0;
function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) out[k] = raw.charCodeAt(k);
  return out;
}
const spots = {};
for (const [kind, given, count] of strip ? [["node", strip, N], ["part", strip.parts, P]] : []) {
  spots[kind] = { count, places: new Uint16Array(bytes(given.positions).buffer), shares: bytes(given.scores) };
}
/** Place of a node or part in image m, px. */
function place_in(m, { kind, at }) {
  const { count, places } = spots[kind], k = 2 * (m * count + at);
  return [W * (places[k] / 65535 * 3 - 1), H * (places[k + 1] / 65535 * 3 - 1)];
}
/** How sure it is that image m shows it, 0 to 1. */
const share_in = (m, { kind, at }) => spots[kind].shares[m * spots[kind].count + at] / 255;

const counted = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const percent = value => `${Math.round(100 * value)} %`;
const short = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
