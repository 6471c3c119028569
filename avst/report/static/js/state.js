"use strict";
// What is looked at, kept in the address (#questions?q=12&a=0l&c=1), so that a link leads to the same view.

(() => {
  const listeners = [];
  // a, b: keys of choices (avst.choices);  q: question;  c, d: completion of a and of b;  sa, sb: a step of theirs
  const fresh = () => ({ view: "overview", q: null, a: null, b: null, c: null, d: null, sa: null, sb: null });
  const NUMBERS = ["q", "c", "d", "sa", "sb"];

  function read() {
    const [view, query] = location.hash.slice(1).split("?");
    const said = new URLSearchParams(query || "");
    const state = fresh();
    if (view === "questions") state.view = view;
    for (const key of ["a", "b"]) if (said.has(key)) state[key] = said.get(key);
    for (const key of NUMBERS) {
      if (/^\d{1,9}$/.test(said.get(key) || "")) state[key] = Number(said.get(key));
    }
    return state;
  }

  function written(state) {
    const query = Object.entries(state).filter(([key, value]) => key !== "view" && value !== null);
    return `#${state.view}${query.length ? `?${new URLSearchParams(query)}` : ""}`;
  }

  avst.state = read();
  avst.onChange = (listener) => listeners.push(listener);

  // Change some of the state; listeners get what it was before. push: a step of the browser's own "back".
  avst.go = (changes, push = false) => {
    const before = avst.state;
    avst.state = { ...before, ...changes };
    const hash = written(avst.state);
    if (hash !== location.hash) history[push ? "pushState" : "replaceState"](null, "", hash);
    for (const listener of listeners) listener(before);
  };
  addEventListener("popstate", () => {
    const before = avst.state;
    avst.state = read();
    for (const listener of listeners) listener(before);
  });
})();
