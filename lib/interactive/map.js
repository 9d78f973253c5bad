function touchMap(name) {
  const figure = document.getElementById(name);
  if (!figure || figure.dataset.ready) return;
  figure.dataset.ready = "1";
  const data = JSON.parse(figure.dataset.map);
  const canvas = figure.querySelector("canvas"), card = figure.querySelector(".card");
  const [colourBy, only] = figure.querySelectorAll("select");
  const sheet = new Image();
  sheet.src = figure.querySelector(".live").dataset.sheet;
  const n = data.xy.length, context = canvas.getContext("2d");
  const byDoubt = [...Array(n).keys()].sort((a, b) => data.percent[a] - data.percent[b]);
  const splits = { train: "#332288", val: "#44AA99", test: "#CC6677" };
  let scale = 1, left = 0, top = 0, chosen = -1, drag = null;

  // One a marker of the still picture: circle, square, diamond, four ways of a triangle, plus, cross and star between.
  const turned = (corners, degrees) => corners.map(([u, v]) => {
    const a = (degrees * Math.PI) / 180;
    return [u * Math.cos(a) - v * Math.sin(a), u * Math.sin(a) + v * Math.cos(a)];
  });
  const square = [[-1, -1], [1, -1], [1, 1], [-1, 1]], triangle = [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]];
  const plus = [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]];
  const star = [...Array(10).keys()].map(k => turned([[0, k % 2 ? -0.6 : -1.4]], 36 * k)[0]);
  const shapes = [null, square, turned(square, 45), triangle, turned(triangle, 180), plus, turned(plus, 45), star, turned(triangle, -90), turned(triangle, 90)];
  const glyphs = ["●", "■", "◆", "▲", "▼", "✚", "✖", "★", "◀", "▶"];

  const right = i => data.labels[i] === data.predicted[i];
  const doubtColour = d => `hsl(${260 - 2.6 * d} 75% ${34 + 0.14 * d}%)`;
  const colours = {
    class: i => data.styles[data.labels[i]][0],
    split: i => splits[data.splits[i]],
    right: i => (right(i) ? "#44AA99" : "#882255"),
    doubt: i => doubtColour(100 - data.percent[i]),
  };
  const legends = {
    class: () => data.classes.map((label, code) => [data.styles[code][0], label, glyphs[data.styles[code][1]]]),
    split: () => Object.entries(splits).filter(([split]) => data.splits.includes(split)).map(([split, colour]) => [colour, split]),
    right: () => [["#44AA99", "answered right without having seen it"], ["#882255", "answered wrong"]],
    doubt: () => [0, 50, 90, 100].map(d => [doubtColour(d), `label ${100 - d} % probable`]),
  };
  const shown = i => only.value === "-1" || Number(only.value) === data.labels[i];

  function place(i) {
    const side = Math.min(canvas.clientWidth, canvas.clientHeight) - 24, unit = (side / data.grid) * scale;
    const x = (canvas.clientWidth - side) / 2, y = (canvas.clientHeight - side) / 2;
    return [left + x + data.xy[i][0] * unit, top + y + data.xy[i][1] * unit];
  }

  function dot(i, size) {
    const [x, y] = place(i), corners = shapes[data.styles[data.labels[i]][1]];
    context.beginPath();
    if (!corners) context.arc(x, y, size, 0, 7);
    else corners.forEach(([u, v]) => context.lineTo(x + u * size, y + v * size));
    context.fill();
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const size = Math.min(7, 3 * Math.sqrt(scale)), colour = colours[colourBy.value];
    for (const faded of [true, false])
      for (let i = 0; i < n; i++) {
        if (shown(i) === faded) continue;
        context.globalAlpha = faded ? 0.12 : 0.8;
        context.fillStyle = faded ? "#8a8a8a" : colour(i);
        dot(i, size);
      }
    context.globalAlpha = 1;
    if (chosen >= 0) {
      const [x, y] = place(chosen);
      context.strokeStyle = "#1c1c1c";
      context.lineWidth = 2;
      context.strokeRect(x - size - 3, y - size - 3, 2 * size + 6, 2 * size + 6);
    }
  }

  function legend() {
    const list = figure.querySelector(".legend");
    list.replaceChildren(...legends[colourBy.value]().map(([colour, text, glyph]) => {
      const item = document.createElement("li"), mark = document.createElement("span");
      mark.textContent = glyph || glyphs[0];
      mark.style.color = colour;
      mark.ariaHidden = "true";
      item.append(mark, text);
      return item;
    }));
  }

  function choose(i) {
    chosen = i;
    card.style.display = i < 0 ? "none" : "flex";
    if (i >= 0) {
      const picture = document.createElement("canvas"), text = document.createElement("div"), title = document.createElement("b");
      const column = i % data.columns, row = Math.floor(i / data.columns);
      picture.width = picture.height = 2 * data.tile;
      picture.getContext("2d").drawImage(sheet, column * data.tile, row * data.tile, data.tile, data.tile, 0, 0, 2 * data.tile, 2 * data.tile);
      title.textContent = data.classes[data.labels[i]];
      const answer = right(i) ? "answered right" : `answered ${data.classes[data.predicted[i]]}`;
      text.append(title, `${answer}; label ${data.percent[i].toFixed(1)} % probable; ${data.splits[i]}`, document.createElement("br"), data.paths[i]);
      card.replaceChildren(picture, text);
      const [x, y] = place(i), wide = canvas.clientWidth;
      card.style.left = `${Math.max(0, Math.min(x + 14, wide - card.offsetWidth))}px`;
      const above = y + 14 + card.offsetHeight > canvas.clientHeight;
      card.style.top = `${Math.max(0, above ? y - 14 - card.offsetHeight : y + 14)}px`;
    }
    draw();
  }

  function nearest(event, reach) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, least = reach * reach;
    for (let i = 0; i < n; i++) {
      if (!shown(i)) continue;
      const [px, py] = place(i), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  function zoom(factor, x, y) {
    const next = Math.min(30, Math.max(1, scale * factor)), k = next / scale;
    const side = Math.min(canvas.clientWidth, canvas.clientHeight) - 24;
    const x0 = (canvas.clientWidth - side) / 2, y0 = (canvas.clientHeight - side) / 2;
    left = x - x0 - (x - x0 - left) * k;
    top = y - y0 - (y - y0 - top) * k;
    scale = next;
    if (scale === 1) left = top = 0;
    choose(-1);
  }

  const fingers = new Map();
  canvas.addEventListener("pointerdown", event => {
    fingers.set(event.pointerId, event);
    drag = { x: event.clientX, y: event.clientY, left, top, moved: false };
  });
  canvas.addEventListener("pointermove", event => {
    if (fingers.size === 2 && fingers.has(event.pointerId)) {
      const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
      const before = spread(), box = canvas.getBoundingClientRect();
      fingers.set(event.pointerId, event);
      const [a, b] = [...fingers.values()];
      zoom(spread() / before, (a.clientX + b.clientX) / 2 - box.left, (a.clientY + b.clientY) / 2 - box.top);
    } else if (drag && fingers.size === 1 && scale > 1 && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4) {
      drag.moved = true;
      left = drag.left + event.clientX - drag.x;
      top = drag.top + event.clientY - drag.y;
      choose(-1);
    } else if (event.pointerType === "mouse" && !fingers.size) choose(nearest(event, 18));
  });
  const lift = event => {
    if (event.type === "pointerup" && drag && !drag.moved && fingers.size === 1) choose(nearest(event, event.pointerType === "mouse" ? 18 : 30));
    fingers.delete(event.pointerId);
    drag = null;
  };
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, lift);
  canvas.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") { fingers.clear(); drag = null; choose(-1); } });
  canvas.addEventListener("wheel", event => {
    if (!event.deltaY || (event.deltaY > 0 && scale === 1)) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") choose(-1);
    if (!step) return;
    event.preventDefault();
    const order = byDoubt.filter(shown), at = order.indexOf(chosen);
    if (!order.length) return;
    choose(order[at < 0 ? (step > 0 ? 0 : order.length - 1) : (at + step + order.length) % order.length]);
  });
  colourBy.addEventListener("change", () => { legend(); draw(); });
  only.addEventListener("change", () => choose(-1));
  figure.querySelector("button").addEventListener("click", () => { scale = 1; left = top = 0; choose(-1); });

  data.classes.forEach((label, code) => only.append(new Option(label, code)));
  figure.querySelector(".still").style.display = "none";
  figure.querySelector(".live").hidden = false;
  figure.querySelector(".live-hint").hidden = false;
  legend();
  new ResizeObserver(draw).observe(canvas);
}
