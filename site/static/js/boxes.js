/* From which score on does a box count? Chapter 08's detectors on test scenes. */
kd.add("boxes", ({ controls, charts, says }, data) => {
  const colors = kd.data.look.colors, zoom = 2.5, lowest = data.lowest;
  const lines = [colors.teacher, colors.no_teacher, colors.student];
  const scene = kd.slider(controls, { label: "scene", min: 1, max: data.scenes.length, step: 1, value: 2, words: String });
  const score = kd.slider(controls, { label: "score above", min: lowest, max: 95, step: 1, value: 30, scale: at => at / 100, words: at => at.toFixed(2) });
  const panels = ["the truth", ...data.detectors].map(title => {
    const svg = kd.svg("svg", { viewBox: "0 0 240 264", class: "kd-chart", "aria-hidden": "true", style: "flex: 240 1 150px; max-width: 260px" }, charts);
    kd.svg("text", { x: 120, y: 14, "text-anchor": "middle", class: "kd-title" }, svg, title);
    const image = kd.svg("image", { x: 0, y: 22, width: 240, height: 240, style: "image-rendering: pixelated" }, svg);
    kd.svg("rect", { x: 0.5, y: 22.5, width: 239, height: 239, fill: "none", stroke: "#999" }, svg);
    return { image, boxes: kd.svg("g", {}, svg) };
  });
  const most = 0.5 * Math.ceil((2 * Math.max(...data.wrong.map(row => row[10]))) / data.count);
  const chart = kd.chart(charts, {
    title: `all ${data.count} test scenes`, x: [0, most], y: [0, 100], width: 400, left: 58,
    xticks: [0, most / 2, most].map(at => [at, kd.number(at, 1)]), yticks: [[0, "0 %"], [50, "50 %"], [100, "100 %"]],
    xlabel: "wrong boxes in a scene", ylabel: "digits found",
  });
  const points = data.detectors.map((name, i) => data.found[i].map((found, at) => [data.wrong[i][at] / data.count, (100 * found) / data.digits]));
  const dots = points.map((row, i) => {
    chart.line(row.filter(([wrong]) => wrong <= most), { stroke: lines[i] });
    chart.label(chart.box.right, chart.box.bottom - 44 + 17 * i, "● " + data.detectors[i], { fill: i === 1 ? "#5a5a5a" : lines[i], "text-anchor": "end" });
    return chart.dot({ fill: lines[i], r: 6.5 });
  });
  const named = ["the teacher", ...data.detectors.slice(1).map(name => `the student of ${name}`)];
  const put = ({ boxes }, rows) => {
    boxes.replaceChildren();
    rows.reverse().forEach(([x1, y1, x2, y2, words, color, dashes]) => {
      const top = 22 + zoom * y1, inside = y1 < 7;  // at the upper edge the words stand inside the box
      kd.svg("rect", { x: zoom * x1, y: top, width: zoom * (x2 - x1), height: zoom * (y2 - y1), fill: "none", stroke: color, "stroke-width": 2.4, "stroke-dasharray": dashes }, boxes);
      kd.svg("text", { x: zoom * x1 + (inside ? 4 : 0), y: inside ? top + 14 : top - 4, fill: color, stroke: "#fff", "stroke-width": 3, style: "paint-order: stroke; font-weight: 700" }, boxes, words);
    });
  };
  let shown = {};
  kd.follow([scene, score], () => {
    const { image, truth, found } = data.scenes[scene.value - 1], least = score.value, at = Math.round(100 * least) - lowest;
    panels.forEach(panel => panel.image.setAttribute("href", image));
    put(panels[0], truth.map(([x1, y1, x2, y2, label]) => [x1, y1, x2, y2, label, colors.ce, "none"]));
    const counts = found.map((boxes, i) => {
      const kept = boxes.filter(box => box[5] >= least);
      put(panels[i + 1], kept.map(([x1, y1, x2, y2, label, certainty, hit]) =>
        [x1, y1, x2, y2, `${label} ${certainty.toFixed(2)}`, hit ? colors.student : colors.kd, hit ? "none" : "6 4"]));
      const hits = kept.filter(box => box[6]).length;
      return [hits, truth.length - hits, kept.length - hits];
    });
    dots.forEach((dot, i) => {
      const [wrong, right] = points[i][at];
      dot.setAttribute("cx", chart.x(Math.min(wrong, most)));
      dot.setAttribute("cy", chart.y(right));
    });
    const digits = truth.map(box => box[4]).sort().join(", ");
    says.textContent = `Scene ${scene.value} holds ${digits}. Above a score of ${least.toFixed(2)} ` +
      counts.map(([hits, , wrong], i) => `${named[i]} finds ${hits} of ${truth.length} and draws ${wrong} wrong ${wrong === 1 ? "box" : "boxes"}`).join(", ") +
      `. In all ${data.count} scenes ` + points.map((row, i) => `${named[i]} finds ${kd.number(row[at][1], 0)} % of the digits`).join(", ") +
      ". Solid blue boxes are right, dashed brown ones are not.";
    shown = { counts, all: points.map(row => row[at]) };
  });
  return { read: () => shown };
});
