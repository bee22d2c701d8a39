/* When may an image leave? Chapter 06's network on 10,000 test images, for every confidence. */
kd.add("exits", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors, shades = ["#b9cbe0", "#5f92cf", "#0c4a97"], inks = ["#222", "#111", "#fff"];
  const confidence = kd.slider(controls, { label: "confidence", min: 0, max: 100, step: 1, value: 60, scale: v => v, words: v => (v / 100).toFixed(2) });
  const digit = kd.slider(controls, { label: "digit", min: 0, max: 9, step: 1, value: 4, words: String });
  const chart = kd.chart(charts, {
    title: "right answers against computation", x: [0, 110], y: [data.lowest, 100], xticks: [[0, "0"], [25, "25"], [50, "50"], [75, "75"], [100, "100 %"]],
    yticks: data.ticks.map(tick => [tick, tick + " %"]), xlabel: "multiply-adds, of the deepest exit alone", left: 54,
  });
  chart.line(data.compute.map((cost, i) => [100 * cost, 100 * data.accuracy[i]]), { stroke: colors.student });
  data.single.forEach(([cost, right], i) => {
    kd.svg("rect", { x: chart.x(100 * cost) - 5, y: chart.y(100 * right) - 5, width: 10, height: 10, fill: colors.kd }, chart.inside);
    chart.label(chart.x(100 * cost) + (i === 2 ? -4 : 8), chart.y(100 * right) + 19, "all at " + (i + 1), { fill: colors.kd, "text-anchor": i === 2 ? "end" : "start" });
  });
  const dot = chart.dot({ fill: colors.student, r: 7 });
  const stacks = kd.chart(charts, { title: "who leaves where", x: [0, 100], y: [2, 0], xticks: [[0, "0"], [50, "50"], [100, "100 %"]], height: 250, left: 74, xlabel: "share of the images" });
  const names = ["all digits", ""].map((words, row) => stacks.label(stacks.box.left - 6, stacks.y(row + 0.5) + 4, words, { "text-anchor": "end" }));
  const bars = [0, 1].map(row => shades.map((fill, exit) => ({
    bar: kd.svg("rect", { y: stacks.y(row + 0.18), height: stacks.y(row + 0.82) - stacks.y(row + 0.18), fill, stroke: "#fff" }, stacks.inside),
    text: stacks.label(0, stacks.y(row + 0.5) + 4, "", { "text-anchor": "middle", fill: inks[exit] }),
  })));
  let shown = {};
  kd.follow([confidence, digit], () => {
    const i = confidence.value, shares = data.shares[i], of = data.digits[digit.value][i];
    dot.setAttribute("cx", chart.x(100 * data.compute[i]));
    dot.setAttribute("cy", chart.y(100 * data.accuracy[i]));
    names[1].textContent = "only " + digit.value;
    [shares, of].forEach((row, k) => {
      let from = 0;
      row.forEach((share, exit) => {
        const { bar, text } = bars[k][exit], left = stacks.x(100 * from), right = stacks.x(100 * (from + share));
        bar.setAttribute("x", left);
        bar.setAttribute("width", Math.max(0, right - left));
        text.setAttribute("x", (left + right) / 2);
        text.textContent = share > 0.24 ? `exit ${exit + 1}: ${kd.percent(share)}` : share > 0.07 ? String(exit + 1) : "";
        from += share;
      });
    });
    says.textContent = `An image leaves once a class has a probability of ${(i / 100).toFixed(2)}: ${shares.map((s, e) => `${kd.percent(s)} at exit ${e + 1}`).join(", ")}. ` +
      `${kd.percent(data.accuracy[i], 1)} right for ${kd.percent(data.compute[i])} of the multiply-adds; the deepest exit alone has ${kd.percent(data.single[2][1], 1)}. ` +
      `Of the images of ${digit.value}, ${kd.percent(of[2])} need the deepest exit.`;
    shown = { shares, of, accuracy: data.accuracy[i], compute: data.compute[i] };
  });
  return { read: () => shown };
});
