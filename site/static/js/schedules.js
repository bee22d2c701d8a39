/* Knobs that move while a student trains, and what each way was worth: chapter 07's record. */
kd.add("schedules", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors, names = Object.keys(data.schedules);
  const which = kd.choice(controls, "schedule", names, "α rises from 0");
  const progress = kd.slider(controls, { label: "progress", min: 0, max: 40, step: 1, value: 0, scale: v => v, words: v => kd.percent(v / 40) });
  const ticks = [[0, "0"], [0.5, "50"], [1, "100 %"]];
  const knobs = [["temperature T", [0, 21], [1, 10, 20], colors.kd], ["weight α of the teacher", [0, 1.05], [0, 0.5, 1], colors.student]].map(([title, y, yticks, stroke]) => {
    const chart = kd.chart(charts, { title, x: [0, 1], y, xticks: ticks, yticks, xlabel: "progress of training", width: 270 });
    return { chart, line: chart.line([[0, 0]], { stroke }), dot: chart.dot({ fill: stroke }) };
  });
  const arms = [...names, "no_teacher", "label_smoothing"], told = { no_teacher: "no teacher", label_smoothing: "smoothed labels" };
  const bars = kd.chart(charts, { title: "test errors, of 10,000", x: [0, 1000], y: [arms.length, 0], xticks: [0, 400, 800], width: 390, height: 270, left: 118 });
  const rows = arms.map((arm, row) => {
    const top = bars.y(row + 0.18), height = bars.y(row + 0.82) - top;
    bars.label(bars.box.left - 6, bars.y(row + 0.5) + 4, told[arm] || arm, { "text-anchor": "end" });
    const bar = kd.svg("rect", { x: bars.box.left, y: top, height, width: bars.x(data.errors[arm]) - bars.box.left }, bars.inside);
    bars.label(bars.x(data.errors[arm]) + 5, bars.y(row + 0.5) + 4, kd.thousands(data.errors[arm]), {});
    return bar;
  });
  let shown = {};
  kd.follow([which, progress], () => {
    const name = which.value, at = progress.value, [temperatures, alphas] = data.schedules[name];
    [temperatures, alphas].forEach((values, k) => {
      const { chart, line, dot } = knobs[k];
      line.setAttribute("d", chart.path(values.map((value, i) => [i / 40, value])));
      dot.setAttribute("cx", chart.x(at / 40));
      dot.setAttribute("cy", chart.y(values[at]));
    });
    rows.forEach((bar, i) => bar.setAttribute("fill", arms[i] === name ? colors.kd : told[arms[i]] ? "#8a8a8a" : "#c9b3a6"));
    const row = data.differences[name];
    says.textContent = `${/^[a-z]/.test(name) ? name[0].toUpperCase() + name.slice(1) : name}: at ${kd.percent(at / 40)} of the training, T = ${Number(temperatures[at].toPrecision(3))} and α = ${kd.number(alphas[at], 2)}. ` +
      `Mean of ${data.seeds} students: ${kd.thousands(data.errors[name])} errors` +
      (row ? `, ${kd.thousands(Math.abs(row.difference))} ${row.difference < 0 ? "fewer" : "more"} than with knobs that stand still (95 % interval ${kd.number(row.low, 0)} to ${kd.number(row.high, 0)}): ${row.verdict}.` : ". The others are measured against this one.");
    shown = { temperature: temperatures[at], alpha: alphas[at], errors: data.errors[name] };
  });
  return { read: () => shown };
});
