/* A student's embedding, turned, scaled, moved and spoilt beside its teacher's: chapter 04's explorer. */
kd.add("relations", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors, points = data.points, count = points.length;
  const slider = (label, min, max, step, value, words) => kd.slider(controls, { label, min, max, step, value, words });
  const turn = slider("turn", -180, 180, 5, 40, v => v + "°".replace("-", "−"));
  const scale = kd.slider(controls, { label: "scale", min: -2, max: 1, step: 0.05, value: 0.6, scale: v => Math.pow(2, v), words: v => "× " + v.toFixed(2) });
  const shift = slider("shift", -1.5, 1.5, 0.05, 0.5, v => kd.number(v, 2));
  const outlier = slider("pull one away", 0, 2, 0.05, 0, v => v.toFixed(2));
  const reach = data.reach;
  const plane = kd.chart(charts, { title: "grey: teacher, blue: student", x: [-reach, reach], y: [-reach, reach], width: 300, height: 310, left: 12 });
  const both = points.map(point => {
    const at = [plane.x(point[0]), plane.y(point[1])];
    const way = kd.svg("line", { x1: at[0], y1: at[1], stroke: colors.no_teacher, "stroke-width": 0.8 }, plane.inside);
    const home = kd.svg("circle", { cx: at[0], cy: at[1], r: 2.6, fill: colors.no_teacher }, plane.inside);
    return { way, home, digit: kd.svg("text", { class: "kd-dot", fill: colors.student, "text-anchor": "middle" }, plane.inside) };
  });
  both.forEach(({ digit }, i) => (digit.textContent = data.labels[i]));
  const names = ["distance", "angle", "Gram", "similarity-preserving"];
  const bars = kd.chart(charts, {
    title: "the four losses", x: [0, 1.45], y: [4, 0], xticks: [[0, "0"], [1, "an unrelated student’s"]], width: 440, height: 310, left: 150,
  });
  const full = bars.x(1) - bars.box.left;
  const rows = names.map((name, i) => {
    const top = bars.y(i + 0.22), height = bars.y(i + 0.78) - top;
    bars.label(bars.box.left - 7, bars.y(i + 0.5) + 4, name, { "text-anchor": "end" });
    kd.svg("rect", { x: bars.box.left, y: top, width: full, height, class: "kd-full" }, bars.inside);
    return {
      bar: kd.svg("rect", { x: bars.box.left, y: top, height, fill: colors.kd }, bars.inside),
      number: bars.label(bars.x(1) + 7, bars.y(i + 0.5) + 4, "", {}),
    };
  });

  const sub = (a, b) => a.map((value, k) => value - b[k]), dot = (a, b) => a.reduce((s, value, k) => s + value * b[k], 0);
  const norm = a => Math.sqrt(dot(a, a)), huber = d => (Math.abs(d) < 1 ? 0.5 * d * d : Math.abs(d) - 0.5);
  const table = f => points.map((_, i) => points.map((_, j) => f(i, j)));
  const losses = student => {
    const distances = rows => {
      const d = table((i, j) => norm(sub(rows[i], rows[j]))), flat = d.flat().filter(value => value > 0);
      const middle = flat.reduce((a, b) => a + b, 0) / flat.length;
      return d.map(row => row.map(value => value / middle));
    };
    const [ds, dt] = [distances(student), distances(points)];
    let distance = 0, angle = 0, gram = 0, preserving = 0;
    const units = rows => table((i, j) => { const d = sub(rows[j], rows[i]), n = norm(d); return n > 1e-12 ? d.map(v => v / n) : [0, 0]; });
    const [us, ut] = [units(student), units(points)];
    for (let i = 0; i < count; i++) for (let j = 0; j < count; j++) {
      distance += huber(ds[i][j] - dt[i][j]) / (count * count);
      for (let k = 0; k < count; k++)
        angle += huber(dot(us[i][j], us[i][k]) - dot(ut[i][j], ut[i][k])) / (count * count * count);
    }
    const inner = rows => table((i, j) => dot(rows[i], rows[j])), [gs, gt] = [inner(student), inner(points)];
    const whole = g => norm(g.flat()), [ns, nt] = [whole(gs), whole(gt)];
    for (let i = 0; i < count; i++) {
      const [rs, rt] = [norm(gs[i]), norm(gt[i])];
      for (let j = 0; j < count; j++) {
        gram += Math.pow(gs[i][j] / ns - gt[i][j] / nt, 2);
        preserving += Math.pow(gs[i][j] / rs - gt[i][j] / rt, 2) / (count * count);
      }
    }
    return [distance, angle, gram, preserving];
  };
  let shown = {};
  kd.follow([turn, scale, shift, outlier], () => {
    const a = (turn.value * Math.PI) / 180, far = norm(points[0]);
    const student = points.map((point, i) => {
      const [x, y] = i ? point : point.map(v => v + (outlier.value * v) / far);
      return [scale.value * (x * Math.cos(a) - y * Math.sin(a)) + shift.value * Math.SQRT1_2, scale.value * (x * Math.sin(a) + y * Math.cos(a)) + shift.value * Math.SQRT1_2];
    });
    // Far points make the picture smaller for both, so that none lies on the edge as if it were there.
    const view = Math.max(1, ...student.flat().map(v => Math.abs(v) / (0.96 * reach)));
    const at_view = ([x, y]) => [plane.x(x / view), plane.y(y / view)];
    student.forEach((point, i) => {
      const at = at_view(point), home = at_view(points[i]);
      both[i].way.setAttribute("x1", home[0]);
      both[i].way.setAttribute("y1", home[1]);
      both[i].home.setAttribute("cx", home[0]);
      both[i].home.setAttribute("cy", home[1]);
      both[i].digit.setAttribute("x", at[0]);
      both[i].digit.setAttribute("y", at[1] + 4.5);
      both[i].way.setAttribute("x2", at[0]);
      both[i].way.setAttribute("y2", at[1]);
    });
    const values = losses(student), shares = values.map((value, i) => value / data.unrelated[i]);
    rows.forEach(({ bar, number }, i) => {
      bar.setAttribute("width", full * Math.min(1, shares[i]));
      number.textContent = (shares[i] > 1 ? "▸ " : "") + (shares[i] >= 0.005 ? kd.number(values[i], 3) : "0");
    });
    const moves = names.filter((_, i) => shares[i] >= 0.005), still = names.filter((_, i) => shares[i] < 0.005);
    const list = words => (words.length < 2 ? words.join("") : words.slice(0, -1).join(", ") + " and " + words[words.length - 1]);
    const capital = words => words[0].toUpperCase() + words.slice(1);
    says.textContent = !moves.length
      ? "No loss moves: to all four, this student is still the teacher."
      : `${capital(list(moves))} ${moves.length > 1 ? "see" : "sees"} what you did` + (still.length ? `; ${list(still)} ${still.length > 1 ? "do" : "does"} not.` : ".");
    shown = { values, shares };
  });
  return { read: () => shown };
});
