"use strict";
// Which questions the list shows, and in what order.

(() => {
  const SORTS = [
    ["data", "order of the data"], ["high", "reward, highest first"], ["low", "reward, lowest first"],
    ["spread", "spread in the group"], ["gain", "greatest gain, A over B"], ["loss", "greatest loss, A under B"],
  ];
  const chosen = { task: "all", sort: "data", text: "", least: null, most: null, spread: "all" };
  let index = null, texts = null, changed = () => {};

  const select = (label, options, value, onchange, id) => avst.el("label", {}, avst.el("span", {}, label),
    avst.el("select", { id, onchange: (e) => onchange(e.target.value) }, options.map(([v, text]) => avst.el("option", { value: v, selected: v === value }, text))));

  const set = (name, value) => { chosen[name] = value; changed(); };

  async function search(text) {
    chosen.text = text.trim().toLowerCase();
    if (chosen.text && !texts) {
      texts = await avst.get("search").catch(() => []);
    }
    changed();
  }

  function number(label, name) {
    return avst.el("input", { type: "number", step: "0.1", placeholder: label, "aria-label": `${label} mean reward`, id: `filter-${name}`,
      oninput: (e) => set(name, e.target.value === "" ? null : Number(e.target.value)) });
  }

  function matches(row, i, choice) {
    if (chosen.task !== "all" && row[1] !== chosen.task) return false;
    const found = avst.summary(row, choice);
    if (!found) return false;
    if (chosen.least !== null && !(found.mean >= chosen.least)) return false;
    if (chosen.most !== null && !(found.mean !== null && found.mean <= chosen.most)) return false;
    if (chosen.spread !== "all" && (found.high - found.low > 1e-9) !== (chosen.spread === "spread")) return false;
    if (!chosen.text) return true;
    const own = `${row[0]} ${row[2]} ${row[3].join(" ")}`.toLowerCase();
    return own.includes(chosen.text) || (texts?.[i] || "").includes(chosen.text);
  }

  // [{i, row, a, b}] of the questions shown, sorted. a, b: summaries under the two choices.
  avst.shown = () => {
    const a = avst.choice(avst.state.a), b = avst.choice(avst.state.b);
    const rows = [];
    index.questions.forEach((row, i) => {
      if (matches(row, i, a)) rows.push({ i, row, a: avst.summary(row, a), b: avst.summary(row, b) });
    });
    const gain = (r) => (r.b && r.a.mean !== null && r.b.mean !== null ? r.a.mean - r.b.mean : null);
    const value = { high: (r) => r.a.mean, low: (r) => -r.a.mean, spread: (r) => r.a.high - r.a.low, gain, loss: (r) => (gain(r) === null ? null : -gain(r)) }[chosen.sort];
    if (value) {
      const keyed = rows.map((r) => [r.a.mean === null ? null : value(r), r]);
      keyed.sort(([x, p], [y, q]) => (x === null) - (y === null) || y - x || p.i - q.i);
      return keyed.map(([, r]) => r);
    }
    return rows;
  };

  // How many questions A has no answers to: they are in no list of A's.
  avst.unasked = () => {
    const a = avst.choice(avst.state.a);
    return index.questions.filter((row) => !avst.summary(row, a)).length;
  };

  avst.showFilters = (of, onChange) => {
    index = of;
    changed = onChange;
    const options = avst.choices.map((c) => [c.key, c.label]);
    const tasks = ["all", "temporal", "spatial", "st"].filter((t) => t === "all" || index.questions.some((q) => q[1] === t));
    const chips = tasks.map((task) => avst.el("button", { type: "button", class: `chip ${task}`, "aria-pressed": String(task === "all"), "data-task": task,
      onclick: (e) => {
        for (const chip of chips) chip.setAttribute("aria-pressed", String(chip === e.currentTarget));
        set("task", task);
      } }, task === "all" ? "all tasks" : task));
    avst.replace(avst.byId("filters"),
      avst.el("div", { class: "pair" },
        select("Answers (A)", options, avst.state.a, (v) => avst.go({ a: v, c: null, sa: null }), "choice-a"),
        select("Beside (B)", [["", "nothing"], ...options], avst.state.b || "", (v) => avst.go({ b: v || null, d: null, sb: null }), "choice-b")),
      avst.el("input", { type: "search", id: "search", placeholder: "Search questions and answers  ( / )", "aria-label": "Search questions and answers", autocomplete: "off", spellcheck: "false", oninput: (e) => search(e.target.value) }),
      avst.el("div", { class: "chips", role: "group", "aria-label": "Task" }, chips),
      avst.el("details", { class: "more", open: innerWidth > 820 && innerHeight > 700 }, avst.el("summary", {}, "Sort and filter"),
      avst.el("div", { class: "pair" },
        select("Sort by", SORTS, chosen.sort, (v) => set("sort", v), "sort"),
        select("Groups", [["all", "all"], ["spread", "with spread"], ["flat", "flat"]], chosen.spread, (v) => set("spread", v), "spread")),
      avst.el("div", { class: "range" }, avst.el("span", {}, "Mean reward"), number("least", "least"), "to", number("most", "most"))),
      avst.el("p", { class: "found", id: "found", role: "status" }));
  };
})();
