// Draws one sensor over time with uPlot: the mean as a line, lowest to highest as a band, limits as dashes.
// Where nothing was measured there is a gap: a line across it would be an invention. Faults stand as marks on the time
// axis; dragging across a part looks closer, and asks the server for it in finer steps.
"use strict";

(() => {
  const place = document.getElementById("chart");
  if (!place || !window.uPlot) return;
  const { url, faultsUrl, rangeMs, maxGapS, lang, zone } = place.dataset;
  const limits = ["low", "high"].filter((name) => name in place.dataset).map((name) => Number(place.dataset[name]));
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = new Intl.NumberFormat(lang, { maximumSignificantDigits: 4 });
  const clockTime = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone });
  const dayTime = new Intl.DateTimeFormat(lang, { month: "short", day: "numeric", timeZone: zone });
  const fullTime = new Intl.DateTimeFormat(lang, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone: zone });

  function columns({ items, bucket_s }) {
    const [at, mean, low, high] = [[], [], [], []];
    const maxGap = Math.max(Number(maxGapS), 2 * bucket_s);
    let before = null;
    for (const point of items) {
      const t = Date.parse(point.at) / 1000;
      if (before !== null && t - before > maxGap) {
        at.push((t + before) / 2);
        for (const column of [mean, low, high]) column.push(null);
      }
      at.push(t);
      mean.push(point.mean);
      low.push(point.min);
      high.push(point.max);
      before = t;
    }
    return [at, mean, low, high];
  }

  function drawLimits(chart) {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.strokeStyle = colour("--red");
    ctx.setLineDash([4, 6].map((length) => length * devicePixelRatio));
    for (const limit of limits) {
      const y = Math.round(chart.valToPos(limit, "y", true)) + 0.5;
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.restore();
  }

  // A mark where a fault began, and a thin bar for as long as it lasted.
  function drawFaults(chart) {
    const { ctx, bbox } = chart;
    const [from, to] = inView();
    const x = (ms) => Math.round(chart.valToPos(Math.min(Math.max(ms, from), to) / 1000, "x", true));
    ctx.save();
    for (const fault of faults) {
      const [begun, ended] = [Date.parse(fault.occurred_at), fault.cleared_at ? Date.parse(fault.cleared_at) : to];
      if (ended < from || begun > to) continue;
      const bad = ["urgent", "emergency"].includes(fault.severity);
      ctx.fillStyle = ctx.strokeStyle = colour(bad ? "--red" : "--amber");
      ctx.fillRect(x(begun), bbox.top + bbox.height - 4 * devicePixelRatio, Math.max(x(ended) - x(begun), 3), 4 * devicePixelRatio);
      if (begun < from) continue;
      ctx.setLineDash([2, 3].map((length) => length * devicePixelRatio));
      ctx.beginPath();
      ctx.moveTo(x(begun) + 0.5, bbox.top);
      ctx.lineTo(x(begun) + 0.5, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      const size = 5 * devicePixelRatio;
      ctx.moveTo(x(begun) - size, bbox.top);
      ctx.lineTo(x(begun) + size, bbox.top);
      ctx.lineTo(x(begun), bbox.top + 1.6 * size);
      ctx.fill();
    }
    ctx.restore();
  }

  // Limits stay in view where the values come near them; far ones would flatten the course.
  function valueRange(_, low, high) {
    if (low === null) return [0, 1];
    const room = (high - low || Math.abs(high) || 1) * 0.1;
    let [bottom, top] = [low - room, high + room];
    for (const limit of limits) {
      const reach = Math.max(Math.abs(low), Math.abs(high), 1) * 0.5;
      if (limit > high && limit - high < reach) top = Math.max(top, limit + room);
      if (limit < low && low - limit < reach) bottom = Math.min(bottom, limit - room);
    }
    return [bottom, top];
  }

  function options() {
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--hair"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const shown = (_, value) => (value == null ? "–" : number.format(value));
    const edge = { stroke: "transparent", points: { show: false }, value: shown };
    const { labelTime, labelMean, labelMin, labelMax } = place.dataset;
    return {
      width: place.clientWidth,
      height: 300,
      tzDate: (t) => uPlot.tzDate(new Date(t * 1000), zone),
      scales: { x: { time: true, range: () => inView().map((ms) => ms / 1000) }, y: { range: valueRange } },
      axes: [
        { ...axis, space: 70, values: (_, ticks) => ticks.map((t) => tick(t * 1000)) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map((v) => number.format(v)) },
      ],
      series: [
        { label: labelTime, value: (_, t) => (t == null ? "–" : fullTime.format(t * 1000)) },
        { label: labelMean, stroke: colour("--accent"), width: 2, value: shown, points: { show: false } },
        { ...edge, label: labelMin },
        { ...edge, label: labelMax },
      ],
      bands: [{ series: [3, 2], fill: colour("--band") }],
      hooks: { draw: [drawLimits, drawFaults], setSelect: [look] },
      cursor: { drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => () => lookAway() } },
    };
  }

  let chart = null;
  let data = [[], [], [], []];
  let faults = [];
  // [from, to] in ms while somebody looks closer; else the chosen range, up to now.
  let closer = null;

  const inView = () => closer ?? [Date.now() - rangeMs, Date.now()];

  function tick(ms) {
    const [from, to] = inView();
    return to - from > 36 * 3600000 ? dayTime.format(ms) : clockTime.format(ms);
  }

  function look(drawn) {
    const { left, width } = drawn.select;
    if (width < 8) return;
    const ends = [left, left + width].map((px) => Math.round(drawn.posToVal(px, "x") * 1000));
    drawn.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (ends[1] - ends[0] < 30000) return;
    closer = ends;
    load();
  }

  function lookAway() {
    closer = null;
    load();
  }

  function build() {
    chart?.destroy();
    chart = new uPlot(options(), data, place);
  }

  // Of several answers under way only that to the newest question is drawn.
  let asking = 0;

  async function load() {
    const mine = ++asking;
    const [from, to] = inView();
    const asked = `from=${from}&to=${to + 1000}`;
    let readings, found;
    try {
      [readings, found] = await Promise.all([fetch(`${url}&${asked}`), fetch(`${faultsUrl}?${asked}`)]);
    } catch {
      return;
    }
    if (!readings.ok || !found.ok || mine !== asking) return;
    data = columns(await readings.json());
    faults = (await found.json()).items;
    chart ? chart.setData(data) : build();
    place.dataset.points = data[0].length;
    place.dataset.faults = faults.length;
  }

  document.getElementById("chart-how").hidden = false;
  load();
  document.addEventListener("fettle:refreshed", load);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
  new ResizeObserver(() => chart?.setSize({ width: place.clientWidth, height: 300 })).observe(place);
})();
