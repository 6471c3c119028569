"use strict";
// A line chart: steps on x, a few series, a running mean over the raw values. The legend shows the values at the pointer,
// or at the step chosen with the arrow keys, else the last ones, so that nothing ever covers the lines.

(() => {
  const HEIGHT = 150, LEFT = 38, RIGHT = 8, TOP = 8, BOTTOM = 20;

  avst.smooth = (values, window) => {
    let sum = 0, count = 0;
    const known = (v) => v !== null && v !== undefined;
    return values.map((value, i) => {
      if (known(value)) { sum += value; count += 1; }
      const old = values[i - window];
      if (i >= window && known(old)) { sum -= old; count -= 1; }
      return count ? sum / count : null;
    });
  };

  function ticks(low, high, n) {
    const raw = (high - low) / n || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const first = Math.ceil(low / step - 1e-9) * step;
    const out = [];
    for (let v = first; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
    return out;
  }

  const label = (v) => (Math.abs(v) >= 1000 || (v !== 0 && Math.abs(v) < 0.001) ? v.toExponential(0) : String(Number(v.toPrecision(3)))).replace("-", "−");

  function path(steps, values, x, y) {
    let d = "", pen = false;
    values.forEach((v, i) => {
      if (v === null || v === undefined) { pen = false; return; }
      d += `${pen ? "L" : "M"}${x(steps[i]).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = true;
    });
    return d;
  }

  function bounds(lines, fixed) {
    const values = lines.flatMap((l) => l.values).filter((v) => v !== null && v !== undefined);
    let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    if (fixed) { low = Math.min(low, fixed[0]); high = Math.max(high, fixed[1]); }
    if (low === 0 && high === 0) high = 1;
    if (high - low < 1e-12) { low -= Math.abs(low) * 0.1; high += Math.abs(high) * 0.1; }
    return [low, high];
  }

  // lines: [{name, color (a class), dashed, steps, values}];  options: {title, unit, range, window, hint}
  avst.chart = (lines, options) => {
    const box = avst.el("figure", { class: "chart" });
    const legend = avst.el("div", { class: "legend" });
    const at = avst.el("span", { class: "at" });
    const plot = avst.el("div", { class: "plot", tabindex: 0, role: "img", "aria-label": `${options.title} over steps; arrow keys read values` });
    box.append(avst.el("figcaption", { title: options.hint }, avst.el("b", {}, options.title), at), plot, legend);
    const smooth = lines.map((l) => avst.smooth(l.values, options.window));
    // two runs share an entry: "all 1.30 / 1.11", the solid line's value before the dashed one's
    const entries = new Map();
    const items = lines.map((l) => {
      const value = avst.el("span", { class: "value" });
      const entry = entries.get(l.name);
      if (entry) entry.append("/", value);
      else {
        entries.set(l.name, avst.el("span", { class: `key ${l.color}` }, options.single ? null : [avst.el("i", {}), l.name], value));
        legend.append(entries.get(l.name));
      }
      return value;
    });
    const all = [...new Set(lines.flatMap((l) => l.steps))].sort((a, b) => a - b);
    let chosen = null, cursor = null, x = null;

    function read(step) {
      chosen = step;
      const where = step === null ? all[all.length - 1] : step;
      at.textContent = all.length ? `step ${where}` : "no values";
      lines.forEach((l, i) => {
        let k = l.steps.findIndex((s) => s >= where);
        if (k < 0) k = l.steps.length - 1;
        items[i].textContent = avst.number(smooth[i][k], options.decimals ?? 3);
      });
      if (cursor) {
        cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
        if (step !== null) for (const k of ["x1", "x2"]) cursor.setAttribute(k, x(step));
      }
    }

    function draw(width) {
      const [low, high] = bounds(lines, options.range);
      const [first, last] = [all[0] ?? 0, Math.max(all[all.length - 1] ?? 1, (all[0] ?? 0) + 1)];
      x = (s) => LEFT + ((s - first) / (last - first)) * (width - LEFT - RIGHT);
      const y = (v) => TOP + (1 - (v - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
      const svg = avst.svg("svg", { width, height: HEIGHT, "aria-hidden": "true" });
      for (const v of ticks(low, high, 3)) {
        svg.append(avst.svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }),
          avst.svg("text", { class: "tick", x: LEFT - 6, y: y(v) + 3.5, "text-anchor": "end" }, label(v)));
      }
      for (const s of ticks(first, last, Math.max(2, Math.floor(width / 90))).filter(Number.isInteger)) {
        svg.append(avst.svg("text", { class: "tick", x: x(s), y: HEIGHT - 5, "text-anchor": s === first ? "start" : s === last ? "end" : "middle" }, String(s)));
      }
      lines.forEach((l) => svg.append(avst.svg("path", { class: `raw ${l.color}`, d: path(l.steps, l.values, x, y) })));
      lines.forEach((l, i) => svg.append(avst.svg("path", { class: `line ${l.color}${l.dashed ? " dashed" : ""}`, d: path(l.steps, smooth[i], x, y) })));
      cursor = avst.svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
      svg.append(cursor);
      avst.replace(plot, svg);
      read(chosen);
    }

    const nearest = (px) => all.reduce((best, s) => (Math.abs(x(s) - px) < Math.abs(x(best) - px) ? s : best), all[0]);
    plot.addEventListener("pointermove", (e) => all.length && read(nearest(e.clientX - plot.getBoundingClientRect().left)));
    plot.addEventListener("pointerleave", () => read(null));
    plot.addEventListener("blur", () => read(null));
    plot.addEventListener("keydown", (e) => {
      if (!all.length || !["ArrowLeft", "ArrowRight"].includes(e.key)) return;
      e.preventDefault();
      e.stopPropagation();
      const i = chosen === null ? all.length - 1 : all.indexOf(chosen) + (e.key === "ArrowRight" ? 1 : -1);
      read(all[Math.min(Math.max(i, 0), all.length - 1)]);
    });
    new ResizeObserver(([entry]) => entry.contentRect.width > 60 && draw(Math.floor(entry.contentRect.width))).observe(plot);
    return box;
  };
})();
