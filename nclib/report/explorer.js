/* Points that move over epochs, with their images: by mouse, by touch and by keyboard. No dependency.

   An element of class "explorer" holds one of class "explorer-static", which is shown without JavaScript,
   and a script of type "application/json" and class "explorer-data". Its attribute data-explorer-view is the
   number of the view that is shown first; with data-explorer-autoplay it plays once when it is first seen.
   nclib/chapters/explorer.py documents the JSON object. Each .explorer of a page is built when it is loaded. */
(function () {
  "use strict";

  const TWEEN = 700; // milliseconds between two epochs
  const REST = 350; // at an epoch while playing
  const REACH = 28; // pixels from a point at which it is still meant
  const MARGIN = 14; // pixels around the points
  const SHAPES = [ // "circle", or a polygon in units of the radius
    "circle",
    [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]],
    [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    [[0, -1.35], [1.1, 0], [0, 1.35], [-1.1, 0]],
    [[0, 1.25], [1.15, -0.85], [-1.15, -0.85]],
    [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4],
     [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  ];
  const COLOURS = 6; // --explorer-1 to --explorer-6
  const SVG = "http://www.w3.org/2000/svg";
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  let explorers = 0;

  /* ---- data ---- */

  function bytes(text) {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  }

  function words(text) {
    const view = new DataView(bytes(text).buffer);
    return Uint16Array.from({ length: view.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
  }

  function read(raw) {
    const ids = Array.isArray(raw.ids) ? raw.ids : words(raw.ids);
    const views = raw.views.map((of) => {
      const rows = words(of.rows);
      const points = Float32Array.from(words(of.points), (q) => q / 32767.5 - 1);
      const boxes = raw.epochs.map(() => [1e-9, 1e-9]); // half width and half height of what is shown
      points.forEach((p, i) => {
        const box = boxes[Math.floor(i / (2 * rows.length))];
        box[i % 2] = Math.max(box[i % 2], Math.abs(p));
      });
      return { name: of.name, rows, points, boxes };
    });
    const colourings = raw.colourings.map((of) => {
      const values = bytes(of.values);
      const changes = values.length > ids.length; // over epochs
      return { ...of, label: (epoch, row) => values[(changes ? epoch * ids.length : 0) + row] };
    });
    const images = raw.sheets.urls.map((url) => ({ url, image: null }));
    return { ...raw, ids, views, colourings, images };
  }

  /* ---- small parts of the page ---- */

  function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made && typeof value !== "string") made[key] = value;
      else made.setAttribute(key === "className" ? "class" : key, value);
    }
    made.append(...children);
    return made;
  }

  function drawing(name, attributes, ...children) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function icon({ colour, shape }) {
    const outline = SHAPES[shape];
    const mark = outline === "circle"
      ? drawing("circle", { r: 1.05 })
      : drawing("polygon", { points: outline.map((p) => p.join(",")).join(" ") });
    mark.style.fill = `var(--explorer-${colour + 1})`;
    return drawing("svg", { viewBox: "-1.5 -1.5 3 3", class: "explorer-mark", "aria-hidden": "true" }, mark);
  }

  function chooser(id, label, names, chosen, change) {
    const options = names.map((name, i) => element("option", { value: String(i) }, name));
    const select = element("select", { id, className: "explorer-select" }, ...options);
    select.value = String(chosen);
    select.addEventListener("change", () => change(Number(select.value)));
    return [element("span", { className: "explorer-choice" }, element("label", { for: id }, label), select), select];
  }

  function shown(curve, value) {
    if (value === null || value === undefined) return "–";
    return curve.percent ? `${(100 * value).toFixed(0)} %` : value.toFixed(value >= 10 ? 0 : curve.digits);
  }

  /* ---- one explorer ---- */

  function build(root) {
    const data = read(JSON.parse(root.querySelector(".explorer-data").textContent));
    const id = `explorer-${explorers++}`;
    const last = data.epochs.length - 1;
    const autoplay = "explorerAutoplay" in root.dataset && !calm.matches && last > 0;
    const state = {
      view: Math.min(Number(root.dataset.explorerView) || 0, data.views.length - 1),
      colouring: 0,
      epoch: autoplay ? 0 : last,
      pinned: -1, // position in the view of the point that was chosen
      hovered: -1,
      playing: false,
    };
    let at; // coordinates that are shown now, (n, 2) of the view
    let box; // that the canvas shows now
    let tween = null; // {from, fromBox, start}
    let frame = 0;
    let timer = 0;
    let style = {}; // by category: {colour, shape}

    /* the page */
    const [viewChoice, viewSelect] = chooser(`${id}-view`, "Show", data.views.map((v) => v.name), state.view, setView);
    const [colourChoice] = chooser(`${id}-colouring`, "Colour by", data.colourings.map((c) => c.name), 0, setColouring);
    viewChoice.hidden = data.views.length < 2;
    const legend = element("ul", { className: "explorer-legend", "aria-label": "Legend" });
    const canvas = element("canvas", {
      className: "explorer-canvas", tabindex: "0", role: "application",
      "aria-roledescription": "scatter plot", "aria-describedby": `${id}-help`,
    });
    const thumb = element("canvas", { className: "explorer-thumb", width: data.sheets.tile || 1, height: data.sheets.tile || 1 });
    thumb.hidden = !data.images.length;
    const details = element("dl", { className: "explorer-details" });
    const help = element("p", { className: "explorer-help", id: `${id}-help` },
      "Point at a mark or tap it to see its image. Keyboard: arrow keys go to the nearest mark in that direction, Home and End to the first and the last, Escape leaves it.");
    const live = element("p", { className: "explorer-live", "aria-live": "polite" });
    const play = element("button", { type: "button", className: "explorer-play" });
    const slider = element("input", {
      type: "range", className: "explorer-slider", id: `${id}-epoch`, min: "0", max: String(last), step: "1",
    });
    const now = element("output", { className: "explorer-epoch", for: `${id}-epoch` });
    const time = element("div", { className: "explorer-time" }, play,
      element("label", { className: "explorer-hidden", for: `${id}-epoch` }, "Epoch"), slider, now);
    time.hidden = last === 0;
    const curves = element("div", { className: "explorer-curves" });
    const interactive = element("div", { className: "explorer-live-view" },
      element("div", { className: "explorer-bar" }, viewChoice, colourChoice),
      legend,
      element("div", { className: "explorer-stage" }, canvas),
      time,
      element("div", { className: "explorer-card" }, thumb, element("div", { className: "explorer-text" }, help, details)),
      curves, live);
    const pens = data.curves.map(sparkline);

    /* what is shown */
    function view() {
      return data.views[state.view];
    }

    function chosen() {
      return state.hovered >= 0 ? state.hovered : state.pinned;
    }

    function coordinates(epoch) {
      const n = view().rows.length;
      return view().points.subarray(2 * n * epoch, 2 * n * (epoch + 1));
    }

    function jump() {
      tween = null;
      at = coordinates(state.epoch);
      box = view().boxes[state.epoch];
    }

    function label(colouring, point) {
      return colouring.label(state.epoch, view().rows[point]);
    }

    function styles() {
      const { categories, groups, label: of } = data.colourings[state.colouring];
      const occurring = new Set(); // in this view, at any epoch
      data.epochs.forEach((_, epoch) => view().rows.forEach((row) => occurring.add(of(epoch, row))));
      const inView = [...occurring];
      const several = new Set(inView.map((c) => groups && groups[c])).size > 1;
      const rank = (c) => groups.slice(0, c).filter((g) => g === groups[c]).length; // inside its group
      style = categories.map((_, c) => {
        const colour = groups ? (several ? groups[c] : rank(c)) : c;
        return { colour: colour % COLOURS, shape: (groups ? rank(c) : c) % SHAPES.length };
      });
      const listed = categories.map((_, c) => c).filter((c) => inView.includes(c));
      if (groups) listed.sort((a, b) => groups[a] - groups[b] || a - b);
      legend.replaceChildren(...listed.map((c) => element("li", {}, icon(style[c]), categories[c])));
    }

    /* drawing */
    function scale() {
      const [w, h] = [canvas.clientWidth, canvas.clientHeight];
      const zoom = Math.min((w / 2 - MARGIN) / box[0], (h / 2 - MARGIN) / box[1]);
      return { w, h, place: (i) => [w / 2 + zoom * at[2 * i], h / 2 - zoom * at[2 * i + 1]] };
    }

    function trace(pen, shape, x, y, r) {
      if (shape === "circle") {
        pen.moveTo(x + r, y);
        pen.arc(x, y, r, 0, 2 * Math.PI);
      } else {
        shape.forEach(([dx, dy], i) => pen[i ? "lineTo" : "moveTo"](x + r * dx, y + r * dy));
        pen.closePath();
      }
    }

    function draw() {
      const { w, h, place } = scale();
      if (!w) return;
      const ratio = window.devicePixelRatio || 1;
      if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
        canvas.width = Math.round(w * ratio);
        canvas.height = Math.round(h * ratio);
      }
      const pen = canvas.getContext("2d");
      const css = getComputedStyle(root);
      const tone = (name) => css.getPropertyValue(`--explorer-${name}`).trim();
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, w, h);
      const n = view().rows.length;
      const r = Math.max(2.8, Math.min(5.2, 0.17 * Math.sqrt((w * h) / n)));
      const colouring = data.colourings[state.colouring];
      const paths = new Map();
      for (let i = 0; i < n; i++) {
        const c = label(colouring, i);
        if (!paths.has(c)) paths.set(c, new Path2D());
        trace(paths.get(c), SHAPES[style[c].shape], ...place(i), r);
      }
      pen.lineWidth = 0.6;
      pen.strokeStyle = tone("ground");
      pen.globalAlpha = 0.88;
      for (const [c, path] of paths) {
        pen.fillStyle = tone(style[c].colour + 1);
        pen.fill(path);
        if (r > 4) pen.stroke(path);
      }
      pen.globalAlpha = 1;
      const point = chosen();
      if (point >= 0) {
        const [x, y] = place(point);
        const mark = style[label(colouring, point)];
        for (const [radius, width, colour] of [[r + 6, 5, "ground"], [r + 6, 2, "ink"]]) {
          pen.beginPath();
          pen.arc(x, y, radius, 0, 2 * Math.PI);
          pen.lineWidth = width;
          pen.strokeStyle = tone(colour);
          pen.stroke();
        }
        pen.beginPath();
        trace(pen, SHAPES[mark.shape], x, y, r * 1.25);
        pen.fillStyle = tone(mark.colour + 1);
        pen.fill();
      }
    }

    function redraw() {
      if (!frame) frame = requestAnimationFrame(step);
    }

    function step(clock) {
      frame = 0;
      if (tween) {
        tween.start = tween.start || clock;
        const t = Math.min(1, (clock - tween.start) / TWEEN);
        const eased = t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2;
        const between = (from, to) => from.map((start, i) => start + eased * (to[i] - start));
        at = between(tween.from, coordinates(state.epoch));
        box = between(tween.fromBox, view().boxes[state.epoch]);
        if (t === 1) tween = null;
        else redraw();
      }
      draw();
    }

    /* the selected point */
    function describe(announce) {
      const point = chosen();
      help.hidden = point >= 0;
      details.hidden = point < 0;
      thumb.classList.toggle("explorer-empty", point < 0);
      if (point < 0) {
        if (announce) live.textContent = "No point chosen.";
        return;
      }
      const row = view().rows[point];
      const facts = data.colourings.map((of) => [of.name, of.categories[label(of, point)]]);
      details.replaceChildren(
        ...[[data.unit, `${data.ids[row]}`], ...facts].map(
          ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
      showImage(row);
      if (announce) {
        live.textContent = `${data.unit} ${data.ids[row]}. ${facts.map((fact) => fact.join(": ")).join(". ")}.`;
      }
    }

    function showImage(row) {
      if (!data.images.length) return;
      const { tile, columns, each } = data.sheets;
      const sheet = data.images[Math.floor(row / each)];
      const place = row % each;
      if (!sheet.image) {
        sheet.image = new Image();
        sheet.image.src = sheet.url;
        sheet.image.addEventListener("load", () => describe(false));
      }
      if (!sheet.image.complete) return;
      const [x, y] = [(place % columns) * tile, Math.floor(place / columns) * tile];
      thumb.getContext("2d").drawImage(sheet.image, x, y, tile, tile, 0, 0, tile, tile);
    }

    function choose(point) {
      state.pinned = point;
      state.hovered = -1;
      describe(true);
      redraw();
    }

    function nearest(event) {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const { place } = scale();
      let [best, least] = [-1, REACH ** 2];
      for (let i = 0; i < view().rows.length; i++) {
        const [px, py] = place(i);
        const distance = (px - x) ** 2 + (py - y) ** 2;
        if (distance < least) [best, least] = [i, distance];
      }
      return best;
    }

    function neighbour(dx, dy) {
      if (state.pinned < 0) return 0;
      const { place } = scale();
      const [x, y] = place(state.pinned);
      let [best, least] = [state.pinned, Infinity];
      for (let i = 0; i < view().rows.length; i++) {
        const [px, py] = place(i);
        const along = (px - x) * dx + (py - y) * dy;
        const across = Math.abs((px - x) * dy - (py - y) * dx);
        const distance = Math.hypot(along, across);
        if (along > 0 && across <= along && distance < least) [best, least] = [i, distance];
      }
      return best;
    }

    /* curves, one small picture each */
    function sparkline(curve) {
      const [w, h, pad] = [160, 44, 5];
      const value = element("strong", { className: "explorer-value" });
      const line = drawing("path", { class: "explorer-line" });
      const rule = drawing("line", { class: "explorer-rule", y1: 0, y2: h });
      const dot = drawing("circle", { class: "explorer-dot", r: 4 });
      const picture = drawing("svg", { viewBox: `0 0 ${w} ${h}`, class: "explorer-curve", "aria-hidden": "true" }, rule, line, dot);
      picture.addEventListener("pointerdown", (event) => {
        const box = picture.getBoundingClientRect();
        const epoch = ((event.clientX - box.left) / box.width * w - pad) / (w - 2 * pad) * data.epochs[last];
        const gaps = data.epochs.map((e) => Math.abs(e - epoch));
        stop();
        setEpoch(gaps.indexOf(Math.min(...gaps)));
      });
      const scaleNote = curve.log ? " (log scale)" : "";
      curves.append(element("div", {}, element("p", {}, `${curve.name}${scaleNote} `, value), last ? picture : ""));
      const y = (v, low, high) => h - pad - (h - 2 * pad) * ((v - low) / (high - low || 1));
      const x = (i) => pad + (w - 2 * pad) * (data.epochs[i] / (data.epochs[last] || 1));
      return () => {
        const raw = curve.values[state.view];
        const values = curve.log ? raw.map(Math.log10) : raw;
        const [low, high] = [curve.log ? Math.min(...values) : Math.min(0, ...values), Math.max(...values)];
        line.setAttribute("d", values.map((v, i) => `${i ? "L" : "M"}${x(i)} ${y(v, low, high)}`).join(""));
        dot.setAttribute("cx", x(state.epoch));
        dot.setAttribute("cy", y(values[state.epoch], low, high));
        rule.setAttribute("x1", x(state.epoch));
        rule.setAttribute("x2", x(state.epoch));
        value.textContent = shown(curve, raw[state.epoch]);
      };
    }

    /* changes */
    function setView(index) {
      const row = state.pinned < 0 ? -1 : view().rows[state.pinned];
      state.view = index;
      state.pinned = view().rows.indexOf(row);
      state.hovered = -1;
      jump();
      styles();
      refresh();
    }

    function setColouring(index) {
      state.colouring = index;
      styles();
      refresh();
    }

    function setEpoch(index) {
      state.epoch = index;
      if (calm.matches) jump();
      else tween = { from: at, fromBox: box, start: 0 };
      refresh();
    }

    function refresh() {
      const name = `epoch ${data.epochs[state.epoch]}`;
      slider.value = String(state.epoch);
      slider.setAttribute("aria-valuetext", name);
      now.textContent = `${name} of ${data.epochs[last]}`;
      canvas.setAttribute("aria-label", [data.title, view().name, ...(last ? [name] : []), `${view().rows.length} points`].join(", "));
      viewSelect.value = String(state.view);
      pens.forEach((update) => update());
      describe(false);
      redraw();
    }

    function start() {
      if (state.epoch === last) {
        state.epoch = 0;
        jump();
        refresh();
      }
      state.playing = true;
      showPlaying();
      timer = setTimeout(advance, REST);
    }

    function advance() {
      if (state.epoch === last) return stop();
      setEpoch(state.epoch + 1);
      timer = setTimeout(advance, (calm.matches ? 2 : 1) * REST + TWEEN);
    }

    function stop() {
      state.playing = false;
      clearTimeout(timer);
      showPlaying();
    }

    function showPlaying() {
      play.textContent = state.playing ? "Pause" : "Play";
      play.classList.toggle("explorer-playing", state.playing);
    }

    /* events */
    play.addEventListener("click", () => (state.playing ? stop() : start()));
    slider.addEventListener("input", () => {
      stop();
      setEpoch(Number(slider.value));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return;
      state.hovered = nearest(event);
      describe(false);
      redraw();
    });
    canvas.addEventListener("pointerleave", () => {
      state.hovered = -1;
      describe(false);
      redraw();
    });
    canvas.addEventListener("click", (event) => choose(nearest(event)));
    canvas.addEventListener("keydown", (event) => {
      const n = view().rows.length;
      const target = {
        ArrowLeft: () => neighbour(-1, 0), ArrowRight: () => neighbour(1, 0),
        ArrowUp: () => neighbour(0, -1), ArrowDown: () => neighbour(0, 1),
        Home: () => 0, End: () => n - 1, Escape: () => -1,
      }[event.key];
      if (!target || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      choose(target());
    });
    new ResizeObserver(redraw).observe(canvas);
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

    jump();
    showPlaying();
    root.prepend(interactive);
    root.classList.add("explorer-ready");
    styles();
    refresh();
    if (autoplay) {
      const seen = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        seen.disconnect();
        start();
      }, { threshold: 0.4 });
      seen.observe(canvas);
    }
  }

  function buildAll() {
    document.querySelectorAll(".explorer:not(.explorer-ready)").forEach(build);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", buildAll);
  else buildAll();
})();
