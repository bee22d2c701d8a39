/* Where do the heads of a teacher and of its student look, and which kind do both believe in? Chapter 09. */
kd.add("heads", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors, names = ["teacher", "student"], left = 84, top = 26, side = 262, height = 372;
  const current = () => data.definitions.find(row => row.text === text.value);
  const text = kd.choice(controls, "definition", data.definitions.map(row => row.text));
  text.input.parentElement.style.flexBasis = "100%";
  const layer = kd.slider(controls, { label: "student's block", min: 1, max: data.depths[1], step: 1, value: data.depths[1], words: at => `${at} of ${data.depths[1]}` });
  const head = kd.slider(controls, { label: "head", min: 1, max: data.heads, step: 1, value: 1, words: at => `${at} of ${data.heads}` });
  const token = kd.slider(controls, { label: "token", min: 1, max: current().tokens.length, step: 1, value: 3, words: at => current().tokens[at - 1] });
  const temperature = kd.temperature(controls, 1);
  const add = (parent, x, y, words, anchor, extra) => kd.svg("text", { x, y, "text-anchor": anchor, ...extra }, parent, words);
  const maps = names.map(() => {
    const svg = kd.svg("svg", { viewBox: `0 0 360 ${height}`, class: "kd-chart", "aria-hidden": "true", style: "flex: 360 1 260px; max-width: 400px; cursor: pointer" }, charts);
    svg.addEventListener("pointerdown", event => {  // a row that is touched becomes the token
      const box = svg.getBoundingClientRect(), count = current().tokens.length;
      const at = Math.ceil(((((event.clientY - box.top) * height) / box.height - top) * count) / side);
      if (at < 1 || at > count) return;
      token.move(at);
      token.actions.forEach(action => action());
    });
    return { title: add(svg, left + side / 2, 15, "", "middle", { class: "kd-title" }), inside: kd.svg("g", {}, svg) };
  });
  const draw = ({ inside }, rows, tokens, chosen) => {
    const cell = side / tokens.length;
    inside.replaceChildren();
    kd.svg("rect", { x: left, y: top, width: side, height: side, fill: "#fff", stroke: "#999" }, inside);
    rows.forEach((row, i) => row.forEach((share, j) =>
      kd.svg("rect", { x: left + j * cell, y: top + i * cell, width: cell, height: cell, fill: "#08306b", "fill-opacity": share / 1000 }, inside)));
    tokens.forEach((word, i) => {
      const at = (i + 0.5) * cell, bold = i === chosen ? "font-weight: 700" : "";
      add(inside, left - 6, top + at + 4, word, "end", { style: bold });
      const x = left + at + 4, y = top + side + 12;
      add(inside, x, y, word, "end", { transform: `rotate(-60 ${x} ${y})` });
    });
    kd.svg("rect", { x: left, y: top + chosen * cell, width: side, height: cell, fill: "none", stroke: colors.kd, "stroke-width": 2 }, inside);
  };
  const half = Math.ceil(data.kinds.length / 2), high = 20;
  const bars = [0, half].map(from => {
    const kinds = data.kinds.slice(from, from + half), bottom = top + high * half, x = share => 112 + 226 * share;
    const svg = kd.svg("svg", { viewBox: `0 0 360 ${bottom + 22}`, class: "kd-chart", "aria-hidden": "true", style: "flex: 360 1 260px; max-width: 400px" }, charts);
    [0, 0.5, 1].forEach(share => {
      kd.svg("line", { x1: x(share), x2: x(share), y1: top - 4, y2: bottom, class: "kd-grid" }, svg);
      add(svg, x(share), bottom + 16, kd.percent(share), "middle");
    });
    names.forEach((name, i) => add(svg, x(0.1 + 0.5 * i), 15, "■ " + name, "start", { fill: colors[name] }));
    return kinds.map((kind, i) => ({
      name: add(svg, 104, top + high * i + 14, kind, "end"),
      parts: names.map((name, k) => kd.svg("rect", { x: x(0), y: top + high * i + 3 + 7 * k, height: 7, fill: colors[name] }, svg)),
      put: (part, share) => part.setAttribute("width", x(share) - x(0)),
    }));
  }).flat();
  const best = row => row.indexOf(Math.max(...row));
  let last, shown = {};
  kd.follow([text, layer, head, token, temperature], () => {
    const row = current(), { tokens } = row;
    if (row !== last) {
      token.input.max = tokens.length;
      token.move(Math.min(token.value, tokens.length));
      last = row;
    }
    const chosen = token.value - 1, attention = row.maps.map(blocks => blocks[layer.value - 1][head.value - 1]);
    const answers = row.logits.map(logits => kd.softmax(logits, temperature.value));
    attention.forEach((rows, i) => {
      maps[i].title.textContent = `${names[i]}: block ${data.blocks[i][layer.value - 1]} of ${data.depths[i]}, head ${head.value}`;
      draw(maps[i], rows, tokens, chosen);
    });
    bars.forEach(({ name, parts, put }, kind) => {
      name.setAttribute("style", kind === row.kind ? "font-weight: 700" : "");
      parts.forEach((part, i) => put(part, answers[i][kind]));
    });
    const moved = attention[0].reduce((sum, line, i) => sum + line.reduce((all, share, j) => all + Math.abs(share - attention[1][i][j]), 0), 0) / (2000 * tokens.length);
    const looks = attention.map(rows => best(rows[chosen])), kinds = answers.map(best);
    const said = kinds.map((kind, i) => `${data.kinds[kind]} (${kd.percent(answers[i][kind])})`);
    const seen = looks.map((at, i) => `“${tokens[at]}” (${kd.percent(attention[i][chosen][at] / 1000)})`);
    says.textContent = `From “${tokens[chosen]}” the teacher's head looks most at ${seen[0]}, the student's at ${seen[1]}. Of an average row, ${kd.percent(moved)} would have to move to make both maps equal. ` +
      `At T = ${Number(temperature.value.toPrecision(3))} the teacher says ${said[0]} and the student ${said[1]}; right is ${data.kinds[row.kind]}. ` +
      `Of all ${kd.thousands(data.count)} test definitions they agree on ${kd.percent(data.agree / data.count)}.`;
    shown = { answers, moved, looks, kinds, attention, tokens: tokens.length };
  });
  return { read: () => shown };
});
