/* How large the gradient of the distillation loss is, with and without T²: chapter 02. */
kd.add("gradient", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors;
  const at = kd.slider(controls, {
    label: "temperature T", min: 0, max: data.temperatures.length - 1, step: 1, value: data.start,
    scale: index => index, words: index => "T = " + data.temperatures[index],
  });
  const ticks = [0.5, 1, 2, 4, 8, 16, 32];
  const curve = kd.chart(charts, {
    title: "length of the gradient at the logits", x: [0.5, 32], y: [1e-3, 10], log: "xy", xticks: ticks,
    yticks: [[1e-3, "0.001"], [1e-2, "0.01"], [0.1, "0.1"], [1, "1"], [10, "10"]], xlabel: "temperature T", left: 54,
  });
  const points = row => row.map((value, i) => [data.temperatures[i], value]);
  curve.line(points(data.without), { stroke: colors.no_teacher, "stroke-dasharray": "7 4" });
  curve.line(points(data.with_t2), { stroke: colors.kd });
  curve.label(curve.x(0.6), curve.y(0.025), "- - without T²", { fill: "#5a5a5a" });
  curve.label(curve.x(0.6), curve.y(3.2), "— with T²", { fill: colors.kd });
  const dots = [curve.dot({ fill: "#5a5a5a" }), curve.dot({ fill: colors.kd })];
  const bars = kd.chart(charts, {
    title: "change of one digit’s logits", x: [-0.6, 9.6], y: [-2.5, 2.5], xticks: [...Array(10).keys()], yticks: [-2, -1, 0, 1, 2], xlabel: "class",
  });
  const set = kd.bars(bars, 10, colors.kd), small = kd.bars(bars, 10, "#5a5a5a");
  let shown = {};
  kd.follow([at], () => {
    const i = at.value, t = data.temperatures[i], without = data.without[i], with_t2 = data.with_t2[i];
    dots.forEach((dot, k) => {
      dot.setAttribute("cx", curve.x(t));
      dot.setAttribute("cy", curve.y(k ? with_t2 : without));
    });
    const change = kd.softmax(data.teacher, t).map((p, k) => t * (p - kd.softmax(data.student, t)[k]));
    set(change);
    small(change.map(value => value / (t * t)));
    says.textContent = `At T = ${t} the gradient has a length of ${Number(without.toPrecision(2))} without T², and of ${Number(with_t2.toPrecision(2))} with it. ` +
      `From T = 1 to T = 32 the first becomes ${kd.thousands(data.shrinks[0])} times smaller, the second ${kd.number(1 / data.shrinks[1], 1)} times larger, and level at the end: ` +
      "T² keeps the teacher’s term from vanishing, but it does not keep its size.";
    shown = { t, without, with_t2, change };
  });
  return { read: () => shown };
});
