"use strict";
// Data comes as scripts that call avst.put(name, json): a page on disk may load scripts, but not fetch.

(() => {
  const KEPT = 300; // questions and videos in memory; the rest are read again when looked at
  const ready = new Map();
  const waiting = new Map();

  avst.put = (name, json) => {
    const value = JSON.parse(json);
    ready.set(name, value);
    waiting.get(name)?.resolve(value);
    waiting.delete(name);
    for (const old of ready.keys()) {
      if (ready.size <= KEPT) break;
      if (old.includes("/")) ready.delete(old);
    }
  };

  avst.get = (name) => {
    if (ready.has(name)) return Promise.resolve(ready.get(name));
    if (waiting.has(name)) return waiting.get(name).promise;
    const entry = {};
    entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    waiting.set(name, entry);
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    script.onload = () => script.remove();
    script.onerror = () => {
      script.remove();
      waiting.delete(name);
      entry.reject(new Error(`data/${name}.js is missing from this report`));
    };
    document.head.append(script);
    return entry.promise;
  };
})();
