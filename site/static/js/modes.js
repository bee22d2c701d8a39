/* A student with one bump and a teacher with two: which bump is best for which divergence? */
kd.add("modes", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors, places = Array.from({ length: data.count }, (_, i) => -data.reach + (2 * data.reach * i) / (data.count - 1));
  const last = data.betas.length - 1;
  const gap = kd.slider(controls, { label: "gap between the bumps", min: 0, max: data.gaps.length - 1, step: 1, value: data.gaps.indexOf(4), scale: at => data.gaps[at], words: at => at.toFixed(1) });
  const beta = kd.slider(controls, { label: "β, forward to reverse", min: 0, max: last, step: 1, value: 0, scale: at => data.betas[at], words: at => at.toFixed(2) });
  const chart = kd.chart(charts, {
    title: "teacher and the best student", x: [-data.reach, data.reach], y: [0, 0.045], xticks: [-6, -3, 0, 3, 6], yticks: [[0, "0"], [0.02, "0.02"], [0.04, "0.04"]],
    xlabel: "place", ylabel: "probability", width: 440, left: 58,
  });
  const teacher = chart.line([[0, 0]], { stroke: colors.teacher, "stroke-dasharray": "3 4", "stroke-width": 3 });
  const student = chart.line([[0, 0]], { stroke: colors.student });
  ["teacher", "student"].forEach((name, i) => chart.label(chart.box.right, 40 + 17 * i, (i ? "— " : "··· ") + name, { fill: colors[name], "text-anchor": "end" }));
  const pull = kd.chart(charts, {
    title: "how hard the loss pulls", x: [0, 1], y: [0.001, 1], log: "y", xticks: [[0, "0"], [0.5, "0.5"], [1, "1"]], yticks: [[0.001, "0.001"], [0.01, "0.01"], [0.1, "0.1"], [1, "1"]],
    xlabel: "β", ylabel: "length of the gradient", width: 300, left: 60,
  });
  pull.line(data.sizes.map((size, i) => [data.betas[i], size]).slice(1, -1), { stroke: "#444" });  // it jumps at both ends
  [0, last].forEach(i => pull.dot({ cx: pull.x(data.betas[i]), cy: pull.y(data.sizes[i]), r: 4, fill: "#444" }));
  const dot = pull.dot({ fill: colors.student, r: 7 });
  const bump = (middle, width) => places.map(place => -Math.pow(place - middle, 2) / (2 * width * width));
  let shown = {};
  kd.follow([gap, beta], () => {
    const row = data.gaps.indexOf(gap.value), at = data.betas.indexOf(beta.value), [middle, width] = data.best[row][at];
    const [left, right] = [-gap.value / 2, gap.value / 2].map(place => bump(place, data.width));
    const p = kd.softmax(left.map((value, i) => Math.log((2 / 3) * Math.exp(value) + (1 / 3) * Math.exp(right[i]) + 1e-300)), 1);
    const q = kd.softmax(bump(middle, width), 1), most = row => Math.max(...row);
    teacher.setAttribute("d", chart.path(p.map((value, i) => [places[i], value])));
    student.setAttribute("d", chart.path(q.map((value, i) => [places[i], Math.min(value, 0.045)])));
    dot.setAttribute("cx", pull.x(beta.value));
    dot.setAttribute("cy", pull.y(data.sizes[at]));
    const sum = (values, kept) => values.reduce((total, value, i) => total + (kept(i) ? value : 0), 0);
    const covered = sum(p, i => q[i] >= 0.1 * most(q)), between = sum(q, i => p[i] < 0.1 * most(p));
    const name = at === 0 ? "forward KL" : at === last ? "reverse KL" : "between forward and reverse";
    says.textContent = `β = ${beta.value.toFixed(2)}, ${name}: the best student has its middle at ${kd.number(middle, 1)} and a width of ${kd.number(width, 1)}. ` +
      `It reaches ${kd.percent(covered)} of what the teacher says, and puts ${kd.percent(between)} of its own probability where the teacher says next to nothing.`;
    shown = { middle, width, covered, between };
  });
  return { read: () => shown };
});
