/* Train a student yourself: turn T and α, and see what recorded students of that setting got wrong. */
kd.add("train", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors;
  const pick = (label, values, start, words) => kd.slider(controls, { label, min: 0, max: values.length - 1, step: 1, value: values.indexOf(start), scale: i => values[i], words });
  const temperature = pick("temperature T", data.temperatures, 20, t => "T = " + t);
  const alpha = pick("weight α", data.alphas, 0.9, a => "α = " + a);
  const images = pick("training images", data.images, 2000, kd.thousands);
  const mean = row => row.errors.reduce((a, b) => a + b) / row.errors.length;
  const find = (count, what) => data.rows.find(row => row.images === count && Object.keys(what).every(key => row[key] === what[key]));
  const all = data.rows.flatMap(row => row.errors), most = Math.max(...all), least = Math.min(...all);
  const range = [least / 1.2, most * 1.15], ticks = [200, 300, 500, 1000, 2000, 4000].filter(v => v > range[0] && v < range[1]).map(v => [v, kd.thousands(v)]);
  const by_images = kd.chart(charts, { title: "test errors, of 10,000", x: [data.images[0] / 1.3, data.images[data.images.length - 1] * 1.3], y: range, log: "xy", xticks: data.images.map(n => [n, kd.thousands(n)]), yticks: ticks, xlabel: "training images", left: 54 });
  const band = kd.svg("path", { fill: colors.kd, "fill-opacity": 0.2 }, by_images.inside);
  const draw = what => by_images.path(data.images.map(n => [n, mean(find(n, what))]));
  [["no_teacher", "7 4", "no teacher"], ["label_smoothing", "2 3", "smoothed labels"]].forEach(([baseline, dash, words], i) => {
    const stroke = i ? colors.label_smoothing : "#5a5a5a";
    by_images.line([[1, 1]], { d: draw({ baseline }), stroke, "stroke-dasharray": dash });
    by_images.label(by_images.box.right - 4, 40 + 16 * i, (i ? "··· " : "- - ") + words, { "text-anchor": "end", fill: stroke });
  });
  by_images.label(by_images.box.right - 4, 72, "— with the teacher", { "text-anchor": "end", fill: colors.kd });
  const line = by_images.line([[1, 1]], { stroke: colors.kd }), dot = by_images.dot({ fill: colors.kd });
  const grid = kd.chart(charts, { title: "T and α, at this number of images", x: [-0.5, data.temperatures.length - 0.5], y: [-0.5, data.alphas.length - 0.5], xticks: data.temperatures.map((t, i) => [i, String(t)]), yticks: data.alphas.map((a, i) => [i, String(a)]), xlabel: "temperature T", ylabel: "weight α" });
  const cells = data.temperatures.flatMap((t, i) => data.alphas.map((a, j) => {
    const x = grid.x(i - 0.48), y = grid.y(j + 0.46);
    return { t, a, box: kd.svg("rect", { x, y, width: grid.x(i + 0.48) - x, height: grid.y(j - 0.46) - y, rx: 3 }, grid.inside), text: grid.label(grid.x(i), grid.y(j) + 4, "", { "text-anchor": "middle", fill: "#111" }) };
  }));
  let shown = {};
  kd.follow([temperature, alpha, images], () => {
    const what = { temperature: temperature.value, alpha: alpha.value }, count = images.value, row = find(count, what);
    line.setAttribute("d", draw(what));
    const ends = sign => data.images.map(n => { const e = find(n, what).errors; return [n, sign > 0 ? Math.max(...e) : Math.min(...e)]; });
    band.setAttribute("d", by_images.path([...ends(1), ...ends(-1).reverse()]) + "Z");
    dot.setAttribute("cx", by_images.x(count));
    dot.setAttribute("cy", by_images.y(mean(row)));
    const plain = mean(find(count, { baseline: "no_teacher" })), smooth = mean(find(count, { baseline: "label_smoothing" }));
    cells.forEach(({ t, a, box, text }) => {
      const value = mean(find(count, { temperature: t, alpha: a })), best = Math.min(plain, smooth), worst = Math.max(plain, smooth);
      box.setAttribute("fill", value < best ? "#a9cfb4" : value > worst ? "#e3b7a3" : "#e6e3da");
      const here = t === what.temperature && a === what.alpha;
      box.setAttribute("stroke", here ? "#111" : "none");
      box.setAttribute("stroke-width", 2.5);
      text.textContent = kd.thousands(value);
    });
    const compare = (value, words) => `${kd.thousands(Math.abs(mean(row) - value))} ${mean(row) < value ? "fewer" : "more"} than ${words}`;
    says.textContent = `With ${kd.thousands(count)} images, T = ${what.temperature} and α = ${what.alpha}: ${kd.thousands(mean(row))} errors, from ${kd.thousands(Math.min(...row.errors))} to ${kd.thousands(Math.max(...row.errors))} over ${row.errors.length} seeds. ` +
      `That is ${compare(plain, "without a teacher")}, and ${compare(smooth, "with smoothed labels")}. Green cells beat both, brown ones lose to both.`;
    shown = { mean: mean(row), plain, smooth };
  });
  return { read: () => shown };
});
