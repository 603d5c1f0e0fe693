// The worker of a technician's phone. It keeps the job's pages and what they are drawn with, so that they stand where
// there is no signal, and nothing else: no other page with data is kept. A job's page goes when it is 12 hours old, at
// sign-out, and when the server knows the session no more. Steps that wait to be sent are not the worker's: they lie in
// the page's own database (job.js), which no version of this file opens.
"use strict";

const FILES = "fettle-files-" + "VERSION";
// Without a version: a new worker must not leave somebody in a dead spot without their job. The number is that of how a
// page is kept; another way of keeping takes another number, and what was kept the old way goes.
const JOBS = "fettle-jobs-1";
const STATIC = ["KEPT"];
const IS_JOB = /^\/job(\/\d+)?$/;
// So long the network may take before what is kept is shown: a bad signal is no signal.
const PATIENCE_MS = 4000;
const MOST_JOBS = 40;
// As long as a session lasts, and as a step may lie back.
const KEPT_MS = 12 * 3600 * 1000;

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    await (await caches.open(FILES)).addAll(STATIC.map((path) => new Request(path, { cache: "reload" })));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const others = (await caches.keys()).filter((name) => name.startsWith("fettle-") && name !== FILES && name !== JOBS);
    await Promise.all(others.map((name) => caches.delete(name)));
    await dropOld();
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (origin !== self.location.origin) return;
  // Whoever comes next sees nothing of whoever was here.
  if (pathname === "/sign-out" || pathname.startsWith("/sign-in")) event.waitUntil(forget());
  // What changes something goes its way untouched: sent on by a worker it would look like one of our own pages' forms.
  else if (request.method !== "GET") return;
  else if (IS_JOB.test(pathname)) event.respondWith(job(event));
  else if (STATIC.includes(pathname)) event.respondWith(file(event));
  else if (request.mode === "navigate" && (pathname === "/" || pathname === "/start")) {
    event.respondWith(fetch(request).catch(toTheJob));
  }
});

// The page was told that its session is over: whoever is not let in any more keeps no pages either.
self.addEventListener("message", (event) => event.data === "forget" && event.waitUntil(forget()));

// How often somebody has left: what was asked for before that is not kept after it.
let left = 0;

function forget() {
  left += 1;
  return caches.delete(JOBS);
}

// By the phone's own clock, which may be wrong, but not by much between two visits; put back, it makes nothing younger.
const isOld = (kept) => !(Math.abs(Date.now() - Number(kept.headers.get("X-Fettle-Kept-At"))) < KEPT_MS);

async function dropOld() {
  const jobs = await caches.open(JOBS);
  for (const path of await jobs.keys()) {
    const kept = await jobs.match(path);
    if (kept && isOld(kept)) await jobs.delete(path);
  }
  return jobs;
}

async function toTheJob(error) {
  if (!(await (await dropOld()).match("/job"))) throw error;
  return Response.redirect("/job", 302);
}

async function file(event) {
  const there = await (await caches.open(FILES)).match(new URL(event.request.url).pathname);
  return soonOr(fetch(event.request), there);
}

async function job(event) {
  const { pathname } = new URL(event.request.url);
  const since = left;
  const fresh = fetch(event.request).then((answer) => keep(pathname, answer, since));
  event.waitUntil(fresh.catch(() => undefined));
  // Only whoever opens the page is shown what was kept: the page itself has it already, and wants to know how it is.
  const jobs = await dropOld();
  const there = event.request.mode === "navigate" ? await jobs.match(pathname) : undefined;
  return soonOr(fresh, there && (await asOfNow(there)));
}

// What the network says, or what is there where it says nothing for too long.
async function soonOr(network, there) {
  if (!there) return network;
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(() => resolve(there), PATIENCE_MS); });
  return Promise.race([network.catch(() => there), late]).finally(() => clearTimeout(timer));
}

async function keep(pathname, answer, since) {
  const away = answer.type === "opaqueredirect" || answer.redirected;
  const out = answer.redirected && new URL(answer.url).pathname.startsWith("/sign-in");
  if (answer.status === 401 || out || (away && pathname === "/job")) await forget();
  else if (away) await (await caches.open(JOBS)).delete(pathname);
  if (away || answer.status !== 200) return answer;
  const text = await answer.clone().text();
  if (left !== since) return answer;
  const headers = new Headers(answer.headers);
  // By how much the phone's clock is behind the server's: the page that is shown later has to count on from there.
  headers.set("X-Fettle-Ahead", String(Number(/data-now="(\d+)"/.exec(text)?.[1]) - Date.now()));
  headers.set("X-Fettle-Kept-At", String(Date.now()));
  headers.delete("Set-Cookie");
  const kept = await caches.open(JOBS);
  await kept.put(pathname, new Response(text, { headers }));
  for (const old of (await kept.keys()).slice(0, -MOST_JOBS)) await kept.delete(old);
  return answer;
}

// The page as it was, with the time as it is.
async function asOfNow(kept) {
  const text = await kept.text();
  const now = Date.now() + Number(kept.headers.get("X-Fettle-Ahead"));
  const shown = text.replace(/<body data-now="(\d+)"/, (_, at) => `<body data-now="${now}" data-kept-at="${at}"`);
  return new Response(shown, { headers: kept.headers });
}
