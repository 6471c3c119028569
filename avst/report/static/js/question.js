"use strict";
// One question: its clip with gold and predicted boxes, the timeline, and the answers; two of everything side by side.

(() => {
  let index = null, shown = null; // shown: {q, a, b, record, video, clock, stages, timeline, answersBox}
  let ticket = 0;

  const weights = (choice) => index.runs[choice.run].rewards;

  function sides() {
    const state = avst.state;
    const a = avst.choice(state.a), b = avst.choice(state.b);
    const side = (who, choice, step, selected) => {
      const group = choice && avst.pick(shown.record.groups, choice, step);
      if (!group) return choice ? { who, choice, group: { completions: [], step: null, skipped: null, none: true }, answer: null } : null;
      const n = Math.min(selected ?? best(group), group.completions.length - 1);
      return { who, choice, group, selected: n, answer: group.completions[n] || null };
    };
    return [side("a", a, state.sa, state.c), side("b", b, state.sb, state.d)].filter(Boolean);
  }

  function best(group) {
    return group.completions.reduce((at, c, i) => ((c.total ?? -1) > (group.completions[at].total ?? -1) ? i : at), 0);
  }

  // The first moment at which there is something to see or to hear.
  function beginning(record) {
    const times = record.gold.flatMap((o) => [...o.track.filter((e) => e[1] || e[2] || e[3] || e[4]).map((e) => e[0]), ...o.intervals.map((i) => i[0])]);
    return times.length ? Math.min(...times) : 0;
  }

  function controls(clock, picture) {
    const play = avst.el("button", { type: "button", class: "play", "aria-label": "Play or pause", title: "Play or pause (space)", onclick: () => clock.toggle() }, "▶");
    const time = avst.el("output", { class: "time" });
    const mute = avst.el("button", { type: "button", "aria-pressed": "false", "aria-label": "Mute", title: "Mute (m)", onclick: () => { picture.muted = !picture.muted; mute.setAttribute("aria-pressed", String(picture.muted)); } }, "mute");
    mute.id = "mute";
    const rate = avst.el("select", { "aria-label": "Speed", onchange: (e) => clock.setRate(Number(e.target.value)) }, [0.25, 0.5, 1, 2].map((r) => avst.el("option", { value: r, selected: r === 1 }, `${r}×`)));
    const between = avst.el("button", { type: "button", id: "between", "aria-pressed": String(avst.between), title: "Boxes as scored (held half a second to both sides), or on the straight way between seconds (i)", onclick: () => avst.toggleBetween() }, "interpolate");
    clock.onTime((t) => {
      time.textContent = `${t.toFixed(2)} / ${clock.duration.toFixed(1)} s`;
      play.textContent = clock.playing() ? "❚❚" : "▶";
    });
    return avst.el("div", { class: "controls" }, play, time, rate, picture ? mute : null, between,
      avst.el("span", { class: "legend" }, avst.el("span", {}, avst.el("i", { class: "swatch gold" }), "gold"), avst.el("span", {}, avst.el("i", { class: "swatch a" }), "A"), avst.el("span", { class: "only-b" }, avst.el("i", { class: "swatch b" }), "B")));
  }

  avst.toggleBetween = () => {
    avst.between = !avst.between;
    avst.byId("between")?.setAttribute("aria-pressed", String(avst.between));
    redraw();
  };

  function head(record, row) {
    const gold = avst.el("details", { class: "gold-text" }, avst.el("summary", {}, "gold answer"), avst.el("pre", { tabindex: 0 }, record.gold_text));
    return avst.el("header", { class: "asked" },
      avst.el("p", { class: "where" }, avst.el("span", { class: `task ${record.task}` }, record.task), avst.el("span", { class: "id" }, record.id),
        avst.el("button", { type: "button", class: "prev", "aria-label": "Previous question", title: "Previous question (k)", onclick: () => avst.step(-1) }, "‹"),
        avst.el("button", { type: "button", class: "next", "aria-label": "Next question", title: "Next question (j)", onclick: () => avst.step(1) }, "›")),
      avst.el("h2", {}, record.text), gold);
  }

  function build(record, video) {
    const ends = [...record.gold.flatMap((o) => [...o.intervals.map((i) => i[1]), ...o.track.map((e) => e[0])])];
    const duration = Math.max(video.duration || record.duration, ...ends, 0.1);
    const picture = avst.makeVideo(video);
    const clock = avst.makeClock(picture, duration);
    const timeline = avst.makeTimeline(record, video, clock);
    const pictures = avst.el("div", { class: "pictures" });
    shown = { ...shown, record, video, picture, clock, timeline, pictures, stages: [], answers: avst.el("div", { class: "answers" }) };
    clock.onTime((t) => { timeline.at(t); drawStages(t); });
    if (picture) for (const event of ["seeked", "loadeddata"]) picture.addEventListener(event, () => drawStages(clock.now()));
    new ResizeObserver(() => drawStages(clock.now())).observe(pictures);
    avst.replace(avst.byId("question"), head(record),
      avst.el("div", { class: "desk" }, avst.el("div", { class: "watch" }, pictures, controls(clock, picture), timeline.node), shown.answers));
    clock.seek(beginning(record));
  }

  function drawStages(t) {
    if (!shown?.stages) return;
    for (const { stage, side } of shown.stages) stage.draw(t, side.answer);
  }

  // Everything that depends on the choice of answers, and not on the question alone.
  function redraw() {
    if (!shown?.record) return;
    const { record, video, picture, clock, timeline } = shown;
    const both = sides();
    const double = both.length > 1;
    avst.byId("question").classList.toggle("double", double);
    if (shown.stages.length !== both.length) {
      const made = both.map((side, i) => avst.makeStage(record, video, picture, side.who, i > 0));
      avst.replace(shown.pictures, made.map((stage, i) => avst.el("figure", {}, stage.node, avst.el("figcaption", { hidden: !double }))));
      shown.stages = made.map((stage) => ({ stage, side: null }));
    }
    both.forEach((side, i) => {
      shown.stages[i].side = side;
      avst.replace(shown.pictures.children[i].lastChild, avst.el("i", { class: `swatch ${side.who}` }), side.choice.label);
    });
    timeline.draw(Object.fromEntries(both.map((side) => [side.who, side.answer])));
    drawStages(clock.now());
    const kept = document.activeElement?.closest?.(".completion .head");
    const focus = kept && [kept.closest(".group").classList.contains("b") ? "b" : "a", kept.dataset.completion];
    avst.replace(shown.answers, both.map((side) => (side.group.none
      ? avst.el("section", { class: `group ${side.who}` }, avst.el("header", {}, avst.el("h3", {}, avst.el("i", { class: `swatch ${side.who}` }), side.choice.label)), avst.el("p", { class: "empty" }, "This question was not asked here."))
      : avst.completions({
        who: side.who, label: side.choice.label, group: side.group, groups: record.groups.filter((g) => g.set === side.choice.set && g.step !== null),
        selected: side.selected, weights: weights(side.choice), task: record.task,
        onSelect: (i) => avst.go(side.who === "a" ? { c: i } : { d: i }),
        onStep: (step) => avst.go(side.who === "a" ? { sa: step, c: null } : { sb: step, d: null }),
      }))));
    if (focus) shown.answers.querySelector(`.group.${focus[0]} [data-completion="${focus[1]}"]`)?.focus({ preventScroll: true });
  }

  avst.clock = () => shown?.clock || null;
  avst.answersOf = (who) => sides().find((s) => s.who === who)?.group.completions.length || 0;

  avst.showQuestion = async (of) => {
    index = of;
    const { q } = avst.state;
    if (q === null || !index.questions[q]) {
      shown?.clock?.stop();
      shown = null;
      avst.replace(avst.byId("question"), avst.el("p", { class: "empty" }, index.questions.length ? "Choose a question." : "This run kept no answers, so there is nothing to look at here."));
      return;
    }
    if (shown?.q === q) { redraw(); return; }
    const mine = ++ticket;
    try {
      const record = await avst.get(`q/${q}`);
      const video = await avst.get(`v/${record.video}`);
      if (mine !== ticket) return; // another question was asked for meanwhile
      shown?.clock?.stop();
      shown = { q };
      build(record, video);
      redraw();
      avst.byId("question").scrollTop = 0;
    } catch (error) {
      if (mine !== ticket) return;
      shown = null;
      avst.replace(avst.byId("question"), avst.el("p", { class: "empty" }, error.message));
    }
  };
})();
