"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const find = (selector) => document.querySelector(selector);
  const content = read("content"); // what curves.json holds
  const view = read("view");
  const state = { metric: view.metrics[0], hidden: new Set(), frame: null };
  const canvas = find("#canvas");
  const still = find("#still");

  document.documentElement.classList.add("scripted");

  function make(name, attributes = {}, parent = null, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    parent?.append(element);
    return element;
  }

  function add(parent, name, className = "", text = "") {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.textContent = text;
    parent.append(element);
    return element;
  }

  const known = (value) => value !== null && value !== undefined;

  function number(value) {
    if (!known(value)) return "–";
    if (state.metric.digits !== null) return value.toFixed(state.metric.digits);
    return Math.abs(value) >= 1e4 ? value.toFixed(0) : value.toPrecision(4);
  }

  const interval = (value) => (known(value.low) ? `[${number(value.low)}, ${number(value.high)}]` : "");

  /** The lines of the chosen metric with their curves: values, or the reference minus each other series. */
  function lines() {
    if (!find("#differences").checked) {
      return state.metric.lines.map((line) => ({ ...line, curve: content.curves[line.series][line.column] }));
    }
    return state.metric.lines
      .filter((line) => line.paired)
      .map((line) => ({ ...line, curve: content.differences[line.series][line.column] }));
  }

  const length = (shown) => Math.max(1, ...shown.map((line) => line.curve.mean.length));

  /** A line's value at the cursor, or over the whole horizon. */
  function valueOf({ curve }) {
    if (state.frame === null) return curve.horizon_mean ?? {};
    const index = state.frame - 1;
    return { mean: curve.mean[index], low: curve.low?.[index], high: curve.high?.[index] };
  }

  function steps(low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
    const ticks = [];
    for (let i = Math.ceil(low / step); i * step <= high + step * 1e-6; i++) ticks.push(Number((i * step).toPrecision(12)));
    return ticks;
  }

  /** Scales, ticks and sizes of the plot for the lines shown. */
  function layout(shown) {
    const width = Math.max(260, canvas.clientWidth);
    const height = Math.round(Math.min(400, Math.max(250, width * 0.55)));
    const last = length(shown);
    const values = shown.flatMap(({ curve }) => [curve.mean, curve.low ?? [], curve.high ?? []].flat()).filter(known);
    if (find("#differences").checked) values.push(0);
    let low = values.reduce((a, b) => Math.min(a, b), Infinity);
    let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!values.length) [low, high] = [0, 1];
    const margin = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
    [low, high] = [low - margin, high + margin];
    const yTicks = steps(low, high, 7);
    const labels = yTicks.map(String);
    const left = 16 + 7.2 * Math.max(...labels.map((label) => label.length));
    const [right, top, bottom] = [14, 10, height - 26];
    const scale = find("#logarithmic").checked ? Math.log10 : (t) => t;
    const from = scale(1);
    const span = scale(last) - from || 1;
    const inner = width - left - right;
    let xTicks = [1, ...steps(1, last, Math.max(3, width / 110)).filter((t) => Number.isInteger(t) && t > 1)];
    if (scale === Math.log10) xTicks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].filter((t) => t <= last);
    return {
      width, height, left, right: width - right, top, bottom, last, yTicks, labels, xTicks,
      x: (t) => left + (last === 1 ? 0.5 : (scale(t) - from) / span) * inner,
      y: (value) => bottom - ((value - low) / (high - low)) * (bottom - top),
      frame(pixel) {
        const place = from + (Math.min(1, Math.max(0, (pixel - left) / inner)) * span);
        return Math.min(last, Math.max(1, Math.round(scale === Math.log10 ? 10 ** place : place)));
      },
    };
  }

  /** Runs of frames that have a value. */
  function runs(...series) {
    const found = [];
    series[0].forEach((_, i) => {
      if (!series.every((values) => known(values?.[i]))) return;
      if (found.length && found.at(-1).at(-1) === i - 1) found.at(-1).push(i);
      else found.push([i]);
    });
    return found;
  }

  let plot;
  let cursor;

  function draw() {
    const all = lines();
    const shown = all.filter((line) => !state.hidden.has(line.label));
    plot = layout(shown.length ? shown : all);
    if (state.frame !== null) state.frame = Math.min(state.frame, plot.last);
    const svg = make("svg", { viewBox: `0 0 ${plot.width} ${plot.height}`, height: plot.height, "aria-hidden": "true" });
    plot.yTicks.forEach((tick, i) => {
      const y = plot.y(tick);
      const zero = tick === 0 && find("#differences").checked;
      make("line", { x1: plot.left, x2: plot.right, y1: y, y2: y, class: zero ? "zero" : "grid" }, svg);
      make("text", { x: plot.left - 8, y: y + 4, "text-anchor": "end" }, svg, plot.labels[i]);
    });
    for (const tick of plot.xTicks) {
      make("line", { x1: plot.x(tick), x2: plot.x(tick), y1: plot.top, y2: plot.bottom, class: "grid" }, svg);
      make("text", { x: plot.x(tick), y: plot.bottom + 18, "text-anchor": "middle" }, svg, String(tick));
    }
    const place = (values) => (i) => `${plot.x(i + 1).toFixed(1)} ${plot.y(values[i]).toFixed(1)}`;
    for (const { curve, style } of shown) {
      for (const run of runs(curve.mean, curve.low, curve.high)) {
        const outline = [...run.map(place(curve.high)), ...run.toReversed().map(place(curve.low))];
        make("path", { d: `M${outline.join("L")}Z`, class: `band s${style}`, "data-style": style }, svg);
      }
    }
    for (const { curve, style } of shown.toReversed()) {
      for (const run of runs(curve.mean)) {
        const points = run.map(place(curve.mean));
        if (points.length > 1) make("path", { d: `M${points.join("L")}`, class: `curve s${style}`, "data-style": style }, svg);
        else make("circle", { cx: plot.x(run[0] + 1), cy: plot.y(curve.mean[run[0]]), r: 4, class: `dot s${style}` }, svg);
      }
    }
    cursor = make("g", {}, svg);
    canvas.replaceChildren(svg);
    canvas.setAttribute("aria-valuemax", plot.last);
    describe(all);
    point(all);
  }

  /** Title and legend. */
  function describe(all) {
    const { label, better, name } = state.metric;
    const paired = find("#differences").checked;
    find("#chart-title").textContent = paired ? `${label}: ${view.reference} minus the others` : label;
    const sides = { higher: "Above", lower: "Below" };
    find("#chart-note").textContent = [
      better && (paired ? `${sides[better]} zero, ${view.reference} is better.` : `${better[0].toUpperCase()}${better.slice(1)} is better.`),
      all.some(({ curve }) => curve.low?.some(known)) && "Bands are 95 % intervals.",
    ].filter(Boolean).join(" ");
    find("#differences-switch").hidden = !view.metrics.some((metric) => metric.lines.some((line) => line.paired));
    const legend = find("#legend");
    const focused = document.activeElement?.dataset?.label;
    legend.replaceChildren();
    for (const line of all) {
      const button = add(add(legend, "li"), "button", `s${line.style}`);
      button.type = "button";
      button.dataset.label = line.label;
      button.setAttribute("aria-pressed", String(!state.hidden.has(line.label)));
      const key = make("svg", { class: "key", viewBox: "0 0 34 8", "aria-hidden": "true" }, button);
      make("path", { d: "M0 4H34" }, key);
      add(button, "span", "name", line.label);
      add(button, "span", "value");
      button.addEventListener("click", () => {
        if (!state.hidden.delete(line.label)) state.hidden.add(line.label);
        draw();
      });
      const only = (style) => () => {
        for (const mark of canvas.querySelectorAll("[data-style]")) {
          mark.classList.toggle("dimmed", style !== null && mark.dataset.style !== style);
        }
      };
      const own = state.hidden.has(line.label) ? null : String(line.style);
      button.addEventListener("pointerenter", only(own));
      button.addEventListener("pointerleave", only(null));
      if (line.label === focused) button.focus();
    }
    for (const table of document.querySelectorAll("#tables > section")) table.hidden = table.dataset.metric !== name;
  }

  /** The crosshair and the values at its frame. */
  function point(all = lines()) {
    cursor.replaceChildren();
    const moment = state.frame === null ? `All ${plot.last} frames` : `Frame +${state.frame}`;
    find("#moment").textContent = moment;
    if (state.frame !== null) {
      const x = plot.x(state.frame);
      make("line", { x1: x, x2: x, y1: plot.top, y2: plot.bottom, class: "cursor" }, cursor);
    }
    const spoken = [moment];
    all.forEach((line, i) => {
      const value = valueOf(line);
      const place = find("#legend").children[i].querySelector(".value");
      place.textContent = number(value.mean);
      add(place, "small", "", interval(value));
      if (state.hidden.has(line.label)) return;
      spoken.push(`${line.label} ${known(value.mean) ? number(value.mean) : "not a number"}`);
      if (state.frame === null || !known(value.mean)) return;
      make("circle", { cx: plot.x(state.frame), cy: plot.y(value.mean), r: 5, class: `dot s${line.style}` }, cursor);
    });
    canvas.setAttribute("aria-valuenow", state.frame ?? 1);
    canvas.setAttribute("aria-valuetext", spoken.join(", "));
  }

  function move(frame) {
    state.frame = frame;
    point();
  }

  function stills() {
    document.body.classList.toggle("still", still.checked);
    for (const details of document.querySelectorAll(".moving + details")) details.open = still.checked;
  }

  const follow = (event) => move(plot.frame(event.clientX - canvas.getBoundingClientRect().left));
  canvas.addEventListener("pointermove", follow);
  canvas.addEventListener("pointerdown", follow);
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && move(null));
  canvas.addEventListener("keydown", (event) => {
    const now = state.frame ?? 0;
    const targets = {
      ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now - 1, ArrowDown: now - 1,
      PageUp: now + 10, PageDown: now - 10, Home: 1, End: plot.last, Escape: null,
    };
    if (!(event.key in targets) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const target = targets[event.key];
    move(target === null ? null : Math.min(plot.last, Math.max(1, target)));
  });
  for (const choice of document.querySelectorAll("#metrics input")) {
    choice.addEventListener("change", () => {
      state.metric = view.metrics.find((metric) => metric.name === choice.value);
      draw();
    });
    if (choice.checked) state.metric = view.metrics.find((metric) => metric.name === choice.value);
  }
  for (const id of ["logarithmic", "differences"]) find(`#${id}`).addEventListener("change", draw);
  if (still) {
    still.checked = matchMedia("(prefers-reduced-motion: reduce)").matches;
    still.addEventListener("change", stills);
    stills();
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
  new ResizeObserver(draw).observe(canvas);
  draw();
})();
