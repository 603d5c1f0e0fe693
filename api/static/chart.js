// Draws one sensor over time with uPlot: the mean as a line, lowest to highest as a band, limits as dashes.
// Where nothing was measured there is a gap: a line across it would be an invention.
"use strict";

(() => {
  const place = document.getElementById("chart");
  if (!place || !window.uPlot) return;
  const { url, rangeMs, maxGapS, lang, zone } = place.dataset;
  const limits = ["low", "high"].filter((name) => name in place.dataset).map((name) => Number(place.dataset[name]));
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = new Intl.NumberFormat(lang, { maximumSignificantDigits: 4 });
  const clockTime = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone });
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
      scales: { x: { time: true, range: () => [(Date.now() - rangeMs) / 1000, Date.now() / 1000] }, y: { range: valueRange } },
      axes: [
        { ...axis, space: 70, values: (_, ticks) => ticks.map((t) => clockTime.format(t * 1000)) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map((v) => number.format(v)) },
      ],
      series: [
        { label: labelTime, value: (_, t) => (t == null ? "–" : fullTime.format(t * 1000)) },
        { label: labelMean, stroke: colour("--accent"), width: 2, value: shown, points: { show: false } },
        { ...edge, label: labelMin },
        { ...edge, label: labelMax },
      ],
      bands: [{ series: [3, 2], fill: colour("--band") }],
      hooks: { draw: [drawLimits] },
      cursor: { drag: { x: false, y: false } },
    };
  }

  let chart = null;
  let data = [[], [], [], []];

  function build() {
    chart?.destroy();
    chart = new uPlot(options(), data, place);
  }

  async function load() {
    const to = Date.now() + 1000;
    const answer = await fetch(`${url}&from=${to - rangeMs}&to=${to}`);
    if (!answer.ok) return;
    data = columns(await answer.json());
    chart ? chart.setData(data) : build();
    place.dataset.points = data[0].length;
  }

  load();
  document.addEventListener("fettle:refreshed", load);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
  new ResizeObserver(() => chart?.setSize({ width: place.clientWidth, height: 300 })).observe(place);
})();
