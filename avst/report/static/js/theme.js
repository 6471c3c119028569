"use strict";
// Light, dark, or what the system prefers until one is chosen.

(() => {
  const KEY = "avst-report-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage can be switched off
    }
  };

  function show(theme) {
    document.documentElement.dataset.theme = theme === "dark" || theme === "light" ? theme : system.matches ? "dark" : "light";
  }

  avst.toggleTheme = () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      if (next === (system.matches ? "dark" : "light")) localStorage.removeItem(KEY); // the system's again
      else localStorage.setItem(KEY, next);
    } catch {
      /* then it lasts as long as the page */
    }
    show(next);
  };
  system.addEventListener("change", () => show(kept()));
  show(kept());
})();
