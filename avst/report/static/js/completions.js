"use strict";
// Every answer of a group: what it said, what it earned and why, and how far that was above its siblings.

(() => {
  const weightOf = (weights, name, task) => {
    const w = weights[name];
    return typeof w === "number" ? w : w?.[task] ?? null;
  };

  // A reward has the colour of its place in the recipe, whatever the task.
  const color = (weights, name) => `p${Math.max(0, Object.keys(weights).indexOf(name)) % 6}`;

  // The share of each reward in the total, as a bar.
  function contributions(c, weights, task, most) {
    const parts = Object.keys(c.rewards).map((name) => [name, (c.rewards[name] ?? 0) * (weightOf(weights, name, task) ?? 0)]).filter(([, v]) => v > 0);
    return avst.el("span", { class: "bar", "aria-hidden": "true" }, parts.map(([name, v]) => {
      const part = avst.el("i", { class: `part ${color(weights, name)}`, title: `${name} gives ${avst.number(v)}` });
      part.style.width = `${(100 * v) / most}%`;
      return part;
    }));
  }

  function advantage(value) {
    if (value === null || value === undefined) return null;
    const cls = value >= 0.005 ? "up" : value <= -0.005 ? "down" : "";
    return avst.el("span", { class: `advantage ${cls}`, title: "advantage: how far above its siblings" }, avst.number(value, 2, true));
  }

  function rewardRow(name, c, weights, task) {
    const value = c.rewards[name], weight = weightOf(weights, name, task);
    const why = c.reasons[name] || [];
    const again = name in c.again ? avst.el("em", {}, ` (today ${avst.number(c.again[name], 3)})`) : null;
    return avst.el("tr", { class: value === null ? "silent" : "" },
      avst.el("th", { scope: "row" }, name),
      avst.el("td", { class: "n" }, value === null ? "–" : avst.number(value, 3), again),
      avst.el("td", { class: "n" }, weight === null ? "" : `× ${avst.number(weight, 2)}`),
      avst.el("td", { class: "n" }, value === null || weight === null ? "" : avst.number(value * weight, 3)),
      avst.el("td", { class: "why" }, value === null && !why.length ? "does not apply" : why.map((w) => avst.el("div", {}, w))));
  }

  function details(c, weights, task) {
    const problems = Object.entries(c.problems);
    const names = Object.keys(c.rewards);
    return avst.el("div", { class: "details" },
      names.length ? avst.el("div", { class: "scroll" }, avst.el("table", { class: "rewards" },
        avst.el("thead", {}, avst.el("tr", {}, ["reward", "value", "weight", "gives", "why"].map((h) => avst.el("th", { scope: "col" }, h)))),
        avst.el("tbody", {}, names.map((name) => rewardRow(name, c, weights, task))))) : null,
      problems.length ? avst.el("p", { class: "problems" }, "Could not be read: ", problems.map(([why, n]) => `${why.replaceAll("_", " ")} ×${n}`).join(", ")) : null,
      c.boxes_unknown ? avst.el("p", { class: "problems" }, "Its boxes are not drawn: they are in pixels of the frame the model saw, and without the video nobody knows that frame.") : null,
      c.hidden_objects ? avst.el("p", { class: "problems" }, `${avst.plural(c.hidden_objects, "further object")} not drawn.`) : null,
      c.tokens === null || c.tokens === undefined ? null : avst.el("p", { class: "tokens" }, avst.plural(c.tokens, "token"), c.truncated ? ", cut off before it ended" : ""));
  }

  function card(c, i, who, open, most, weights, task, onSelect) {
    const rank = `${who}-${i}`;
    const head = avst.el("button", { type: "button", class: "head", "aria-pressed": String(open), "aria-controls": `text-${rank}`, "data-completion": i, onclick: () => onSelect(i) },
      avst.el("span", { class: "no" }, String(i + 1)),
      avst.el("span", { class: "total", title: "total reward" }, avst.number(c.total)),
      contributions(c, weights, task, most),
      c.truncated ? avst.el("span", { class: "cut" }, "cut off") : null,
      advantage(c.advantage));
    const text = avst.el("pre", { id: `text-${rank}`, tabindex: open ? 0 : null }, c.text === "" ? "(empty)" : open ? c.text : c.text.slice(0, 400));
    const node = avst.el("section", { class: `completion ${who}${open ? " open" : ""}`, "aria-label": `Answer ${i + 1}` }, head, text, open ? details(c, weights, task) : null);
    if (!open) text.addEventListener("click", () => onSelect(i));
    return node;
  }

  // who: "a" or "b";  groups: those of the same set, among which one can change
  avst.completions = ({ who, label, group, groups, selected, weights, task, onSelect, onStep }) => {
    const most = Math.max(1, ...group.completions.map((c) => Object.entries(c.rewards).reduce((sum, [n, v]) => sum + Math.max(0, (v ?? 0) * (weightOf(weights, n, task) ?? 0)), 0)));
    const steps = groups.length > 1 ? avst.el("label", { class: "step" }, "step",
      avst.el("select", { "aria-label": `Step of ${label}`, onchange: (e) => onStep(Number(e.target.value)) },
        groups.map((g) => avst.el("option", { value: g.step, selected: g === group }, String(g.step))))) : group.step === null ? null : avst.el("span", { class: "step" }, `step ${group.step}`);
    const names = Object.keys(weights).filter((n) => (weightOf(weights, n, task) ?? 0) > 0);
    return avst.el("section", { class: `group ${who}`, "aria-label": label },
      avst.el("header", {}, avst.el("h3", {}, avst.el("i", { class: `swatch ${who}` }), label), steps,
        avst.el("span", { class: "keys" }, names.map((n) => avst.el("span", {}, avst.el("i", { class: `part ${color(weights, n)}` }), n)))),
      group.skipped ? avst.el("p", { class: "empty" }, `Not answered: ${group.skipped}`) : null,
      group.completions.map((c, i) => card(c, i, who, i === selected, most, weights, task, onSelect)));
  };
})();
