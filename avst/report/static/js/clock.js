"use strict";
// The time that everything on a question's page stands at: the video's own, or a plain one where there is no video.

(() => {
  avst.makeClock = (video, duration) => {
    const listeners = new Set();
    let plain = 0, playing = false, since = 0, asked = null, alive = true;
    const withVideo = () => video !== null && !video.error && video.readyState > 0;
    const now = () => (asked !== null ? asked : withVideo() ? video.currentTime : plain);
    const tell = () => { for (const listener of listeners) listener(now()); };

    function frame(stamp) {
      if (!alive) return;
      if (!withVideo() && playing) {
        plain = Math.min(plain + ((stamp - since) / 1000) * clock.rate, duration);
        if (plain >= duration) playing = false;
      }
      since = stamp;
      tell();
      if (clock.playing()) requestAnimationFrame(frame);
    }

    const clock = {
      duration, rate: 1, now,
      onTime: (listener) => listeners.add(listener),
      playing: () => (withVideo() ? !video.paused : playing),
      seek(t) {
        plain = Math.min(Math.max(t, 0), duration);
        if (withVideo()) { asked = plain; video.currentTime = plain; } else if (video && !video.error) asked = plain;
        tell();
      },
      toggle() {
        if (withVideo()) {
          if (video.paused) { if (video.ended) clock.seek(0); video.play().catch(() => {}); } else video.pause();
        } else {
          if (plain >= duration) plain = 0;
          playing = !playing;
        }
        since = performance.now();
        requestAnimationFrame(frame);
        tell();
      },
      setRate(rate) { clock.rate = rate; if (video) video.playbackRate = rate; },
      stop() { alive = false; if (video) { video.pause(); video.removeAttribute("src"); video.load(); } },
    };
    if (video) {
      video.addEventListener("loadedmetadata", () => { if (asked !== null) video.currentTime = asked; video.playbackRate = clock.rate; });
      video.addEventListener("seeked", () => { asked = null; tell(); });
      video.addEventListener("play", () => requestAnimationFrame(frame));
      for (const event of ["timeupdate", "pause", "ended", "error"]) video.addEventListener(event, tell);
      video.addEventListener("error", () => { if (asked !== null) plain = asked; asked = null; });
    }
    return clock;
  };
})();
