// The keyboard: / searches, j and k walk the rows, Enter opens one, g goes somewhere, ? tells of all this.
// Single keys do nothing while somebody writes, and none of them does what a link or button on the page does not.
"use strict";

(() => {
  const PLACES = { f: "/", t: "/tickets", m: "/machines" };
  const ROWS = "main tbody tr, main .lines > li, main [data-row]";
  let going = 0;

  const writes = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;
  const inside = (row) => row.querySelector("a.what, td a, a");

  function walk(step) {
    const rows = [...document.querySelectorAll(ROWS)].filter((row) => row.getClientRects().length && inside(row));
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    inside(next).focus();
    next.scrollIntoView({ block: "nearest" });
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const { key } = event;
    if (Date.now() - going < 1500 && key in PLACES) return location.assign(PLACES[key]);
    going = key === "g" ? Date.now() : 0;
    const deeds = {
      "/": () => document.getElementById("search").focus(),
      "?": () => document.getElementById("keys").showModal(),
      j: () => walk(1),
      k: () => walk(-1),
    };
    if (!(key in deeds)) return;
    event.preventDefault();
    deeds[key]();
  }

  document.addEventListener("keydown", pressed);
  // A menu that was opened shuts when one goes on elsewhere.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
})();
