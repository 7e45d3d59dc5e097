// Panels of each kind, from the lines that they have. What a panel is comes from monitoring/panels, as for Grafana.

const COLOURS = ["trunk-1", "branch-1", "merge-1", "trunk-2", "post-1", "trunk-3", "post-4", "branch-2", "post-2", "post-5", "branch-3", "merge-2", "post-8", "branch-4", "post-3", "post-7"];
const DASHES = ["", "6 4", "2 3", "9 3 2 3"];
const RECENT = 60; // seconds before a panel's last value, within which another line's last value is of the same time

const colour = (place) => `var(--c-${COLOURS[place % COLOURS.length]})`;

class PanelView {
  constructor(number, about) {
    Object.assign(this, { number, about, lines: new Map(), hidden: new Set(), dirty: true });
    this.log = about.axis === "log";
    this.root = document.createElement("article");
    this.root.className = `panel ${about.kind}`;
    this.root.style.setProperty("--span", about.width);
    const heading = text("h3", about.title);
    if (about.kind === "lines" && unitWord(about.unit)) heading.append(text("small", `, ${unitWord(about.unit)}`));
    this.root.append(heading, this.explained());
    this.body = document.createElement("div");
    this.body.className = "drawing";
    this.root.append(this.body);
    if (about.kind === "lines") {
      this.toggle = text("button", "log", "log");
      this.toggle.type = "button";
      this.toggle.title = "Logarithmic axis";
      this.toggle.addEventListener("click", () => { this.log = !this.log; this.dirty = true; redraw(); });
      if (!about.stacked) heading.after(this.toggle);
      this.chart = new Chart(this.body, about.title, about);
      this.legend = document.createElement("div");
      this.legend.className = "legend";
      this.root.append(this.legend);
    }
  }

  // What it shows, what is healthy, what to do; and the query, for whoever wants it in Prometheus.
  explained() {
    const details = document.createElement("details");
    details.className = "about";
    const summary = text("summary", "?");
    summary.setAttribute("aria-label", `About ${this.about.title}`);
    const { shows, healthy, remedy, queries } = this.about;
    details.append(summary, text("p", shows), text("p", `Healthy: ${healthy}`), text("p", `If not: ${remedy}`));
    details.append(...queries.map((query) => text("code", query)));
    return details;
  }

  take(line) {
    const key = JSON.stringify([line.run, line.series, Object.entries(line.labels).sort()]);
    const known = this.lines.get(key);
    if (line.anew && !line.points.length) this.lines.delete(key);
    else if (line.anew || !known) this.lines.set(key, { ...line, key });
    else known.points.push(...line.points);
    this.dirty = true;
  }

  get empty() { return !this.lines.size; }

  // Lines of the time at which the panel was last told something, for kinds that show one value each.
  latest() {
    const ends = new Map();
    for (const { run, points } of this.lines.values()) ends.set(run, Math.max(ends.get(run) || 0, points.at(-1)[0]));
    return [...this.lines.values()].filter(({ run, points }) => points.at(-1)[0] >= ends.get(run) - RECENT);
  }

  draw(page) {
    this.dirty = false;
    if (this.about.kind === "lines") this.drawLines(page);
    else if (this.about.kind === "bars") this.drawBars(page);
    else if (this.about.kind === "table") this.drawTable(page);
    else if (this.about.kind === "states") this.drawStates(page);
    else this.drawValues(page);
  }

  // Colour says what tells lines apart best: a part of the whole, or the run, or the stage. Dashes say the rest.
  styled(line, page, others, names) {
    const own = Object.entries(line.labels).filter(([name]) => name !== "run" && name !== "stage").map(([, value]) => value);
    const several = page.runs.size > 1, run = page.place(line.run);
    if (own.length) {
      const name = own.join(", ");
      if (!others.has(name)) others.set(name, others.size);
      const label = several ? `${page.nameOf(line.run)}: ${name}` : name;
      return { colour: colour(others.get(name) + 3 * line.series), dash: DASHES[run % DASHES.length], label };
    }
    if (several) {
      const label = line.series ? `${page.nameOf(line.run)}: ${this.suffix(line)}` : page.nameOf(line.run);
      return { colour: colour(run), dash: DASHES[line.series % DASHES.length], label };
    }
    if (!("stage" in line.labels)) return { colour: colour(line.series), dash: "", label: line.name || names };
    return { colour: page.stageColour(line.labels.stage), dash: DASHES[line.series % DASHES.length], label: line.name };
  }

  suffix(line) { return line.name.replace(line.labels.stage || "", "").replace(/^[\s:]+/, "") || line.name; }

  drawLines(page) {
    const others = new Map(), legend = new Map(), curves = [];
    const inSteps = page.across === "step" && [...this.lines.values()].every((line) => line.points.every((p) => p[1] !== null));
    for (const line of this.lines.values()) {
      const style = this.styled(line, page, others, this.about.title);
      const entry = `${style.colour} ${style.dash} ${style.label}`;
      legend.set(entry, style);
      if (this.hidden.has(entry)) continue;
      const start = page.start(line.run);
      const points = line.points.map(([at, step, value, low, high]) => [inSteps ? step : at - start, value, low ?? value, high ?? value]);
      const name = page.runs.size > 1 ? `${page.nameOf(line.run)}: ${line.name}` : line.name;
      curves.push({ name, ...style, points, group: `${line.run} ${line.labels.stage}` });
    }
    this.chart.look = { ...this.about, stacked: this.about.stacked && page.runs.size === 1 };
    const log = this.log || page.log;
    this.toggle.setAttribute("aria-pressed", String(log));
    this.chart.draw(curves, { across: inSteps ? "step" : "time", log, smoothing: page.smoothing });
    this.drawLegend(legend);
  }

  drawLegend(legend) {
    const focused = document.activeElement?.dataset?.entry;
    this.legend.replaceChildren(...[...legend].map(([entry, { colour: own, dash, label }]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.entry = entry;
      button.setAttribute("aria-pressed", String(!this.hidden.has(entry)));
      const chip = document.createElement("i");
      chip.className = dash ? "dashed" : "";
      chip.style.color = own;
      button.append(chip, label);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(entry)) this.hidden.add(entry);
        this.dirty = true;
        redraw();
      });
      return button;
    }));
    if (focused) [...this.legend.children].find((child) => child.dataset.entry === focused)?.focus();
  }

  level(value) {
    let found = this.about.base;
    for (const [at, level] of this.about.thresholds) if (value >= at) found = level;
    return found;
  }

  drawValues(page) {
    const rows = this.latest().map((line) => {
      const value = line.points.at(-1)[2], state = this.about.states[String(value)];
      const level = state ? state[1] : this.level(value), old = !page.isLive(line.run);
      const row = document.createElement("div");
      row.className = `value ${level}${old ? " old" : ""}`;
      const name = page.runs.size > 1 ? `${page.nameOf(line.run)} · ${line.name}` : line.name;
      const [figure, unit] = state ? [state[0], ""] : apart(shown(value, this.about.unit, this.about.decimals), this.about.unit);
      row.append(text("b", figure), text("span", unit, "unit"));
      if (level === "watch" || level === "bad") row.append(text("em", level === "bad" ? "▲ look at it" : "△ watch it"));
      row.append(text("small", old ? `${name}, at the end` : name));
      return row;
    });
    this.body.replaceChildren(...rows);
  }

  drawBars(page) {
    const lines = this.latest(), most = Math.max(...lines.map((line) => line.points.at(-1)[2]), this.about.top ?? 0);
    const rows = lines.map((line) => {
      const value = line.points.at(-1)[2], row = document.createElement("div"), bar = document.createElement("span");
      row.className = `bar-row ${this.level(value)}`;
      bar.className = "bar";
      bar.style.setProperty("--share", most > 0 ? Math.max(value, 0) / most : 0);
      const name = page.runs.size > 1 ? `${page.nameOf(line.run)} · ${line.name}` : line.name;
      row.append(text("span", name, "name"), bar, text("b", shown(value, this.about.unit, this.about.decimals)));
      return row;
    });
    this.body.replaceChildren(...rows);
  }

  // Over time, in words: a strip for each line, a part for each state.
  drawStates(page) {
    const lines = [...this.lines.values()];
    const first = Math.min(...lines.map(({ points }) => points[0][0])), last = Math.max(...lines.map(({ points }) => points.at(-1)[0]));
    const rows = lines.map((line) => {
      const row = document.createElement("div"), strip = document.createElement("span"), parts = [];
      for (const [at, , value] of line.points) {
        if (!parts.length || parts.at(-1).value !== value) parts.push({ value, from: at, to: at });
        parts.at(-1).to = at;
        if (parts.length > 1) parts.at(-2).to = parts.at(-1).from;
      }
      strip.className = "strip";
      for (const { value, from, to } of parts) {
        const [word, level] = this.about.states[String(value)] || [String(value), "plain"], part = text("i", "", level);
        part.title = word;
        part.style.left = `${(100 * (from - first)) / Math.max(last - first, 1)}%`;
        part.style.width = `${(100 * (to - from)) / Math.max(last - first, 1)}%`;
        strip.append(part);
      }
      const name = page.runs.size > 1 ? `${page.nameOf(line.run)} · ${line.name}` : line.name;
      const [word] = this.about.states[String(line.points.at(-1)[2])] || [""];
      row.className = "bar-row";
      row.append(text("span", name, "name"), strip, text("small", word));
      return row;
    });
    this.body.replaceChildren(...rows);
  }

  drawTable(page) {
    const rows = new Map();
    for (const line of this.latest()) {
      const key = JSON.stringify([line.run, line.labels]);
      if (!rows.has(key)) rows.set(key, { line, cells: new Map() });
      rows.get(key).cells.set(line.series, line);
    }
    const names = this.about.columns;
    const body = [...rows.values()].map(({ line, cells }) => {
      const own = Object.entries(line.labels).filter(([name]) => name !== "run").map(([, value]) => value).join(" · ");
      const heading = page.runs.size > 1 ? `${page.nameOf(line.run)} · ${own}` : own;
      return [heading, ...names.map((_, i) => (cells.has(i) ? shown(cells.get(i).points.at(-1)[2], this.about.units[i], this.about.decimals) : ""))];
    });
    this.body.replaceChildren(table(["", ...names.map((name, i) => name || `${i + 1}`)], body));
  }
}

function table(headings, rows) {
  const made = document.createElement("table"), head = made.createTHead().insertRow(), body = made.createTBody();
  for (const heading of headings) head.append(text("th", heading));
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((cell, place) => line.append(text(place ? "td" : "th", cell)));
  }
  const around = document.createElement("div");
  around.className = "scroll";
  around.tabIndex = 0;
  around.append(made);
  return around;
}

// A figure and its unit, where that is a word.
function apart(whole, unit) {
  return unit && whole.endsWith(` ${unit}`) ? [whole.slice(0, -unit.length - 1), unit] : [whole, ""];
}
