// One chart: scales, ticks, curves, and the values under the pointer or the arrow keys. Texts go in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 214, LEFT = 58, RIGHT = 10, TOP = 10, BOTTOM = 26;

function node(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function scale(low, high, start, end, log) {
  const of = log ? Math.log10 : (value) => value;
  const [a, b] = [of(low), of(high)];
  const map = (value) => start + (b === a ? 0.5 : (of(value) - a) / (b - a)) * (end - start);
  map.back = (place) => {
    const value = a + ((place - start) / (end - start)) * (b - a);
    return log ? 10 ** value : value;
  };
  return map;
}

// Round values in [low, high], about `wanted` of them.
function ticks(low, high, wanted, log, binary = false) {
  if (log && high / low >= 10) {
    const found = [];
    const steps = high / low < 1e4 ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const step of steps) if (step * 10 ** power >= low && step * 10 ** power <= high) found.push(step * 10 ** power);
    }
    const every = Math.ceil(found.length / (wanted + 2));
    return found.filter((_, i) => i % every === 0);
  }
  const raw = (high - low) / wanted;
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = binary ? 2 ** Math.ceil(Math.log2(raw)) : [1, 2, 2.5, 5, 10].find((m) => m * size >= raw * 0.999) * size;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

// Ticks of a time axis fall on whole minutes and hours.
function timeTicks(low, high, wanted) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
  const step = steps.find((s) => (high - low) / s <= wanted);
  if (!step || high - low < 2) return ticks(low, high, wanted, false);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
  return found;
}

function clock(seconds) {
  const whole = Math.max(Math.round(seconds), 0), two = (n) => String(n).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// An exponential mean, without the pull towards its first value.
function smoothed(values, weight) {
  let mean = 0, total = 0;
  return values.map((value) => {
    mean = mean * weight + value * (1 - weight);
    total = total * weight + (1 - weight);
    return mean / total;
  });
}

// Where a curve is interrupted: a pause that is long beside the usual distance of its points.
function gaps(xs) {
  if (xs.length < 3) return Infinity;
  const distances = xs.slice(1).map((x, i) => x - xs[i]).sort((a, b) => a - b);
  return 12 * distances[Math.floor(distances.length / 2)];
}

function pathOf(points, x, y, limit) {
  let d = "", last = null;
  for (const [at, value] of points) {
    d += (last === null || at - last > limit || at < last ? "M" : "L") + x(at).toFixed(1) + " " + y(value).toFixed(1);
    last = at;
  }
  return d;
}

function nearest(points, at) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < at) low = middle; else high = middle;
  }
  if (!points.length) return null;
  return Math.abs(points[low][0] - at) <= Math.abs(points[high][0] - at) ? points[low] : points[high];
}

class Chart {
  // `host` is where it is drawn; `look` how: {unit, decimals, axis, top, stacked, thresholds}.
  constructor(host, title, look) {
    this.look = look;
    this.svg = node("svg", { class: "chart", tabindex: "0", role: "img", "aria-label": `${title}; arrow keys show values` });
    this.said = document.createElement("output");
    this.said.className = "said";
    this.said.hidden = true;
    host.append(this.svg, this.said);
    this.at = null;
    this.curves = [];
    this.svg.addEventListener("pointermove", (event) => this.point(event.clientX - this.svg.getBoundingClientRect().left));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("blur", () => this.leave());
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  // curves: [{name, colour, dash, points: [[x, value, low, high], …]}], x ascending. across: "time" or "step".
  draw(curves, { across, log, smoothing }) {
    this.curves = this.look.stacked ? stacked(curves) : curves;
    this.across = across;
    const width = Math.max(this.svg.clientWidth || this.svg.parentNode.clientWidth, 160);
    this.width = width;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    const range = this.range(log);
    if (!range) { this.svg.replaceChildren(); return; }
    this.x = scale(range.first, range.last, LEFT, width - RIGHT, false);
    this.y = scale(range.low, range.high, HEIGHT - BOTTOM, TOP, range.log);
    const parts = [...this.axes(range, width), ...this.limits(range, width)];
    for (const curve of this.curves) parts.push(...this.curve(curve, smoothing, range));
    this.cursor = node("g");
    this.svg.replaceChildren(...parts, this.cursor);
    if (this.at !== null) this.show(this.at);
  }

  range(log) {
    let first = Infinity, last = -Infinity, low = Infinity, high = -Infinity, least = Infinity;
    for (const { points } of this.curves) {
      for (const [x, , from, to] of points) {
        first = Math.min(first, x); last = Math.max(last, x);
        low = Math.min(low, from); high = Math.max(high, to);
        if (from > 0) least = Math.min(least, from);
      }
    }
    if (first > last) return null;
    if (first === last) { first -= 0.5; last += 0.5; }
    if (log && low > 0) return { first, last, low: least / 1.08, high: high * 1.08, log: true };
    if (this.look.axis === "zero" || this.look.stacked) low = Math.min(low, 0);
    if (this.look.top !== null) high = Math.max(high, this.look.top);
    const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || (this.look.unit === "percentunit" ? 0.01 : 1);
    if (low !== 0) low -= pad;
    if (high !== this.look.top) high += pad;
    return { first, last, low, high, log: false };
  }

  axes({ first, last, low, high, log }, width) {
    const parts = [];
    for (const tick of ticks(low, high, 4, log, this.look.unit === "bytes")) {
      const y = this.y(tick).toFixed(1);
      parts.push(node("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
      const label = onAxis(Math.abs(tick) < (high - low) * 1e-9 ? 0 : tick, this.look.unit === "kwatth" ? "" : this.look.unit);
      parts.push(node("text", { class: "tick", x: LEFT - 6, y: +y + 3.5, "text-anchor": "end" }, label));
    }
    const bottom = HEIGHT - BOTTOM;
    parts.push(node("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: bottom, y2: bottom }));
    const wanted = Math.max(2, Math.floor(width / 95));
    for (const tick of this.across === "time" ? timeTicks(first, last, wanted) : ticks(first, last, wanted, false)) {
      const x = this.x(tick).toFixed(1);
      const label = this.across === "time" ? clock(tick) : shown(tick, "short");
      parts.push(node("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
      parts.push(node("text", { class: "tick", x, y: bottom + 17, "text-anchor": "middle" }, label));
    }
    return parts;
  }

  // Thresholds that lie in view.
  limits({ low, high }, width) {
    return this.look.thresholds.filter(([at]) => at > low && at < high).map(([at, level]) => {
      const y = this.y(at).toFixed(1);
      return node("line", { class: `limit ${level}`, x1: LEFT, x2: width - RIGHT, y1: y, y2: y });
    });
  }

  curve({ points, colour, dash, below }, smoothing, { log }) {
    const parts = [], limit = gaps(points.map((point) => point[0]));
    const kept = log ? points.filter((point) => point[1] > 0) : points;
    if (below) {
      const down = [...below].reverse().map(([x, y]) => `L${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join("");
      parts.push(node("path", { class: "area", d: pathOf(points, this.x, this.y, Infinity) + down + "Z" }));
      parts[0].style.fill = colour;
    } else if (!smoothing && points.some((point) => point[2] !== point[3])) {
      const up = kept.map(([x, , , high]) => [x, high]);
      const down = [...kept].reverse().map(([x, , from]) => `L${this.x(x).toFixed(1)} ${this.y(log ? Math.max(from, 1e-30) : from).toFixed(1)}`);
      parts.push(node("path", { class: "band", d: pathOf(up, this.x, this.y, Infinity) + down.join("") + "Z" }));
      parts[0].style.fill = colour;
    }
    const line = (drawn, css) => {
      const made = node("path", { class: css, d: pathOf(drawn, this.x, this.y, limit) });
      made.style.stroke = colour;
      if (dash) made.style.strokeDasharray = dash;
      return made;
    };
    if (smoothing && kept.length > 2 && !below) {
      const means = smoothed(kept.map((point) => point[1]), smoothing);
      parts.push(line(kept, "line raw"), line(kept.map((point, i) => [point[0], means[i]]), "line"));
    } else {
      parts.push(line(kept, "line"));
    }
    if (kept.length <= 2) {
      for (const [x, y] of kept) {
        const dot = node("circle", { cx: this.x(x).toFixed(1), cy: this.y(y).toFixed(1), r: 2.6 });
        dot.style.fill = colour;
        parts.push(dot);
      }
    }
    return parts;
  }

  point(place) {
    if (this.x && this.curves.length) this.show(this.x.back(Math.min(Math.max(place, LEFT), this.width - RIGHT)));
  }

  key(event) {
    if (event.key === "Escape") { this.leave(); return; }
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (!step || !this.curves.length) return;
    event.preventDefault();
    const xs = [...new Set(this.curves.flatMap(({ points }) => points.map((point) => point[0])))].sort((a, b) => a - b);
    let place = this.at === null ? xs.length - 1 : xs.findIndex((x) => x >= this.at);
    if (place < 0) place = xs.length - 1;
    if (this.at !== null) place = Math.min(Math.max(place + step, 0), xs.length - 1);
    this.show(xs[place]);
  }

  leave() {
    this.at = null;
    this.said.hidden = true;
    if (this.cursor) this.cursor.replaceChildren();
  }

  // The values of all curves that have one near there.
  show(at) {
    this.at = at;
    const near = this.x.back(LEFT + 12) - this.x.back(LEFT), rows = [];
    const place = this.x(at).toFixed(1);
    const marks = [node("line", { class: "guide", x1: place, x2: place, y1: TOP, y2: HEIGHT - BOTTOM })];
    for (const { name, colour, points, own } of this.curves) {
      const point = nearest(points, at);
      if (!point || Math.abs(point[0] - at) > near) continue;
      const dot = node("circle", { cx: this.x(point[0]).toFixed(1), cy: this.y(Math.max(point[1], this.y.back(HEIGHT - BOTTOM))).toFixed(1), r: 3 });
      dot.style.fill = colour;
      marks.push(dot);
      rows.push([name, colour, own ? own.get(point[0]) : point[1]]);
    }
    this.cursor.replaceChildren(...marks);
    this.said.replaceChildren(text("b", this.across === "time" ? clock(at) : `step ${Math.round(at)}`));
    for (const [name, colour, value] of rows.slice(0, 14)) {
      const chip = document.createElement("i");
      chip.style.background = colour;
      const row = document.createElement("span");
      row.append(chip, `${name} `, text("b", shown(value, this.look.unit, this.look.decimals)));
      this.said.append(row);
    }
    if (rows.length > 14) this.said.append(text("span", `and ${rows.length - 14} more`));
    this.said.hidden = false;
    this.said.classList.toggle("left", this.x(at) > this.width / 2);
  }
}

// Curves on top of one another; `own` keeps what each adds, `below` where it begins.
function stacked(curves) {
  const groups = new Map();
  return curves.map((curve) => {
    const sums = groups.get(curve.group) || new Map();
    const own = new Map(curve.points.map(([x, value]) => [x, value]));
    const below = curve.points.map(([x]) => [x, sums.get(x) || 0]);
    const points = curve.points.map(([x, value]) => {
      const top = (sums.get(x) || 0) + value;
      return [x, top, top, top];
    });
    groups.set(curve.group, new Map([...sums, ...points.map(([x, top]) => [x, top])]));
    return { ...curve, points, below, own };
  });
}

function text(name, content, css = "") {
  const made = document.createElement(name);
  made.textContent = content;
  if (css) made.className = css;
  return made;
}
