/* Two networks in the page: draw a digit, and a student of 784-300-300-10 answers beside its teacher of 784-1200-1200-10.
   Weights come in files of their own, loaded when asked for. The forward pass is written out below. */
(function () {
  "use strict";
  const BOX = 20, SIZE = 28; // MNIST's digits fill a box of 20 pixels; their centre of mass is the middle of the image

  /* Rows of whole numbers with a scale each: `bits` 8 or 12, two's complement, in base64. */
  function unpack({ bits, rows, columns, scales, bias, values }) {
    const bytes = kd.pixels(values), count = rows * columns, weights = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      let value;
      if (bits === 8) value = (bytes[i] << 24) >> 24;
      else {
        const at = (i >> 1) * 3;
        value = i & 1 ? (bytes[at + 1] >> 4) | (bytes[at + 2] << 4) : bytes[at] | ((bytes[at + 1] & 15) << 8);
        value = (value << 20) >> 20;
      }
      weights[i] = value * scales[(i / columns) | 0];
    }
    return { rows, columns, weights, bias };
  }
  function forward(layers, image) {
    let values = image;
    layers.forEach(({ rows, columns, weights, bias }, depth) => {
      const next = new Float32Array(rows);
      for (let row = 0; row < rows; row++) {
        let sum = bias[row];
        for (let column = 0, at = row * columns; column < columns; column++, at++) sum += weights[at] * values[column];
        next[row] = depth < layers.length - 1 && sum < 0 ? 0 : sum;
      }
      values = next;
    });
    return Array.from(values);
  }
  /* From a drawing (dark 1, paper 0; any size) to 784 numbers in [0, 1], as MNIST's were made. Null if nothing is drawn. */
  function prepare(drawing, width, height) {
    let [left, right, top, bottom] = [width, -1, height, -1];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (drawing[y * width + x] > 0.1) {
      left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
    }
    if (right < 0) return null;
    const scale = BOX / Math.max(right - left + 1, bottom - top + 1);
    const wide = Math.max(1, Math.round((right - left + 1) * scale)), high = Math.max(1, Math.round((bottom - top + 1) * scale));
    const small = new Float32Array(wide * high), parts = 4; // the mean over each small pixel's area
    let mass = 0, across = 0, down = 0;
    for (let y = 0; y < high; y++) for (let x = 0; x < wide; x++) {
      const from = [left + (x / wide) * (right - left + 1), top + (y / high) * (bottom - top + 1)];
      const step = [(right - left + 1) / wide, (bottom - top + 1) / high], many = Math.max(parts, Math.ceil(step[0]));
      let sum = 0;
      for (let b = 0; b < many; b++) for (let a = 0; a < many; a++) {
        const sx = Math.min(width - 1, Math.floor(from[0] + ((a + 0.5) / many) * step[0]));
        const sy = Math.min(height - 1, Math.floor(from[1] + ((b + 0.5) / many) * step[1]));
        sum += drawing[sy * width + sx];
      }
      const value = sum / (many * many);
      small[y * wide + x] = value;
      mass += value; across += value * (x + 0.5); down += value * (y + 0.5);
    }
    const image = new Float32Array(SIZE * SIZE);
    const dx = Math.round(SIZE / 2 - across / mass), dy = Math.round(SIZE / 2 - down / mass);
    for (let y = 0; y < high; y++) for (let x = 0; x < wide; x++) {
      const [tx, ty] = [x + dx, y + dy];
      if (tx >= 0 && tx < SIZE && ty >= 0 && ty < SIZE) image[ty * SIZE + tx] = small[y * wide + x];
    }
    return image;
  }
  function load(address) {
    return new Promise((resolve, reject) => {
      const script = kd.html("script", { src: address });
      script.onload = resolve;
      script.onerror = () => reject(new Error("The file " + address + " could not be loaded."));
      document.head.append(script);
    });
  }
  kd.network = { unpack, forward, prepare };

  kd.add("digit", ({ controls, charts, says }) => {
    const folder = document.querySelector("script[src*='js/digit.js']").src.replace(/js\/digit\.js.*$/, "data/");
    const look = kd.data.look.colors, networks = {};
    const [here, there] = ["kd-drawing", "kd-answers"].map(name => kd.html("div", { class: name }, charts));
    const pad = kd.html("figure", { class: "kd-pad" }, here);
    const paper = kd.html("canvas", { width: 280, height: 280, tabindex: 0, role: "img", "aria-label": "Paper: draw a digit with pointer or finger. With the keyboard, choose a digit of the test images below instead." }, pad);
    const buttons = kd.html("div", { class: "kd-buttons" }, pad);
    const button = (words, action) => {
      const element = kd.html("button", { type: "button" }, buttons, words);
      element.addEventListener("click", action);
      return element;
    };
    const pen = paper.getContext("2d", { willReadFrequently: true });
    const seen = kd.html("figure", { class: "kd-digit" }, here);
    const small = kd.html("canvas", { width: SIZE, height: SIZE, role: "img", "aria-label": "What the networks see: 28 times 28 pixels" }, seen);
    kd.html("figcaption", {}, seen, "what they see");
    const temperature = kd.temperature(controls, 4);
    const ticks = Array.from({ length: 10 }, (_, k) => k);
    const draw = [["the teacher: 2,395,210 weights", look.teacher], ["the student: 328,810 weights", look.student]].map(([title, color]) => {
      const chart = kd.chart(there, { title, x: [-0.6, 9.6], y: [0, 1], xticks: ticks, yticks: [0, 0.5, 1], xlabel: "digit", ylabel: "probability", width: 360, height: 210 });
      return kd.bars(chart, 10, color);
    });
    let image = null, shown = {}, last = null, ready = null;
    const clear = () => {
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, 280, 280);
      pen.lineWidth = 22;
      pen.lineCap = pen.lineJoin = "round";
      image = null;
    };
    const look_at = () => {
      if (image) kd.paint(small, image, 255);
      else small.getContext("2d").clearRect(0, 0, SIZE, SIZE);
      if (!image || !networks.student) {
        draw.forEach(set => set(ticks.map(() => 0)));
        says.textContent = image ? "The networks are being loaded." : "Draw a digit: two networks, loaded into this page, answer at once. Nothing that you draw leaves it.";
        shown = {};
        return;
      }
      const [teacher, student] = ["teacher", "student"].map(name => kd.softmax(forward(networks[name], image), temperature.value));
      draw[0](teacher);
      draw[1](student);
      const best = row => row.indexOf(Math.max(...row)), [t, s] = [best(teacher), best(student)];
      const second = row => { const k = best(row), rest = row.map((p, i) => (i === k ? -1 : p)); return best(rest); };
      says.textContent = `At T = ${Number(temperature.value.toPrecision(3))} the teacher says ${t} (${kd.percent(teacher[t])}), then ${second(teacher)} (${kd.percent(teacher[second(teacher)])}). ` +
        `The student says ${s} (${kd.percent(student[s])}), then ${second(student)} (${kd.percent(student[second(student)])}). ` +
        (t === s ? "They agree, and the student is a seventh of its teacher’s size." : "They disagree: somewhere the student had too little room, or too few lessons.");
      shown = { teacher, student };
    };
    const wake = () => (ready = ready || Promise.all(["teacher", "student"].map(name => load(`${folder}${name}.js`))).then(() => {
      ["teacher", "student"].forEach(name => (networks[name] = kd.data[name].map(unpack)));
      look_at();
    }, error => { ready = null; says.textContent = error.message; }));
    const read = () => {
      const { data } = pen.getImageData(0, 0, 280, 280), dark = new Float32Array(280 * 280);
      for (let i = 0; i < dark.length; i++) dark[i] = 1 - data[4 * i] / 255;
      image = prepare(dark, 280, 280);
      look_at();
    };
    const place = event => {
      const box = paper.getBoundingClientRect();
      return [((event.clientX - box.left) * 280) / box.width, ((event.clientY - box.top) * 280) / box.height];
    };
    const stroke = to => {
      pen.strokeStyle = "#000";
      pen.beginPath();
      pen.moveTo(...last);
      pen.lineTo(...to);
      pen.stroke();
      last = to;
    };
    paper.addEventListener("pointerdown", event => {
      wake();
      paper.setPointerCapture(event.pointerId);
      last = place(event);
      stroke([last[0] + 0.1, last[1]]);
      event.preventDefault();
    });
    let waiting = false;
    paper.addEventListener("pointermove", event => {
      if (!last) return;
      stroke(place(event));
      if (!waiting) {
        waiting = true;
        setTimeout(() => { waiting = false; read(); }, 60);
      }
    });
    ["pointerup", "pointercancel"].forEach(kind => paper.addEventListener(kind, () => {
      if (last) read();
      last = null;
    }));
    let next = 0;
    button("Wipe", () => { clear(); look_at(); });
    button("Show a test image", () => {
      wake();
      const sample = kd.data.digit.samples[next++ % kd.data.digit.samples.length], values = kd.pixels(sample.image);
      clear();
      image = Float32Array.from(values, value => value / 255);
      const picture = new OffscreenCanvas(SIZE, SIZE);
      kd.paint(picture, values, 1);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(picture, 0, 0, 280, 280);
      look_at();
    });
    clear();
    kd.follow([temperature], look_at);
    return { read: () => shown, wake, networks, answer: (name, values) => forward(networks[name], values) };
  });
})();
