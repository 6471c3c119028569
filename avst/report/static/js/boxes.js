"use strict";
// Boxes over the picture. A written box stands for its second: the reward compares a gold box with the predicted one
// that is nearest in time and at most half a second away, and so a box is held half a second to both sides of its time.
// "Between" draws the straight way from one box to the next instead, which is easier on the eye but scored by nobody.

(() => {
  const REACH = 0.5 + 1e-9, BRIDGE = 1.5;
  avst.between = false;

  const visible = ([, x1, y1, x2, y2]) => x1 || y1 || x2 || y2;

  // track: [[t, x1, y1, x2, y2]] -> boxes at time t: [{t (written), box}]
  avst.boxesAt = (track, t, between = false) => {
    const times = [...new Set(track.filter(visible).map((e) => e[0]))].sort((a, b) => a - b);
    if (!times.length) return [];
    if (between) {
      const after = times.findIndex((s) => s > t);
      const [before, next] = after > 0 ? [times[after - 1], times[after]] : [null, null];
      if (before !== null && next - before <= BRIDGE) {
        const [one, two] = [before, next].map((s) => track.filter((e) => e[0] === s && visible(e)));
        const hidden = track.some((e) => !visible(e) && e[0] > before && e[0] < next);
        if (one.length === 1 && two.length === 1 && !hidden) {
          const share = (t - before) / (next - before);
          return [{ t: before, box: one[0].slice(1).map((v, i) => v + (two[0][i + 1] - v) * share) }];
        }
      }
    }
    const nearest = times.reduce((best, s) => (Math.abs(s - t) < Math.abs(best - t) - 1e-9 ? s : best), times[0]);
    if (Math.abs(nearest - t) > REACH) return [];
    return track.filter((e) => e[0] === nearest && visible(e)).map((e) => ({ t: nearest, box: e.slice(1) }));
  };

  function drawn({ box: [x1, y1, x2, y2], t }, who, name, scale, place) {
    const rect = (cls) => avst.svg("rect", { class: cls, x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) });
    const line = rect("line");
    line.dataset.who = who;
    line.dataset.t = t;
    const size = 12 * scale, pad = 3 * scale, wide = Math.min(name.length, 28) * size * 0.68 + 2 * pad, high = size + 2 * pad;
    const text = name.length > 28 ? `${name.slice(0, 27)}…` : name;
    // gold is named above its box, an answer below, so that the two names of one thing do not cover each other
    const above = who === "gold";
    let y = above ? y1 - high : y2;
    if (above && y < 0) y = Math.min(y1, place.height - high);
    if (!above && y + high > place.height) y = Math.max(y2 - high, 0);
    const x = Math.max(0, Math.min(x1, place.width - wide));
    return avst.svg("g", { class: `box ${who}` }, rect("casing"), line,
      avst.svg("rect", { class: "tag", x, y, width: wide, height: high }),
      avst.svg("text", { x: x + pad, y: y + pad + size * 0.82, "font-size": size }, text));
  }

  // Draw gold and one answer's boxes at time t. who: "a" or "b";  scale: source pixels a screen pixel.
  avst.drawBoxes = (layer, gold, answer, who, t, scale, place) => {
    const nodes = [];
    for (const one of gold) {
      for (const found of avst.boxesAt(one.track, t, avst.between)) nodes.push(drawn(found, "gold", one.name, scale, place));
    }
    for (const one of answer?.objects || []) {
      for (const found of avst.boxesAt(one.track, t, avst.between)) {
        const second = answer.seconds.find(([j, , at]) => j === one.gold && at === found.t);
        nodes.push(drawn(found, who, second ? `${one.name}  ${avst.number(second[3])}` : one.name, scale, place));
      }
    }
    avst.replace(layer, nodes);
  };
})();
