// The wall says loudly when what it shows is old: also where a cable was pulled and nothing says so.
"use strict";

(() => {
  const stale_ms = Number(document.body.dataset.staleS) * 1000;
  const lost = document.querySelector(".offline");
  let fresh = Date.now();

  document.addEventListener("fettle:refreshed", () => {
    fresh = Date.now();
  });
  setInterval(() => {
    if (Date.now() - fresh > stale_ms) lost.hidden = false;
    document.documentElement.classList.toggle("lost", !lost.hidden);
  }, 1000);
})();
