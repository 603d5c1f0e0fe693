// Takes a technician's steps, also where there is no signal: each is kept on the phone with its own number and the moment
// of the tap, and sent in order once that is possible. Sending one again is harmless, for the server knows its number.
"use strict";

(() => {
  const root = document.getElementById("job");
  const person = Number(root?.dataset.person);
  if (!person) return;

  const body = document.body;
  const said = JSON.parse(root.dataset.said);
  const COURSE = ["accept", "depart", "arrive", "start-repair", "resolve"];
  const SEND_WITHIN_MS = 15000;
  const OTHERS_KEPT = 4;
  const TRY_AGAIN_MS = [5000, 10000, 20000, 40000, 60000];
  // The server's time less the phone's: a phone's wrong clock must not falsify a step.
  let ahead = Number(body.dataset.now) - Date.now();
  const now = () => Date.now() + ahead;

  // --- what is kept -----------------------------------------------------------------------------------------------

  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

  let opened = null;
  function database() {
    opened ??= (() => {
      const opening = indexedDB.open("fettle", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("step", { keyPath: "n", autoIncrement: true });
      return done(opening);
    })();
    return opened;
  }

  async function steps(mode = "readonly") {
    return (await database()).transaction("step", mode).objectStore("step");
  }

  // Theirs alone, oldest first: whoever had the phone before them is nobody's business.
  const kept = async () => (await done((await steps()).getAll())).filter((one) => one.person === person);
  const save = async (one) => done((await steps("readwrite")).put(one));
  // A phone that is short of room shall not clear away what nobody has heard of yet.
  const hold = () => navigator.storage?.persist?.().catch(() => undefined);
  const remove = async (one) => done((await steps("readwrite")).delete(one.n));

  function number() {
    if (crypto.randomUUID) return crypto.randomUUID();
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }

  // --- a tap becomes a step ---------------------------------------------------------------------------------------

  function told(form, verb, at) {
    const given = new FormData(form);
    const text = (name) => String(given.get(name) ?? "").trim();
    const step = { happened_at: at };
    if (text("note")) step.note = text("note");
    if (verb === "decline") step.note = [said.cannot[text("why")], text("note")].filter(Boolean).join(said.colon);
    if (verb === "pause") Object.assign(step, { reason: text("reason"), until_at: at + Number(text("wait_h")) * 3600000 });
    if (verb !== "resolve") return step;
    const parts = text("parts_said") === "some" ? [...given.getAll("part"), ...text("parts").split("\n")] : [];
    for (const name of ["cause", "action", "borne_by", "outcome"]) step[name] = text(name);
    step.parts = [...new Set(parts.map((part) => part.trim().replace(/\s+/g, " ")).filter(Boolean))];
    return step;
  }

  function complete(form) {
    const some = form.querySelector("input[name=parts_said][value=some]");
    if (!some) return true;
    const lacks = some.checked && !told(form, "resolve", 0).parts.length;
    some.setCustomValidity(lacks ? said.parts : "");
    return !lacks || some.reportValidity();
  }

  let saving = 0;

  async function tapped(form) {
    const verb = form.dataset.step;
    const ticket = Number(form.dataset.ticket);
    const before = (await kept()).filter((one) => one.ticket === ticket);
    // Two taps on the same button are one step.
    if (before.some((one) => one.verb === verb && !one.refused)) return;
    const at = Math.round(Math.max(now(), ...before.map((one) => one.body.happened_at)));
    hold();
    await save({ key: number(), person, ticket, verb, body: told(form, verb, at), tries: 0, refused: "" });
    form.reset();
    if (location.hash === "#cannot") location.hash = "";
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.getAttribute("action") === "/sign-out") return void leave(event);
    if (!form.dataset.step) return;
    event.preventDefault();
    if (form.dataset.busy || !complete(form)) return;
    form.dataset.busy = "yes";
    saving += 1;
    tapped(form)
      .finally(() => { saving -= 1; })
      .then(draw)
      .then(send)
      // A phone that keeps nothing sends it as the page would without a script.
      .catch((reason) => reason instanceof DOMException && form.submit())
      .finally(() => delete form.dataset.busy);
  });

  // What is kept goes first: once they have signed out nobody could send it.
  function leave(event) {
    event.preventDefault();
    send().catch(() => undefined).finally(() => event.target.submit());
  }

  document.addEventListener("change", (event) => {
    const form = event.target.form;
    form?.querySelector("input[name=parts_said][value=some]")?.setCustomValidity("");
  });

  // --- sending ----------------------------------------------------------------------------------------------------

  const NO_SIGNAL = "no signal";
  const SIGN_IN = "sign in";

  async function ask(url, options = {}) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), SEND_WITHIN_MS);
    try {
      return await fetch(url, { ...options, signal: stop.signal, cache: "no-store" });
    } catch {
      throw NO_SIGNAL;
    } finally {
      clearTimeout(timer);
    }
  }

  // Whether the server is there, and takes us for whom this page is; and what time it is there.
  async function knock() {
    const answer = await ask("/api/v1/jobs");
    if (answer.status === 401) navigator.serviceWorker?.controller?.postMessage("forget");
    if (answer.status === 401 || answer.status === 403) throw SIGN_IN;
    if (!answer.ok) throw NO_SIGNAL;
    const jobs = await answer.json();
    if (jobs.person_id !== person) throw SIGN_IN;
    ahead = Date.parse(jobs.at) - Date.now();
  }

  async function sendOne(one) {
    if (!one.tries) {
      // Whatever a clock that was put forward said in between: nothing happens later than now.
      one.body.happened_at = Math.min(one.body.happened_at, Math.floor(now()));
    }
    one.tries += 1;
    await save(one);
    const answer = await ask(`/api/v1/tickets/${one.ticket}/${one.verb}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": one.key },
      body: JSON.stringify(one.body),
    });
    if (answer.status === 401) throw SIGN_IN;
    if (answer.status >= 500 || answer.status === 429 || answer.headers.has("Retry-After")) throw NO_SIGNAL;
    const problem = answer.ok ? {} : await answer.json().catch(() => ({}));
    if (answer.ok || problem.done) return remove(one);
    one.refused = await why(one, answer.status);
    return save(one);
  }

  async function why(one, status) {
    if (status === 404) return said.gone;
    if (status === 422) return said.lacks;
    if (now() - one.body.happened_at > Number(root.dataset.oldestMs)) return said.old;
    const answer = await ask(`/api/v1/tickets/${one.ticket}?readings=false`);
    const ticket = answer.ok ? await answer.json() : null;
    if (ticket?.technician_id && ticket.technician_id !== person) {
      return said.faster.replace("%(name)s", ticket.technician_name ?? "");
    }
    if (!ticket || status === 403) return said.theirs;
    return said.stands.replace("%(status)s", said.statuses[ticket.status] ?? ticket.status);
  }

  let sending = false;
  let again = false;
  let failures = 0;
  let timer = 0;

  async function send() {
    if (sending) {
      again = true;
      return;
    }
    sending = true;
    clearTimeout(timer);
    try {
      // Of two windows one sends.
      if (navigator.locks) await navigator.locks.request("fettle-steps", sendAll);
      else await sendAll();
    } finally {
      sending = false;
      // What was tapped while the last one went out is not left until the next knock.
      if (again) {
        again = false;
        send();
      }
    }
  }

  async function sendAll() {
    const next = async () => (await kept()).find((one) => !one.refused);
    let one = await next();
    if (!one) return;
    let sent = null;
    try {
      await knock();
      signal(true);
      for (; one; one = await next()) {
        await sendOne(one);
        sent = one;
        await draw();
      }
      failures = 0;
    } catch (reason) {
      if (reason !== NO_SIGNAL && reason !== SIGN_IN) throw reason;
      signal(reason !== NO_SIGNAL);
      root.parentNode.querySelector(".sign-in-again").hidden = reason !== SIGN_IN;
      if (reason === NO_SIGNAL) timer = setTimeout(send, TRY_AGAIN_MS[Math.min(failures++, TRY_AGAIN_MS.length - 1)]);
    }
    await draw();
    if (sent) settle(sent);
  }

  // What was sent has changed the job: show it anew, unless somebody is writing (then the page follows by itself).
  function settle(last) {
    const fields = [...root.querySelectorAll("input, select, textarea")];
    if (saving || fields.some((one) => one === document.activeElement || changed(one))) return;
    const over = last.verb === "resolve" || last.verb === "decline";
    // A tap on a page that is going away would be lost.
    document.querySelector("main").inert = true;
    if (over && location.pathname !== "/job") location.replace("/job");
    else location.reload();
  }

  function changed(field) {
    if (field.matches("select")) return [...field.options].some((one) => one.selected !== one.defaultSelected && one.value);
    return /radio|checkbox/.test(field.type) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
  }

  // --- what is shown ----------------------------------------------------------------------------------------------

  function signal(there) {
    document.querySelector(".no-signal").hidden = there;
  }

  function hour(at) {
    return new Intl.DateTimeFormat(document.documentElement.lang, {
      hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: body.dataset.zone,
    }).format(at);
  }

  async function draw() {
    const all = await kept();
    const section = document.getElementById("kept");
    section.hidden = !all.length;
    section.querySelector("ul").replaceChildren(...all.map(line));
    goOn(all.filter((one) => !one.refused));
  }

  function line(one) {
    const what = document.createElement("span");
    const here = one.ticket === Number(document.getElementById("bar")?.dataset.ticket);
    what.textContent = `${here ? "" : `${said.ticket} ${one.ticket}${said.colon}`}${said.taps[one.verb] ?? one.verb}`;
    const how = document.createElement("small");
    how.textContent = one.refused ? `${said.refused}${said.colon}${one.refused}` : sending && one.tries ? said.sending : said.kept;
    what.append(how);
    const item = document.createElement("li");
    const when = document.createElement("time");
    when.textContent = hour(one.body.happened_at);
    item.append(what, when);
    if (one.refused) {
      item.className = "refused";
      const button = document.createElement("button");
      button.className = "btn";
      button.textContent = said.dismiss;
      button.addEventListener("click", () => remove(one).then(draw));
      item.append(button);
    }
    return item;
  }

  // The step that comes after those that are kept; none where the job was given back, has to wait, or is done.
  function goOn(waiting) {
    const bar = document.getElementById("bar");
    if (!bar) return;
    const theirs = waiting.filter((one) => one.ticket === Number(bar.dataset.ticket)).map((one) => one.verb);
    const last = theirs.at(-1);
    const next = last ? COURSE[COURSE.indexOf(last) + 1] : bar.dataset.verb;
    const over = last && !COURSE.includes(last);
    for (const one of bar.querySelectorAll("[data-step]")) one.hidden = over || one.dataset.step !== next;
    const cannot = bar.querySelector("a");
    if (cannot) cannot.hidden = over || last === "resolve";
    const asked = document.getElementById("resolution");
    if (asked) asked.hidden = over || next !== "resolve";
  }

  // --- when to try ------------------------------------------------------------------------------------------------

  addEventListener("online", () => { signal(true); send(); });
  addEventListener("offline", () => signal(false));
  document.addEventListener("visibilitychange", () => document.hidden || send());
  document.addEventListener("fettle:refreshed", () => {
    document.querySelector(".as-of").textContent = "";
    draw().then(send);
  });

  if (body.dataset.keptAt) {
    signal(false);
    document.querySelector(".as-of").textContent = said.as_of.replace("%(when)s", hour(Number(body.dataset.keptAt)));
  }
  if (!navigator.onLine) signal(false);
  draw().then(send).catch(() => undefined);

  // --- the worker, which shows this page where there is no signal -------------------------------------------------

  async function work(worker) {
    const first = !worker.controller;
    await worker.register("/sw.js");
    if (first) await new Promise((resolve) => worker.addEventListener("controllerchange", resolve, { once: true }));
    // The first visit came before the worker did, and the jobs that follow were not looked at yet.
    const others = [...root.querySelectorAll("a[data-keep]")].slice(0, OTHERS_KEPT).map((one) => one.getAttribute("href"));
    if (first) others.unshift("/job", location.pathname);
    for (const path of new Set(others)) await fetch(path);
    root.dataset.worker = "ready";
  }

  if (navigator.serviceWorker) work(navigator.serviceWorker).catch(() => undefined);
})();
