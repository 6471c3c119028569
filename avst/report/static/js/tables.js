"use strict";
// Tables 2 and 3: a row an evaluation with its skill below it, then the trivial answers; each figure with its interval,
// in numbers and as a whisker on 0 to 100.

(() => {
  const W = 84, H = 10;

  function whisker([value, low, high]) {
    const x = (v) => 3 + (Math.min(Math.max(v, 0), 100) / 100) * (W - 6);
    return avst.svg("svg", { class: "whisker", width: W, height: H, viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true" },
      avst.svg("line", { class: "scale", x1: x(0), x2: x(100), y1: H / 2, y2: H / 2 }),
      low !== null && avst.svg("line", { class: "span", x1: x(low), x2: x(high), y1: H / 2, y2: H / 2 }),
      avst.svg("circle", { cx: x(value), cy: H / 2, r: 3 }));
  }

  function cell(figure, kind) {
    if (!figure) return avst.el("td", {});
    const [value, low, high] = figure;
    if (value === null) return avst.el("td", { class: "none" }, "–");
    const whole = kind === "skill";
    const interval = low === null ? "" : `[${avst.number(low, whole ? 0 : 1)}, ${avst.number(high, whole ? 0 : 1)}]`;
    return avst.el("td", { title: `n = ${figure[3]}` },
      avst.el("b", {}, avst.number(value, whole ? 0 : 1)), " ", avst.el("small", {}, interval),
      kind === "skill" ? null : whisker(figure));
  }

  function block(part) {
    const kinds = { model: "", skill: "skill over the trivial answer", trivial: "" };
    const rows = part.rows.map((row) => avst.el("tr", { class: row.kind },
      avst.el("th", { scope: "row" }, row.kind === "skill" ? kinds.skill : row.name, row.kind === "trivial" ? avst.el("small", {}, " trivial") : null),
      row.cells.map((c) => cell(c, row.kind))));
    return avst.el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": part.title },
      avst.el("table", { class: "figures" },
        avst.el("caption", {}, avst.el("span", { class: `dot ${part.task}` }), part.title,
          avst.el("small", {}, `${part.table}, ${avst.plural(part.n, "question")}`)),
        avst.el("thead", {}, avst.el("tr", {}, avst.el("th", { scope: "col" }, avst.el("span", { class: "away" }, "answers")),
          part.figures.map((f) => avst.el("th", { scope: "col" }, f)))),
        avst.el("tbody", {}, rows)));
  }

  avst.tables = (tables, runs) => tables.map((table) => avst.el("section", { class: "card" },
    avst.el("h3", {}, `${table.run === null || runs.length === 1 ? "" : `${runs[table.run].name}: `}${table.split === "eval" ? "held-out" : "training"} questions`),
    table.blocks.map(block),
    table.notes.length ? avst.el("ul", { class: "notes" }, table.notes.map((n) => avst.el("li", {}, n))) : null));
})();
