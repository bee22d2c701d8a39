/* What all explorers share: charts in SVG, sliders with their value in words, and the sentence that says what is seen.
   Classic scripts, so that they run from file:// too. An explorer calls kd.add(name, draw); its numbers stand in
   kd.data[name], written by tools/record_explorers.py with the package's own functions. */
(function () {
  "use strict";
  const kd = (window.kd = window.kd || { data: {} });
  const explorers = {};
  const SPACE = "http://www.w3.org/2000/svg";

  kd.svg = function (name, attributes, parent, text) {
    const element = document.createElementNS(SPACE, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  kd.html = function (name, attributes, parent, text) {
    const element = document.createElement(name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  kd.number = function (value, digits) {
    return value.toFixed(digits).replace("-", "\u2212");
  };
  kd.percent = (share, digits) => kd.number(100 * share, digits || 0) + " %";
  kd.thousands = value => Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  kd.softmax = function (logits, temperature) {
    const most = Math.max(...logits);
    const powers = logits.map(logit => Math.exp((logit - most) / temperature));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map(power => power / sum);
  };
  kd.entropy = row => -row.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);

  /* A slider with its label and its value in words. `scale` turns its position into the value: a logarithm, or a list. */
  kd.slider = function (parent, { label, min, max, step, value, scale, words }) {
    const box = kd.html("label", { class: "kd-control" }, parent);
    kd.html("span", { class: "kd-label" }, box, label);
    const input = kd.html("input", { type: "range", min, max, step, value }, box);
    const output = kd.html("output", {}, box);
    const control = { input, actions: [] };
    const read = () => (scale ? scale(Number(input.value)) : Number(input.value));
    const tell = () => {
      output.textContent = words ? words(read()) : String(read());
      input.setAttribute("aria-valuetext", output.textContent);
    };
    Object.defineProperty(control, "value", { get: read });
    control.move = position => {
      input.value = position;
      tell();
    };
    input.addEventListener("input", () => {
      tell();
      control.actions.forEach(action => action());
    });
    tell();
    return control;
  };
  /* Half to twenty, as the notebooks' slider: each step is the same factor. */
  kd.temperature = (parent, value) =>
    kd.slider(parent, {
      label: "temperature T", min: 0, max: 43, step: 1, value: Math.round(8 * Math.log2(2 * value)),
      scale: at => Math.min(20, 0.5 * Math.pow(2, at / 8)), words: t => "T = " + Number(t.toPrecision(3)),
    });
  kd.choice = function (parent, label, options, value) {
    const box = kd.html("label", { class: "kd-control" }, parent);
    kd.html("span", { class: "kd-label" }, box, label);
    const select = kd.html("select", {}, box);
    options.forEach(option => kd.html("option", { value: option }, select, option));
    select.value = value === undefined ? options[0] : value;
    const control = { input: select, actions: [] };
    Object.defineProperty(control, "value", { get: () => select.value });
    select.addEventListener("input", () => control.actions.forEach(action => action()));
    return control;
  };
  kd.follow = function (controls, action) {
    let waiting = false;
    const later = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        action();
      });
    };
    controls.forEach(control => control.actions.push(later));
    action();
  };

  /* A chart with axes; x and y are [low, high], `log` names the axes with a logarithmic scale. */
  kd.chart = function (parent, { title, x, y, log = "", xticks, yticks, xlabel, ylabel, width = 360, height = 250, left = 46 }) {
    const svg = kd.svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: "kd-chart", style: `flex: ${width} 1 ${0.72 * width}px; max-width: ${1.25 * width}px` }, parent);
    const box = { left, right: width - 22, top: 26, bottom: height - 40 };
    const place = (value, [low, high], from, to, isLog) => {
      const f = isLog ? Math.log : v => v;
      return from + ((to - from) * (f(value) - f(low))) / (f(high) - f(low));
    };
    const chart = { svg, box };
    chart.x = value => place(value, x, box.left, box.right, log.includes("x"));
    chart.y = value => place(value, chart.range, box.bottom, box.top, log.includes("y"));
    chart.range = y;
    const text = (at, down, words, anchor, extra) =>
      kd.svg("text", { x: at, y: down, "text-anchor": anchor, ...extra }, svg, words);
    text((box.left + box.right) / 2, 15, title, "middle", { class: "kd-title" });
    text((box.left + box.right) / 2, height - 6, xlabel || "", "middle");
    text(12, (box.top + box.bottom) / 2, ylabel || "", "middle",
      { transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})` });
    (yticks || []).forEach(tick => {
      const [at, words] = Array.isArray(tick) ? tick : [tick, kd.number(tick, Number.isInteger(tick) ? 0 : 1)];
      kd.svg("line", { x1: box.left, x2: box.right, y1: chart.y(at), y2: chart.y(at), class: "kd-grid" }, svg);
      text(box.left - 5, chart.y(at) + 4, words, "end");
    });
    (xticks || []).forEach(tick => {
      const [at, words] = Array.isArray(tick) ? tick : [tick, String(tick)];
      text(chart.x(at), box.bottom + 16, words, "middle");
    });
    kd.svg("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "kd-axis" }, svg);
    chart.inside = kd.svg("g", {}, svg);
    chart.path = points => points.map(([a, b], i) => `${i ? "L" : "M"}${chart.x(a).toFixed(1)} ${chart.y(b).toFixed(1)}`).join("");
    chart.line = (points, attributes) => kd.svg("path", { d: chart.path(points), fill: "none", "stroke-width": 2.2, ...attributes }, chart.inside);
    chart.dot = attributes => kd.svg("circle", { r: 5.5, stroke: "#fff", "stroke-width": 1.5, ...attributes }, chart.inside);
    chart.label = (at, down, words, attributes) => kd.svg("text", { x: at, y: down, ...attributes }, chart.inside, words);
    return chart;
  };
  /* Ten bars that move: returns a function that sets their heights. */
  kd.bars = function (chart, count, color) {
    const width = (0.76 * (chart.box.right - chart.box.left)) / count;
    const bars = Array.from({ length: count }, (_, k) =>
      kd.svg("rect", { x: chart.x(k) - width / 2, width, fill: color, rx: 1.5 }, chart.inside));
    return heights =>
      heights.forEach((height, k) => {
        const ends = [chart.y(0), Math.min(Math.max(chart.y(height), chart.box.top), chart.box.bottom)];
        bars[k].setAttribute("y", Math.min(...ends));
        bars[k].setAttribute("height", Math.abs(ends[0] - ends[1]));
      });
  };
  kd.pixels = function (text) {
    return Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  };
  kd.paint = function (canvas, values, scale) {
    const picture = new ImageData(28, 28);
    for (let i = 0; i < 784; i++) {
      const shade = 255 - Math.round(values[i] * scale);
      picture.data.set([shade, shade, shade, 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
  };

  kd.add = (name, draw) => (explorers[name] = draw);
  /* In print, and without scripts, a still stands in its place. */
  function start() {
    document.querySelectorAll("[data-explorer]").forEach(box => {
      const name = box.dataset.explorer;
      if (!explorers[name]) return;
      const live = kd.html("div", { class: "kd-live", role: "group", "aria-label": box.dataset.title || name }, null);
      const parts = {
        controls: kd.html("div", { class: "kd-controls" }, live),
        charts: kd.html("div", { class: "kd-charts" }, live),
        says: kd.html("p", { class: "kd-says", role: "status" }, live),
      };
      box.prepend(live);
      box.classList.add("is-live");
      box.explorer = explorers[name](parts, kd.data[name]) || {};
    });
  }
  if (document.readyState === "complete") start();
  else window.addEventListener("load", start);
})();
