"use strict";
// The first view: reward curves by part and task, the run's health, and the tables before and after.

(() => {
  const TASKS = ["temporal", "spatial", "st"];
  const HEALTH = {
    reward_std: ["Spread in a group", "Standard deviation of the totals within a group: what GRPO learns from."],
    frac_reward_zero_std: ["Flat groups", "Share of groups whose answers all earned the same; they teach nothing."],
    "completions/mean_length": ["Length", "Mean tokens of a completion."],
    "completions/clipped_ratio": ["Cut off", "Share of completions that were cut off before they ended."],
    entropy: ["Entropy", "Of the policy, a token."],
    kl: ["KL", "Divergence from the reference."],
    grad_norm: ["Gradient norm", "Before clipping."],
    loss: ["Loss", "Its value says little in GRPO."],
  };
  let window = null;

  const has = (series, name) => series[name]?.some((v) => v !== null);

  // One line a task (and one for all), a run; the second run is dashed.
  function lines(curves, names) {
    return curves.flatMap((c, r) => Object.entries(names)
      .filter(([, name]) => has(c.series, name))
      .map(([color, name]) => ({
        name: color, color, dashed: r > 0, steps: c.steps, values: c.series[name],
      })));
  }

  function rewardCharts(curves) {
    const parts = new Set(curves.flatMap((c) => Object.keys(c.series)).map((n) => /^rewards\/(.+)\/mean$/.exec(n)?.[1]).filter(Boolean));
    const charts = [["Total reward", { all: "reward", ...Object.fromEntries(TASKS.map((t) => [t, `reward/${t}`])) }, null, "Weighted sum of the rewards that apply to the task."]];
    for (const part of [...parts].sort()) {
      const names = { all: `rewards/${part}/mean`, ...Object.fromEntries(TASKS.map((t) => [t, `rewards/${part}/${t}`])) };
      charts.push([part, names, [0, 1], "Before its weight."]);
    }
    return charts.map(([title, names, range, hint]) => [lines(curves, names), { title, range: range || [0, 0], hint, window }])
      .filter(([found]) => found.length).map(([found, options]) => avst.chart(found, options));
  }

  function healthCharts(curves) {
    return Object.entries(HEALTH).map(([name, [title, hint]]) => [lines(curves, { all: name }), { title, hint, window, single: true }])
      .filter(([found]) => found.length).map(([found, options]) => avst.chart(found, options));
  }

  function drawCurves(box, health, curves) {
    const rewards = rewardCharts(curves), others = healthCharts(curves);
    avst.replace(box, rewards.length ? avst.el("div", { class: "charts" }, rewards)
      : avst.el("p", { class: "empty" }, "No curves: metrics.jsonl of this run has no rewards over steps."));
    avst.replace(health, others);
    health.closest("details").hidden = !others.length;
  }

  function smoothing(curves, redraw) {
    const most = Math.max(1, ...curves.map((c) => c.steps.length));
    window ??= Math.max(1, Math.min(10, Math.round(most / 5)));
    const said = avst.el("output", {}, String(window));
    const slider = avst.el("input", { type: "range", min: 1, max: Math.min(100, Math.max(2, most)), value: window, "aria-label": "Smoothing: running mean over so many logged steps",
      oninput: (e) => { window = Number(e.target.value); said.textContent = window; redraw(); } });
    return avst.el("label", { class: "smoothing" }, "Running mean over", slider, said, "logs");
  }

  function facts(index) {
    return index.runs.map((run, r) => avst.el("div", { class: "fact" },
      avst.el("b", {}, run.name), avst.el("span", {}, `recipe ${run.recipe}`), avst.el("span", {}, `model ${run.model}`),
      index.runs.length > 1 ? avst.el("span", {}, r ? "dashed lines" : "solid lines") : null));
  }

  function weights(index) {
    const run = index.runs[0];
    const shown = (w) => typeof w === "number" ? avst.number(w, 2) : TASKS.filter((t) => t in w).map((t) => `${t} ${avst.number(w[t], 2)}`).join(", ");
    return avst.el("p", { class: "weights" }, "Weights: ", Object.entries(run.rewards).map(([name, w]) => avst.el("span", {}, avst.el("b", {}, name), ` ${shown(w)}`)));
  }

  avst.showOverview = async (index) => {
    const root = avst.byId("overview");
    if (root.childElementCount) return;
    const [curves, tables] = await Promise.all([avst.get("curves"), avst.get("tables")]);
    const box = avst.el("div", {}), health = avst.el("div", { class: "charts small" });
    const redraw = () => drawCurves(box, health, curves);
    const notes = [...index.notes, ...index.runs.flatMap((r) => r.notes.map((n) => (index.runs.length > 1 ? `${r.name}: ${n}` : n)))];
    const slider = smoothing(curves, redraw);
    avst.replace(root,
      avst.el("div", { class: "facts" }, facts(index)),
      notes.length ? avst.el("ul", { class: "notes warn" }, notes.map((n) => avst.el("li", {}, n))) : null,
      avst.el("section", { class: "card" }, avst.el("div", { class: "head" }, avst.el("h2", {}, "Rewards over the run"), slider), weights(index), box),
      avst.el("h2", {}, tables.length > 1 || tables.length === 0 ? "Evaluations" : "Before and after"),
      tables.length ? avst.el("div", {}, avst.tables(tables, index.runs))
        : avst.el("p", { class: "empty" }, "No evaluation of this run was found. `avst eval` makes one; --eval names one elsewhere."),
      avst.el("details", { class: "card", open: true }, avst.el("summary", {}, "The run's health"), health));
    redraw();
  };
})();
