"use strict";
// The keyboard, and the dialog that explains it.

(() => {
  const KEYS = [
    ["j, k or ↓, ↑", "next, previous question"],
    ["1 – 9", "an answer of A; with shift, of B"],
    ["n, p", "next, previous answer of A"],
    ["space", "play or pause"],
    ["←, →", "a second back or on; with shift, a tenth"],
    ["c", "side by side: A with the other run, or with the earlier answers"],
    ["x", "change A and B over"],
    ["i", "boxes as scored, or interpolated between seconds"],
    ["m", "mute"],
    ["/", "search"],
    ["o, q", "overview, questions"],
    ["t", "light or dark"],
    ["?", "this list"],
    ["Esc", "close, or leave the search"],
  ];
  const READING = [
    "Gold boxes and intervals are dashed and amber; those of A are blue, of B pink.",
    "Boxes are drawn as the reward takes them: each stands for its second, half a second to both sides. The number beside a predicted name is the IoU of that second.",
    "A reward's value times its weight is what it gives; their sum is the total. The advantage says how far an answer was above its siblings.",
    "Reasons are the reward functions' own words, worked out when the report was made.",
  ];
  let index = null;

  avst.showHelp = () => {
    const dialog = avst.byId("keys");
    avst.replace(dialog, avst.el("h2", {}, "Keys"), avst.el("dl", {}, KEYS.map(([k, what]) => [avst.el("dt", {}, k), avst.el("dd", {}, what)])),
      avst.el("h2", {}, "How to read it"), avst.el("ul", {}, READING.map((t) => avst.el("li", {}, t))),
      avst.el("form", { method: "dialog" }, avst.el("button", { autofocus: true }, "Close")));
    dialog.showModal();
  };

  function another(by) {
    const n = avst.answersOf("a");
    const now = document.querySelector(".group.a .head[aria-pressed=true]")?.dataset.completion ?? 0;
    if (n) avst.go({ c: (Number(now) + by + n) % n });
  }

  function digit(e) {
    const found = /^Digit([1-9])$/.exec(e.code) || /^Numpad([1-9])$/.exec(e.code);
    if (!found) return false;
    const i = Number(found[1]) - 1, who = e.shiftKey ? "b" : "a";
    if (i < avst.answersOf(who)) avst.go(who === "a" ? { c: i } : { d: i });
    return true;
  }

  function sideBySide() {
    const { a, b } = avst.state;
    if (!b && !avst.partner(avst.choice(a), index)) {
      avst.byId("found").textContent = "There is nothing of the same questions to set beside A; choose B above.";
      return;
    }
    avst.go({ b: b ? null : avst.partner(avst.choice(a), index)?.key ?? null, d: null, sb: null });
    avst.syncFilters();
  }

  const COMMON = {
    t: () => avst.toggleTheme(), "?": () => avst.showHelp(),
    o: () => avst.go({ view: "overview" }, true), q: () => avst.go({ view: "questions" }, true),
    "/": () => { avst.go({ view: "questions" }); avst.byId("search").focus(); },
  };
  const QUESTIONS = {
    j: () => avst.step(1), ArrowDown: () => avst.step(1), k: () => avst.step(-1), ArrowUp: () => avst.step(-1),
    PageDown: () => avst.step(10), PageUp: () => avst.step(-10), Home: () => avst.step(-1e9), End: () => avst.step(1e9),
    n: () => another(1), p: () => another(-1), " ": () => avst.clock()?.toggle(),
    ArrowLeft: (e) => move(e, -1), ArrowRight: (e) => move(e, 1),
    c: sideBySide, i: () => avst.toggleBetween(), m: () => avst.byId("mute")?.click(),
    x: () => {
      const { a, b, c, d, sa, sb } = avst.state;
      if (b) { avst.go({ a: b, b: a, c: d, d: c, sa: sb, sb: sa }); avst.syncFilters(); }
    },
  };
  function move(e, by) {
    const clock = avst.clock();
    if (clock) clock.seek(clock.now() + by * (e.shiftKey ? 0.1 : 1));
  }

  // Typing, choosing in a select and pressing a focused button keep their own keys.
  function taken(e) {
    const at = e.target;
    if (avst.byId("keys").open) return true; // the focus may still be in a dialog that has just closed
    if (at.matches("input, textarea, select")) {
      if (e.key === "Escape") at.blur();
      return true;
    }
    if (at.matches("button, summary, a") && ["Enter", " "].includes(e.key)) return true;
    const scrolls = ["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"].includes(e.key);
    return scrolls && Boolean(at.closest("pre, .scroll"));
  }

  avst.listenToKeys = (of) => {
    index = of;
    addEventListener("keydown", (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey || taken(e)) return;
      const on = avst.state.view === "questions";
      const action = COMMON[e.key] || (on ? QUESTIONS[e.key] : null);
      if (action) { e.preventDefault(); action(e); } else if (on && digit(e)) e.preventDefault();
    });
    avst.byId("help").addEventListener("click", avst.showHelp);
    avst.byId("theme").addEventListener("click", avst.toggleTheme);
  };
})();
