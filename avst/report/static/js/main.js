"use strict";
// The page begins here: the index is read, then whatever the address asks for is shown.

(() => {
  let index = null;

  function showView() {
    for (const view of ["overview", "questions"]) {
      avst.byId(view).hidden = avst.state.view !== view;
      const tab = avst.byId(`tab-${view}`);
      if (avst.state.view === view) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
  }

  avst.syncFilters = () => {
    avst.byId("choice-a").value = avst.state.a;
    avst.byId("choice-b").value = avst.state.b || "";
  };

  // What the address leaves open, or gets wrong.
  function settle() {
    const changes = {};
    if (!avst.choice(avst.state.a)) {
      const asked = index.questions[avst.state.q]; // a link to a question alone shows answers that it has
      const answered = asked && [...avst.choices].reverse().find((c) => avst.summary(asked, c) && index.sets[c.set].kind === "eval" && c.run === 0);
      const first = avst.choices.find((c) => index.questions.some((row) => avst.summary(row, c))) || avst.choices[0];
      changes.a = ((asked && !avst.summary(asked, first) && answered) || first)?.key ?? null;
    }
    if (avst.state.b && !avst.choice(avst.state.b)) changes.b = null;
    if (!avst.state.a && index.runs.length > 1) changes.b = avst.partner(avst.choice(changes.a), index)?.key ?? null;
    if (Object.keys(changes).length) avst.state = { ...avst.state, ...changes };
  }

  function firstQuestion() {
    if (avst.state.view === "questions" && avst.state.q === null && avst.firstRow() !== null) avst.go({ q: avst.firstRow() });
  }

  function changed(before) {
    settle();
    showView();
    if (before.a !== avst.state.a || before.b !== avst.state.b) {
      avst.syncFilters();
      avst.drawList();
      if (before.a !== avst.state.a && !avst.hasRow(avst.state.q) && avst.firstRow() !== null) {
        avst.state = { ...avst.state, q: avst.firstRow() };
      }
    }
    show();
  }

  function show() {
    if (avst.state.view === "overview") {
      avst.clock()?.playing() && avst.clock().toggle();
      avst.showOverview(index).catch(fail);
    } else {
      if (avst.state.q === null) { firstQuestion(); if (avst.state.q !== null) return; }
      avst.markRow();
      avst.showQuestion(index);
    }
  }

  function fail(error) {
    avst.byId("overview").hidden = false;
    avst.replace(avst.byId("overview"), avst.el("p", { class: "empty" }, `This report cannot be read: ${error.message}`));
  }

  async function begin() {
    index = await avst.get("index");
    const names = index.runs.map((r) => r.name).join(" and ");
    document.title = `${names} · avst report`;
    avst.byId("runs").textContent = names;
    avst.byId("count").textContent = index.questions.length.toLocaleString("en");
    avst.makeChoices(index);
    settle();
    avst.showFilters(index, () => { avst.drawList(); avst.markRow(); });
    avst.drawList();
    avst.listenToKeys(index);
    for (const view of ["overview", "questions"]) avst.byId(`tab-${view}`).addEventListener("click", () => avst.go({ view }, true));
    avst.onChange(changed);
    showView();
    show();
    document.documentElement.dataset.ready = "yes";
  }

  begin().catch(fail);
})();
