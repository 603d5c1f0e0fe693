// Keeps a page live: draws the clocks, follows the change stream, and fetches the parts marked data-live again.
// The server decides everything that is shown; without this script the page says the same, once.
"use strict";

(() => {
  const body = document.body;
  // The server's time less ours: clocks follow the server even where this machine's clock is wrong.
  let ahead = Number(body.dataset.now) - Date.now();
  const now = () => Date.now() + ahead;

  // --- clocks -----------------------------------------------------------------------------------------------------

  const two = (n) => String(n).padStart(2, "0");

  function span(ms) {
    const s = Math.floor(Math.abs(ms) / 1000);
    return `${ms < 0 ? "−" : ""}${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  }

  const urgencyOf = (left, warn) => (left <= 0 ? "late" : left <= warn ? "soon" : "calm");

  function drawClocks() {
    for (const clock of document.querySelectorAll(".clock[data-due]")) {
      const left = Number(clock.dataset.due) - now();
      clock.querySelector("time").textContent = span(left);
      const urgency = urgencyOf(left, Number(clock.dataset.warn));
      if (!clock.classList.contains(urgency)) cross(clock, urgency);
    }
    for (const bar of document.querySelectorAll("progress[data-due]")) {
      bar.value = Math.min(now() - Number(bar.dataset.start), bar.max);
    }
  }

  // Said once, when a clock crosses into the next urgency; never while it counts.
  function cross(clock, urgency) {
    const words = { soon: body.dataset.saySoon, late: body.dataset.sayLate, calm: "" }[urgency];
    for (const marked of [clock, clock.nextElementSibling, clock.closest("tr")]) {
      if (!marked) continue;
      marked.classList.remove("late", "soon", "calm");
      marked.classList.add(urgency);
    }
    clock.querySelector(".unseen").textContent = words;
    const what = clock.closest("tr, li")?.querySelector("a.what, div:last-child")?.textContent ?? "";
    document.getElementById("announce").textContent = words ? `${words}: ${what}` : "";
  }

  function drawWall() {
    for (const wall of document.querySelectorAll("[data-wall]")) {
      const passed = Math.floor((now() - Number(wall.dataset.wall)) / 60000);
      if (passed < 1) continue;
      const [hours, minutes] = (wall.dataset.shown ??= wall.textContent).split(":").map(Number);
      const all = (hours * 60 + minutes + passed) % 1440;
      wall.textContent = `${two(Math.floor(all / 60))}:${two(all % 60)}`;
    }
  }

  // --- live parts -------------------------------------------------------------------------------------------------

  let fetching = false;
  let again = false;
  let heard = 0;

  async function refresh() {
    if (document.hidden || fetching) {
      again = true;
      return;
    }
    fetching = true;
    again = false;
    try {
      // What is laid out for many may be two seconds old: what came since, this page has heard of, and asks for again.
      const answer = await fetch(location.href, { headers: { Accept: "text/html", "Cache-Control": "max-age=2" } });
      if (answer.redirected && new URL(answer.url).pathname.startsWith("/sign-in")) return location.reload();
      if (answer.ok) {
        ahead = Number(answer.headers.get("X-Now")) - Date.now();
        again ||= heard > Number(answer.headers.get("X-Shown") ?? heard);
        replaceParts(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
      // An address that takes forms only, or nothing any more, was answered all the same.
      connected(answer.status < 500);
    } catch {
      connected(false);
    } finally {
      fetching = false;
      if (again) soon();
    }
  }

  const partsOf = (page) => [...page.querySelectorAll("[data-live]")].map((part) => part.id).join(" ");

  // What somebody has begun to fill in, or holds, is not taken from under their hands.
  function isBusy() {
    const held = document.activeElement;
    return (held?.closest("main") && held.matches("input, select, textarea")) || document.querySelector("dialog[open]")
      || [...document.querySelectorAll("main :is(input, select, textarea)")].some(isChanged);
  }

  function replaceParts(fresh) {
    // A page that has other parts now, or is about something else, is drawn anew as a whole.
    const other = fresh.body.dataset.about !== body.dataset.about || partsOf(fresh) !== partsOf(document);
    if (other && !isBusy()) return location.reload();
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      const busy = part.contains(document.activeElement) ? document.activeElement : null;
      // What somebody is filling in is not taken from under their hands.
      if (!next || next.isEqualNode(part) || busy?.matches("input, select, textarea, button, summary")) continue;
      if ([...part.querySelectorAll("input, select, textarea")].some(isChanged)) continue;
      const held = busy?.getAttribute("href");
      keepFolds(part, next);
      if (next.isEqualNode(part)) continue;
      part.replaceWith(document.importNode(next, true));
      if (held) document.querySelector(`#${CSS.escape(part.id)} a[href="${CSS.escape(held)}"]`)?.focus();
    }
    drawClocks();
    document.dispatchEvent(new Event("fettle:refreshed"));
  }

  function isChanged(field) {
    if (field.matches("select")) {
      const chosen = [...field.options].findIndex((option) => option.defaultSelected);
      return field.selectedIndex !== Math.max(chosen, 0);
    }
    return ["checkbox", "radio"].includes(field.type) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
  }

  // A fold that somebody opened, or shut, stays so.
  function keepFolds(part, next) {
    const named = (fold) => fold.querySelector("summary").textContent;
    const folds = new Map([...next.querySelectorAll("details")].map((fold) => [named(fold), fold]));
    for (const fold of part.querySelectorAll("details")) {
      const same = folds.get(named(fold));
      if (same) same.open = fold.open;
    }
  }

  function connected(well) {
    document.querySelector(".offline").hidden = well;
  }

  // Whether a change is about what this page shows; a page that names nothing shows everything.
  function concerns({ what, device_id, ticket_id }) {
    const shown = (body.dataset.follows ?? "").split(" ").filter(Boolean);
    const told = [`what:${what}`, `device:${device_id}`, `ticket:${ticket_id}`];
    return !shown.length || told.some((one) => shown.includes(one));
  }

  // Many changes at once are one refresh, and not every page that is open asks at the same moment, nor all the time.
  const LEAST_MS = 5000;
  let due = 0;
  let refreshedAt = 0;
  function soon() {
    if (due) return;
    const wait = Math.max(300, refreshedAt + LEAST_MS - Date.now()) + Math.random() * 500;
    due = setTimeout(() => {
      due = 0;
      refreshedAt = Date.now();
      refresh();
    }, wait);
  }

  function everySoOften() {
    const wait = Number(body.dataset.refreshS) * 1000 * (0.8 + 0.4 * Math.random());
    setTimeout(() => {
      refresh();
      everySoOften();
    }, wait);
  }

  function follow(url) {
    const stream = new EventSource(url);
    stream.addEventListener("change", (event) => {
      heard = Number(event.lastEventId);
      if (concerns(JSON.parse(event.data))) soon();
    });
    stream.addEventListener("open", () => connected(true));
    stream.addEventListener("error", () => connected(false));
    stream.addEventListener("end", () => {
      stream.close();
      location.reload();
    });
    addEventListener("pagehide", () => stream.close());
  }

  // What can be copied is text that can be marked; the button is for browsers that let a page copy.
  function offerCopies() {
    if (!navigator.clipboard) return;
    for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  }
  document.addEventListener("fettle:refreshed", offerCopies);
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = button.dataset.copied;
  });
  offerCopies();

  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => print());
  }

  drawClocks();
  setInterval(() => {
    drawClocks();
    drawWall();
  }, 1000);
  if (body.dataset.stream && window.EventSource) {
    follow(body.dataset.stream);
    everySoOften();
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
  } else if (document.querySelector("[data-live]")) {
    // A page that a link opens has no stream to follow: it asks every so often.
    everySoOften();
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
  }
})();
