/* A teacher's answer, softened: chapter 01's explorer. */
kd.add("temperature", ({ controls, charts, says }, data) => {
  const look = kd.data.look;
  const digit = kd.slider(controls, { label: "digit", min: 0, max: 9, step: 1, value: 3, words: String });
  const example = kd.slider(controls, { label: "example", min: 1, max: data.each, step: 1, value: 1, words: String });
  const temperature = kd.temperature(controls, 4);
  const figure = kd.html("figure", { class: "kd-digit" }, charts);
  const canvas = kd.html("canvas", { width: 28, height: 28, role: "img" }, figure);
  const caption = kd.html("figcaption", {}, figure);
  const ticks = Array.from({ length: 10 }, (_, k) => k);
  const left = kd.chart(charts, {
    title: "the teacher’s soft target", x: [-0.6, 9.6], y: [0, 1], xticks: ticks, yticks: [0, 0.5, 1], xlabel: "class", ylabel: "probability",
  });
  const set = kd.bars(left, 10, look.colors.teacher);
  const right = kd.chart(charts, {
    title: "push on an untrained student", x: [-0.6, 9.6], y: [-2, 5], xticks: ticks, yticks: [-2, 0, 2, 4], xlabel: "class", ylabel: "change of the logit",
  });
  const push = kd.bars(right, 10, look.colors.kd);
  const hard = ticks.map(k => kd.svg("line", { x1: right.x(k) - 9, x2: right.x(k) + 9, stroke: look.colors.ce, "stroke-width": 2.5 }, right.inside));
  right.label(right.box.right, 40, "— the label alone", { fill: look.colors.ce, "text-anchor": "end" });
  let shown = {};
  kd.follow([digit, example, temperature], () => {
    const sample = data.samples[digit.value * data.each + example.value - 1], t = temperature.value;
    const p = kd.softmax(sample.logits, t), pushes = p.map(value => t * (value - 0.1));
    kd.paint(canvas, kd.pixels(sample.image), 1);
    caption.textContent = "labelled " + sample.label;
    canvas.setAttribute("aria-label", "A handwritten digit, labelled " + sample.label);
    set(p);
    push(pushes);
    hard.forEach((line, k) => ["y1", "y2"].forEach(end => line.setAttribute(end, right.y((k === sample.label) - 0.1))));
    const others = p.map((value, k) => (k === sample.label ? -1 : value)), second = others.indexOf(Math.max(...others));
    const nats = kd.entropy(p);
    says.textContent = `At T = ${Number(t.toPrecision(3))} the teacher gives ${sample.label} a probability of ${kd.number(p[sample.label], 3)}. ` +
      `Next comes ${second}, with ${p[second] >= 0.001 ? kd.number(p[second], 3) : "less than 0.001"}. Its entropy is ${kd.number(nats, 3)} nats: ` +
      `as unsure as between ${kd.number(Math.exp(nats), 1)} equally likely classes.`;
    shown = { p, pushes, nats };
  });
  return { read: () => shown };
});
