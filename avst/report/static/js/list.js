"use strict";
// The list of questions: only the rows in sight exist, so that thousands cost what twenty do.

(() => {
  const ROW = 54, MARGIN = 6;
  let rows = [], top = 0, scale = 1, drawn = new Map(), spacer = null;

  function meter(found, cls) {
    if (!found || found.mean === null) return avst.el("span", { class: `meter ${cls}` });
    const at = (v) => `${(Math.min(Math.max(v / scale, 0), 1) * 100).toFixed(1)}%`;
    const range = avst.el("i", {}), mark = avst.el("b", {});
    range.style.left = at(found.low);
    range.style.width = `calc(${at(found.high)} - ${at(found.low)})`;
    mark.style.left = at(found.mean);
    return avst.el("span", { class: `meter ${cls}` }, range, mark);
  }

  function row(entry, position) {
    const { i, row: [id, task, text], a, b } = entry;
    const gain = b && a.mean !== null && b.mean !== null ? a.mean - b.mean : null;
    const shown = avst.number(a.mean);
    const node = avst.el("div", { class: "row", role: "option", id: `row-${i}`, "data-q": i, "aria-selected": String(i === avst.state.q),
      "aria-posinset": position + 1, "aria-setsize": rows.length, onclick: () => avst.go({ q: i, c: null, d: null, sa: null, sb: null }) },
      avst.el("span", { class: `dot ${task}`, title: task }),
      avst.el("span", { class: "text" }, text),
      avst.el("span", { class: "mean", title: a.n > 1 ? `mean of ${a.n} answers, ${avst.number(a.low)} to ${avst.number(a.high)}` : "reward" }, shown),
      avst.el("span", { class: "id" }, id),
      gain === null ? null : avst.el("span", { class: `gain ${gain > 1e-9 ? "up" : gain < -1e-9 ? "down" : ""}` }, avst.number(gain, 2, true)),
      avst.el("span", { class: "meters" }, meter(a, "a"), b ? meter(b, "b") : null));
    node.style.top = `${position * ROW}px`;
    return node;
  }

  function draw() {
    const list = avst.byId("list");
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - MARGIN);
    const last = Math.min(rows.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + MARGIN);
    for (const [position, node] of drawn) {
      if (position < first || position >= last) { node.remove(); drawn.delete(position); }
    }
    for (let position = first; position < last; position++) {
      if (drawn.has(position)) continue;
      const node = row(rows[position], position);
      spacer.append(node);
      drawn.set(position, node);
    }
  }

  avst.drawList = () => {
    rows = avst.shown();
    scale = Math.max(1, ...rows.map((r) => r.a.high ?? 0));
    const list = avst.byId("list");
    drawn = new Map();
    spacer = avst.el("div", { class: "spacer", role: "presentation" });
    spacer.style.height = `${rows.length * ROW}px`;
    avst.replace(list, rows.length ? spacer : avst.el("p", { class: "empty" }, "No question is like that."));
    if (rows.length) draw();
    const means = rows.map((r) => r.a.mean).filter((v) => v !== null);
    const mean = means.length ? `, mean reward ${avst.number(means.reduce((x, y) => x + y, 0) / means.length)}` : "";
    const others = avst.unasked();
    const elsewhere = others ? `; A has no answers to ${others} others` : "";
    avst.byId("found").textContent = `${avst.plural(rows.length, "question")}${mean}${elsewhere}`;
  };

  // Mark the question that is looked at, and bring it in sight.
  avst.markRow = () => {
    const list = avst.byId("list");
    for (const node of drawn.values()) node.setAttribute("aria-selected", String(Number(node.dataset.q) === avst.state.q));
    const position = rows.findIndex((r) => r.i === avst.state.q);
    if (position < 0) { list.removeAttribute("aria-activedescendant"); return; }
    const y = position * ROW;
    if (y < list.scrollTop) list.scrollTop = y;
    else if (y + ROW > list.scrollTop + list.clientHeight) list.scrollTop = y + ROW - list.clientHeight;
    draw();
    list.setAttribute("aria-activedescendant", `row-${avst.state.q}`);
  };

  avst.step = (by) => {
    if (!rows.length) return;
    const here = rows.findIndex((r) => r.i === avst.state.q);
    const next = here < 0 ? 0 : Math.min(Math.max(here + by, 0), rows.length - 1);
    avst.go({ q: rows[next].i, c: null, d: null, sa: null, sb: null });
  };

  avst.firstRow = () => (rows.length ? rows[0].i : null);
  avst.hasRow = (i) => rows.some((r) => r.i === i);

  avst.byId("list").addEventListener("scroll", () => {
    if (spacer?.isConnected && Math.abs(avst.byId("list").scrollTop - top) > 4) { top = avst.byId("list").scrollTop; draw(); }
  }, { passive: true });
  new ResizeObserver(() => spacer?.isConnected && draw()).observe(avst.byId("list"));
})();
