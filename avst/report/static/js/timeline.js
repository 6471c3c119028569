"use strict";
// Gold and predicted intervals over the sound's waveform; a click or the arrow keys set the time.

(() => {
  const LABEL = 92, RIGHT = 10, AXIS = 24, WAVE = 46, ROW = 18, CELL = 12, GAP = 3, MOST = 6;

  function axis(duration) {
    const step = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((s) => duration / s <= 12) || 1200;
    const out = [];
    for (let t = 0; t <= duration + 1e-6; t += step) out.push(t);
    return out;
  }

  function wave(waveform, x, y) {
    const bytes = (hex) => Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16) / 255);
    const area = (levels) => {
      const half = WAVE / 2 - 2, at = (i) => x(i * waveform.s).toFixed(1);
      const upper = levels.map((v, i) => `${at(i)} ${(y + WAVE / 2 - v * half).toFixed(1)}`);
      const lower = levels.map((v, i) => `${at(i)} ${(y + WAVE / 2 + v * half).toFixed(1)}`).reverse();
      return `M${[...upper, ...lower].join("L")}Z`;
    };
    return [avst.svg("path", { class: "peak", d: area(bytes(waveform.peak)) }), avst.svg("path", { class: "rms", d: area(bytes(waveform.rms)) })];
  }

  const visible = (e) => e[1] || e[2] || e[3] || e[4];
  const ticksOf = (track) => [...new Set(track.filter(visible).map((e) => e[0]))];

  // Rows of one answer: its objects with an interval or a box, then the IoU of each gold second.
  function answerRows(answer, who, gold) {
    if (!answer) return [];
    const found = answer.objects.filter((o) => o.intervals.length || ticksOf(o.track).length).slice(0, MOST);
    const rows = found.map((o) => ({ who, name: o.name, spans: o.intervals, ticks: ticksOf(o.track), dim: o.speaks === undefined && o.gold === undefined }));
    if (!rows.length) rows.push({ who, name: "no time given", spans: [], ticks: [], empty: true });
    for (let j = 0; j < gold.length; j++) {
      const cells = answer.seconds.filter((s) => s[0] === j).map(([, t, , iou]) => [t, iou]);
      if (cells.length) rows.push({ who, name: gold.length > 1 ? `IoU ${gold[j].name}` : "IoU by second", cells });
    }
    return rows;
  }

  function drawRow(row, x, y, width) {
    const short = row.name.length > 13 ? `${row.name.slice(0, 12)}…` : row.name;
    const parts = [avst.svg("text", { class: `label ${row.who}`, x: LABEL - 8, y: y + (row.cells ? 9.5 : 12.5), "text-anchor": "end" }, avst.svg("title", {}, row.name), short || "(no name)")];
    if (row.cells) {
      row.cells.forEach(([t, iou], i) => {
        // half a second to both sides, or half the way to the neighbour where seconds are written more closely
        const from = Math.max(t - 0.5, 0, i ? (row.cells[i - 1][0] + t) / 2 : 0);
        const to = Math.min(t + 0.5, i + 1 < row.cells.length ? (row.cells[i + 1][0] + t) / 2 : Infinity);
        const cell = avst.svg("rect", { class: "cell", x: x(from) + 0.5, y, width: Math.max(x(to) - x(from) - 1, 2), height: CELL - 2, rx: 1.5 }, avst.svg("title", {}, `second ${t}: IoU ${avst.number(iou)}`));
        cell.style.setProperty("--iou", iou);
        parts.push(cell);
      });
      return parts;
    }
    parts.push(avst.svg("rect", { class: "rail", x: LABEL, y: y + 1, width: width - LABEL - RIGHT, height: ROW - 4, rx: 2 }));
    for (const [start, end] of row.spans) {
      parts.push(avst.svg("rect", { class: `span ${row.who}${row.dim ? " dim" : ""}`, x: x(start), y: y + 1, width: Math.max(x(end) - x(start), 1.5), height: ROW - 4, rx: 2 }, avst.svg("title", {}, `${row.name}: ${start} to ${end} s`)));
    }
    for (const t of row.ticks.slice(0, 600)) {
      parts.push(avst.svg("circle", { class: `tick ${row.who}`, cx: x(t), cy: y + ROW / 2 - 1, r: 2.6 }, avst.svg("title", {}, `${row.name}: a box at ${t} s`)));
    }
    return parts;
  }

  // {node, draw(answers {a, b}), at(t)}
  avst.makeTimeline = (record, video, clock) => {
    const node = avst.el("div", { class: "timeline", tabindex: 0, role: "slider", "aria-label": "Time; arrow keys move by a second, with shift by a tenth",
      "aria-valuemin": 0, "aria-valuemax": clock.duration, "aria-valuenow": 0 });
    let x = null, cursor = null, head = null, answers = {}, width = 0;

    function draw() {
      if (width < 200) return;
      const inner = width - LABEL - RIGHT;
      x = (t) => LABEL + (Math.min(Math.max(t, 0), clock.duration) / clock.duration) * inner;
      const rows = [...record.gold.map((o) => ({ who: "gold", name: o.name, spans: o.intervals, ticks: ticksOf(o.track) })),
        ...answerRows(answers.a, "a", record.gold), ...answerRows(answers.b, "b", record.gold)];
      const parts = [];
      let y = AXIS;
      if (video.waveform) parts.push(avst.svg("text", { class: "label", x: LABEL - 8, y: y + WAVE / 2 + 4, "text-anchor": "end" }, "sound"), ...wave(video.waveform, x, y));
      else parts.push(avst.svg("text", { class: "label", x: LABEL - 8, y: y + 12, "text-anchor": "end" }, "no sound"));
      y += (video.waveform ? WAVE : 18) + GAP;
      let before = "gold";
      for (const row of rows) {
        if (row.who !== before) { y += 4; before = row.who; }
        parts.push(...drawRow(row, x, y, width));
        y += (row.cells ? CELL : ROW) + 1;
      }
      const grid = axis(clock.duration).map((t) => [avst.svg("line", { class: "grid", x1: x(t), x2: x(t), y1: AXIS - 2, y2: y }), avst.svg("text", { class: "axis", x: x(t), y: 11, "text-anchor": "middle" }, String(Number(t.toFixed(1))))]);
      cursor = avst.svg("line", { class: "cursor", y1: AXIS - 6, y2: y });
      head = avst.svg("circle", { class: "head", r: 4, cy: AXIS - 6 });
      avst.replace(node, avst.svg("svg", { width, height: y + 2, "aria-hidden": "true" }, grid, parts, cursor, head));
      at(clock.now());
    }

    function at(t) {
      node.setAttribute("aria-valuenow", t.toFixed(2));
      node.setAttribute("aria-valuetext", avst.seconds(t));
      if (!cursor) return;
      for (const k of ["x1", "x2"]) cursor.setAttribute(k, x(t));
      head.setAttribute("cx", x(t));
    }

    const seek = (e) => {
      const px = e.clientX - node.getBoundingClientRect().left;
      clock.seek(((px - LABEL) / (width - LABEL - RIGHT)) * clock.duration);
    };
    node.addEventListener("pointerdown", (e) => { node.setPointerCapture(e.pointerId); seek(e); });
    node.addEventListener("pointermove", (e) => e.buttons && seek(e));
    new ResizeObserver(([entry]) => { width = Math.floor(entry.contentRect.width); draw(); }).observe(node);
    return { node, at, draw(now) { answers = now; draw(); } };
  };
})();
