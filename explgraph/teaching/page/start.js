// Begins; and asks every two seconds whether somebody else has answered meanwhile.

import "./curve.js";
import "./keys.js";
import { refresh } from "./state.js";
import { shown } from "./strip.js";
import { start, is_busy } from "./asking.js";

const OFTEN = 2000; // ms

try {
  const kept = localStorage.getItem("explgraph-by-itself"), box = document.getElementById("by-itself");
  if (kept !== null) box.checked = kept === "true";
  box.addEventListener("change", () => localStorage.setItem("explgraph-by-itself", String(box.checked)));
} catch { /* no storage: the box begins ticked each time */ }

start().then(async () => {
  document.body.dataset.started = "yes";
  for (;;) {
    await new Promise(done => setTimeout(done, OFTEN));
    if (!document.hidden && !is_busy()) try { await refresh(shown()); } catch { /* said in the banner when something is asked */ }
  }
});
