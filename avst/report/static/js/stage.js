"use strict";
// The picture with its boxes. Side by side, the second picture is painted from the first, so the two never drift apart.

(() => {
  const url = (video) => (location.protocol === "file:" ? video.link : video.served);

  avst.makeVideo = (video) => {
    if (!video.link && !video.served) return null;
    const node = avst.el("video", { src: url(video), preload: "auto", playsinline: true, tabindex: -1, "aria-label": "The clip" });
    return node;
  };

  function place(record, video) {
    const ends = [...record.gold, ...record.groups.flatMap((g) => g.completions.flatMap((c) => c.objects))].flatMap((o) => o.track);
    const most = (i, least) => Math.max(least, ...ends.slice(0, 20000).map((e) => e[i]));
    return video.width ? { width: video.width, height: video.height } : { width: most(3, 320), height: most(4, 180) };
  }

  // {node, draw(t, answer)}: one picture.  who: "a", "b";  picture: a video element, or null for an empty frame
  avst.makeStage = (record, video, picture, who, mirrored) => {
    const size = place(record, video);
    const layer = avst.svg("svg", { class: "boxes", viewBox: `0 0 ${size.width} ${size.height}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
    const canvas = mirrored && picture ? avst.el("canvas", { width: size.width, height: size.height }) : null;
    const message = avst.el("p", { class: "message", hidden: true });
    const node = avst.el("div", { class: `stage ${who}`, "data-who": who }, canvas || (mirrored ? null : picture), layer, message);
    node.style.aspectRatio = `${size.width} / ${size.height}`;
    node.style.setProperty("--shape", size.width / size.height);
    const say = (text) => { message.hidden = !text; message.textContent = text || ""; };
    if (video.error) say(video.error);
    else if (picture && !mirrored) picture.addEventListener("error", () => picture.getAttribute("src") && say("This video is not where it was when the report was made, or the browser cannot play it. Boxes are drawn all the same."));
    return {
      node, size,
      draw(t, answer) {
        const width = node.clientWidth || size.width;
        if (canvas && picture.readyState >= 2) canvas.getContext("2d").drawImage(picture, 0, 0, size.width, size.height);
        avst.drawBoxes(layer, record.gold, answer, who, t, size.width / width, size);
      },
    };
  };
})();
