// What people decide: names, merged and rejected parts and nodes, as labels.json has them.

let decisions = none_decided();
const history = [];
function none_decided() {
  return {
    labels: new Map(), groups: [], rejected: new Set(),  // of nodes
    names: new Map(), part_groups: [], part_rejected: new Set(),  // of parts
    others: [],  // what a file says of parts that this page hasn't: passed on
  };
}
const memory_key = (() => {
  let hash = 2166136261;
  for (const id of ids) for (let k = 0; k < id.length; k++) hash = Math.imul(hash ^ id.charCodeAt(k), 16777619);
  return `explgraph:${data.fingerprint.slice(0, 16)}:${N}:${(hash >>> 0).toString(16)}`;
})();

const group_of = i => decisions.groups.find(group => group.includes(i)) || null;
const label_of = i => decisions.labels.has(i) ? decisions.labels.get(i) : nodes.label[i] || "";
const short_name = i => label_of(i) || `${filter_name(i)}/${nodes.pattern[i]}`;
const node_title = i => label_of(i) || `filter ${filter_name(i)}, pattern ${nodes.pattern[i]}`;
const is_rejected = i => decisions.rejected.has(i);

// merged parts are one: the first of them, which stands for all
const members = k => decisions.part_groups.find(group => group.includes(k)) || [k];
const lead = k => members(k)[0];
const leads = () => parts.id.map((_, k) => k).filter(k => lead(k) === k);
const name_of = k => decisions.names.has(lead(k)) ? decisions.names.get(lead(k)) : members(k).map(j => parts.name[j]).find(Boolean) || "";
const part_title = k => name_of(k) || `part ${part_number(lead(k))}`;
const nodes_of = k => members(k).flatMap(j => parts.nodes[j]);
const layers_of = k => [...new Set(members(k).flatMap(j => parts.layers[j]))].sort((a, b) => a - b);
const is_out = k => decisions.part_rejected.has(lead(k));
const title_of = ({ kind, at }) => kind === "part" ? part_title(at) : node_title(at);
/** Of merged parts, the one that image m shows best. */
const surest_member = (m, k) => members(k).reduce((best, j) => share_in(m, { kind: "part", at: j }) > share_in(m, { kind: "part", at: best }) ? j : best);

function decided_part(k) {
  const mine = nodes_of(k), mean = axis => mine.reduce((sum, i) => sum + nodes[axis][i], 0) / mine.length;
  return { id: parts.id[k], name: name_of(k), rejected: is_out(k), nodes: mine.map(i => ids[i]), place: [mean("x"), mean("y")] };
}
const changed_parts = () => leads().filter(k => name_of(k) !== parts.name[k] || members(k).length > 1 || is_out(k));
function as_json() {
  const labels = {};
  for (const [i, label] of [...decisions.labels].sort((a, b) => a[0] - b[0])) if (label !== (nodes.label[i] || "")) labels[ids[i]] = label;
  const changed = changed_parts(), here = new Set(changed.flatMap(members).map(k => parts.id[k]));
  // decisions that the graph holds already stay, unless they were changed here
  const others = [...decisions.others, ...parts.decided.filter(one => decisions.others.every(other => other.id !== one.id))].filter(one => !here.has(one.id));
  const decided = [...others, ...changed.map(decided_part)];
  return {
    format: "explgraph labels", format_version: 1, model_fingerprint: data.fingerprint, labels,
    merged: decisions.groups.map(group => [...group].sort((a, b) => a - b).map(i => ids[i])),
    rejected: [...decisions.rejected].sort((a, b) => a - b).map(i => ids[i]),
    ...(decided.length ? { parts: decided } : {}),
  };
}
function from_json(given) {
  if (!given || given.format !== "explgraph labels" || given.format_version !== 1) throw new Error("this is no labels.json of version 1");
  const at = id => { if (!index.has(id)) throw new Error(`it names the node ${String(id).slice(0, 80)}, which this graph lacks`); return index.get(id); };
  const groups = (given.merged || []).map(group => group.map(at));
  if (new Set(groups.flat()).size !== groups.flat().length) throw new Error("it names a node in two groups of merged nodes");
  const made = Object.assign(none_decided(), { labels: new Map(Object.entries(given.labels || {}).map(([id, label]) => [at(id), String(label)])), groups, rejected: new Set((given.rejected || []).map(at)) });
  if (!Array.isArray(given.parts || [])) throw new Error("its parts are no list");
  for (const one of given.parts || []) take_part(made, one);
  return made;
}
/** Takes up what a file says of a part: on this page's parts, if they have just its nodes. */
function take_part(made, one) {
  if (!one || typeof one.id !== "string" || !Array.isArray(one.nodes)) throw new Error("it holds a part without id or nodes");
  const wanted = new Set(one.nodes);
  const inside = parts.id.map((_, k) => k).filter(k => parts.nodes[k].every(i => wanted.has(ids[i]))).sort((a, b) => (parts.id[b] === one.id) - (parts.id[a] === one.id) || a - b);
  if (!inside.length || inside.reduce((sum, k) => sum + parts.nodes[k].length, 0) !== wanted.size) { made.others.push(one); return; }
  const [first] = inside;
  if (inside.length > 1) made.part_groups.push(inside);
  if (typeof one.name === "string" && (one.name !== parts.name[first] || inside.length > 1)) made.names.set(first, one.name);
  if (one.rejected) made.part_rejected.add(first);
}
const copied = d => ({
  labels: new Map(d.labels), groups: d.groups.map(group => [...group]), rejected: new Set(d.rejected),
  names: new Map(d.names), part_groups: d.part_groups.map(group => [...group]), part_rejected: new Set(d.part_rejected), others: d.others,
});
function decide(change, said) {
  history.push(copied(decisions));
  change(decisions);
  after_decision(said);
}
function after_decision(said) {
  try { localStorage.setItem(memory_key, JSON.stringify(as_json())); } catch { /* a page from a file may have no memory */ }
  if (said) say(said);
  if (chosen?.kind === "part") chosen = { kind: "part", at: lead(chosen.at) };
  if (scope >= 0) scope = lead(scope);
  show_decisions(); show_parts(); show_crumbs(); refilter(); show_panel(); paint_thumbs();
}

function give_name({ kind, at }, text) {
  const name = text.trim();
  if (name === (kind === "part" ? name_of(at) : label_of(at))) return;
  decide(d => {
    if (kind === "part") d.names.set(lead(at), name);
    else for (const j of group_of(at) || [at]) d.labels.set(j, name);
  }, name ? `named ${name}` : "name removed");
}
function reject({ kind, at }) {
  const set = d => kind === "part" ? d.part_rejected : d.rejected, key = kind === "part" ? lead(at) : at;
  decide(d => { if (!set(d).delete(key)) set(d).add(key); }, set(decisions).has(key) ? "taken back" : "rejected");
}
function merge(one, other) {
  if (one.kind !== other.kind || one.at === other.at) return;
  if (one.kind === "part") merge_parts(lead(one.at), lead(other.at)); else merge_nodes(one.at, other.at);
}
function merge_parts(a, b) {
  if (a === b) return;
  decide(d => {
    const name = name_of(a) || name_of(b), all = [...members(a), ...members(b)];
    d.part_groups = d.part_groups.filter(group => !group.includes(a) && !group.includes(b));
    d.part_groups.push(all);
    d.names.delete(b); d.part_rejected.delete(b);
    d.names.set(a, name);
  }, "merged");
}
function merge_nodes(i, j) {
  decide(d => {
    const one = group_of(i) || [i], other = group_of(j) || [j];
    if (one === other) return;
    d.groups = d.groups.filter(group => group !== one && group !== other);
    const all = [...one, ...other];
    d.groups.push(all);
    const label = label_of(i) || label_of(j);
    if (label) for (const k of all) d.labels.set(k, label);
  }, "merged");
}
function take_apart({ kind, at }) {
  decide(d => {
    if (kind === "part") d.part_groups = d.part_groups.filter(group => !group.includes(at));
    else d.groups = d.groups.map(group => group.filter(j => j !== at)).filter(group => group.length > 1);
  }, "taken apart");
}
function undo() {
  if (!history.length) return;
  decisions = history.pop();
  after_decision("undone");
}
function show_decisions() {
  const { labels, merged, rejected } = as_json(), changed = changed_parts();
  const named = Object.keys(labels).length + changed.filter(k => name_of(k) && name_of(k) !== parts.name[k]).length;
  const groups = merged.length + decisions.part_groups.length, out = rejected.length + decisions.part_rejected.size;
  const cleared = changed.length && !(named + groups + out);  // only names taken away
  const count = named + groups + out + (cleared ? changed.length : 0);
  $("decided").textContent = count ? `${named} named, ${counted(groups, "group")} merged, ${out} rejected.` : "None yet.";
  $("decisions-button").textContent = count ? `Labels (${count})` : "Labels";
  $("download").disabled = !count && !decisions.others.length; $("clear").disabled = !count; $("undo").disabled = !history.length;
}
