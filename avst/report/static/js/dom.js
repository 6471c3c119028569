"use strict";
// Elements from data. Text only ever becomes text nodes: nothing here, or anywhere in the page, parses HTML.

const avst = {};

(() => {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "text") node.textContent = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) node.append(child);
    }
    return node;
  }

  // avst.el("p", {class: "note"}, "text", node, …)
  avst.el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  avst.svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  avst.byId = (id) => document.getElementById(id);
  avst.replace = (node, ...children) => node.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined));

  // Numbers: a fixed number of decimals, a true minus sign, a dash for what does not apply.
  avst.number = (value, decimals = 2, sign = false) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    const text = Math.abs(value).toFixed(decimals);
    const zero = Number(text) === 0;
    return (value < 0 && !zero ? "−" : sign && !zero ? "+" : "") + text;
  };
  avst.seconds = (value) => `${value.toFixed(value % 1 ? 2 : 1)} s`;
  avst.plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
})();
