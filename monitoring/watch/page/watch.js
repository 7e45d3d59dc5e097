// The page: asks for what is new, keeps it, and draws what has changed.

const page = {
  session: "", number: 0, across: "time", smoothing: 0, log: false, now: 0,
  board: "", boards: [], rows: [], runs: new Map(), facts: new Map(), starts: new Map(), panels: [], stages: [], others: [],
  place(run) { return [...this.runs.keys()].indexOf(run); },
  nameOf(run) {
    const { name, place } = this.runs.get(run) || { name: "?", place: "" };
    return [...this.runs.values()].filter((other) => other.name === name).length > 1 ? place : name;
  },
  isLive(run) { return Boolean(this.runs.get(run)?.live); },
  start(run) { return this.starts.get(run) ?? 0; },
  stageColour(stage) {
    const training = [...this.runs.values()].some((run) => run.stages.some(({ name, trains }) => name === stage && trains));
    const names = training ? this.stages : this.others; // stages that train first, so that they differ most
    if (!names.includes(stage)) names.push(stage);
    const place = names.indexOf(stage);
    return colour(training ? place : COLOURS.length - 1 - (place % COLOURS.length));
  },
};
const byId = (id) => document.getElementById(id);

function build({ boards, panels }) {
  page.panels = panels.map((about, number) => new PanelView(number, about));
  page.boards = boards;
  page.starts.clear();
  page.facts.clear();
  choose(boards.some(({ uid }) => uid === page.board) ? page.board : boards[0]?.uid);
}

// One board at a time: its rows, with its panels in them.
function choose(uid) {
  page.board = uid;
  const board = page.boards.find((one) => one.uid === uid);
  page.rows = (board?.rows || []).map(({ row, panels }) => {
    const section = document.createElement("section"), grid = document.createElement("div");
    section.hidden = true;
    grid.className = "boards";
    grid.append(...panels.map((number) => page.panels[number].root));
    section.append(text("h2", row), grid);
    for (const number of panels) page.panels[number].dirty = true;
    return { section, panels };
  });
  byId("question").textContent = board?.question || "";
  byId("panels").replaceChildren(...page.rows.map(({ section }) => section));
}

const filled = ({ rows }) => rows.some(({ panels }) => panels.some((number) => !page.panels[number].empty));

function drawBoards() {
  const nav = byId("boards"), uids = page.boards.filter(filled).map(({ uid }) => uid);
  nav.hidden = uids.length < 2;
  if (nav.dataset.uids === `${uids} ${page.board}`) return;
  nav.dataset.uids = `${uids} ${page.board}`;
  const focused = nav.contains(document.activeElement) ? document.activeElement.dataset.uid : null;
  nav.replaceChildren(...page.boards.filter(filled).map(({ uid, name }) => {
    const button = text("button", name);
    button.type = "button";
    button.dataset.uid = uid;
    button.setAttribute("aria-pressed", String(uid === page.board));
    button.addEventListener("click", () => { choose(uid); redraw(); drawFacts(); });
    return button;
  }));
  if (focused) [...nav.children].find((button) => button.dataset.uid === focused)?.focus();
}

function take(news) {
  if (news.board && (news.whole || !page.panels.length)) build(news.board);
  Object.assign(page, { session: news.session, number: news.number, now: news.now });
  const before = [...page.runs.values()].map((run) => [run.number, run.live].join()).join(";");
  page.runs = new Map(news.runs.map((run) => [run.number, run]));
  for (const run of news.runs) if (run.facts) page.facts.set(run.number, run.facts);
  for (const number of [...page.facts.keys()]) if (!page.runs.has(number)) page.facts.delete(number);
  for (const line of news.lines) {
    page.panels[line.panel]?.take(line);
    for (const [at] of line.points.slice(0, 1)) {
      if (!(page.starts.get(line.run) <= at)) { page.starts.set(line.run, at); page.panels.forEach((panel) => { panel.dirty = true; }); }
    }
  }
  const after = [...page.runs.values()].map((run) => [run.number, run.live].join()).join(";");
  if (before !== after) page.panels.forEach((panel) => { panel.dirty = true; });
  drawRuns();
  if (news.runs.some((run) => run.facts) || before !== after) drawFacts();
  redraw();
}

function redraw() {
  drawBoards();
  for (const { section, panels } of page.rows) {
    let any = false;
    for (const number of panels) {
      const panel = page.panels[number];
      panel.root.hidden = panel.empty;
      any ||= !panel.empty;
    }
    section.hidden = !any;
    for (const number of panels) {
      const panel = page.panels[number];
      if (!panel.empty && panel.dirty) panel.draw(page);
    }
  }
  const here = page.rows.flatMap(({ panels }) => panels.map((number) => page.panels[number]));
  const absent = here.filter((panel) => panel.empty);
  byId("absent").hidden = !absent.length;
  byId("absent").querySelector("ul").replaceChildren(...absent.map(({ about }) => {
    const why = about.needs.length ? `needs ${about.needs.join(", ")}` : about.shows;
    return text("li", `${about.title}: ${why}`);
  }));
}

const MARKS = { done: "✓", "at work": "▸", stopped: "◼", waiting: "·" };

function bar(share) {
  const made = document.createElement("span");
  made.className = "bar";
  made.style.setProperty("--share", Math.min(Math.max(share, 0), 1));
  return made;
}

function drawRuns() {
  const open = new Set([...byId("runs").querySelectorAll("details[open]")].map((one) => one.dataset.run));
  const several = page.runs.size > 1;
  const cards = [...page.runs.values()].map((run) => {
    const card = document.createElement("article"), done = run.stages.filter((stage) => stage.state === "done").length;
    card.className = `run ${run.state.replaceAll(" ", "-")}`;
    const heading = text("h2", run.name);
    if (several) {
      const chip = document.createElement("i");
      chip.style.background = colour(page.place(run.number));
      heading.prepend(chip);
    }
    heading.append(text("span", run.state, "state"));
    card.append(heading, text("p", run.place, "place"));
    if (run.note) card.append(text("p", run.note, "note"));
    if (run.stages.length) {
      const current = run.stages.find((stage) => stage.state === "at work");
      const share = current?.planned ? current.done / current.planned : 0;
      const line = document.createElement("p");
      line.className = "progress";
      line.append(bar((done + share) / run.stages.length), text("span", `${done} of ${run.stages.length} stages`));
      if (current) line.append(text("b", current.name), text("span", said(current)));
      card.append(line, stageList(run, open));
    }
    return card;
  });
  if (!cards.length) cards.push(text("p", "No run yet. It appears here when one begins.", "note"));
  byId("runs").replaceChildren(...cards);
  document.title = `${[...page.runs.values()].map((run) => run.name).join(", ") || "Lehr"} · watch`;
}

function said(stage) {
  const parts = [];
  if (stage.planned) parts.push(`${stage.done.toLocaleString("en")} of ${stage.planned.toLocaleString("en")}`);
  if (stage.left !== null) parts.push(`${duration(Math.max(stage.left, 1), stage.left < 60 ? 0 : null)} left`);
  return parts.join(", ");
}

function stageList(run, open) {
  const details = document.createElement("details");
  details.dataset.run = String(run.number);
  details.open = open.has(details.dataset.run);
  details.append(text("summary", "All stages"));
  const rows = run.stages.map((stage) => [
    `${MARKS[stage.state] || "·"} ${stage.name}`, said(stage) || stage.state, stage.seconds ? duration(stage.seconds) : "",
    stage.tokens ? shown(stage.tokens, "short") : "", stage.joules === null ? "" : shown(stage.joules / 3.6e6, "kwatth"),
  ]);
  details.append(table(["stage", "state", "time", "tokens", "energy"], rows));
  return details;
}

// The board to which each belongs; the first one has them all.
const FACTS = { scores: "lehr-evaluation", samples: "lehr-evaluation", documents: "lehr-data" };

function drawFacts() {
  const scores = [], samples = [], documents = [];
  for (const [number, facts] of page.facts) {
    const whose = page.runs.size > 1 ? `${page.nameOf(number)}: ` : "";
    for (const { split, columns, rows } of facts.scores) {
      scores.push(text("h3", `${whose}${split}`));
      scores.push(table(["", ...columns.map(({ task, metric }) => `${task}, ${metric}`)], rows.map(({ stage, cells }) => [stage, ...cells])));
    }
    if (whose && facts.samples.length) samples.push(text("h3", page.nameOf(number)));
    samples.push(...facts.samples.map(conversation));
    if (facts.funnel.length) documents.push(...funnel(whose, facts.funnel));
  }
  for (const [id, parts] of [["scores", scores], ["samples", samples], ["documents", documents]]) {
    byId(id).hidden = !parts.length || !(page.board === page.boards[0]?.uid || page.board === FACTS[id]);
    byId(id).querySelector(".body").replaceChildren(...parts);
  }
}

function conversation({ prompt, expected, answers }) {
  const talk = document.createElement("div"), grid = document.createElement("div");
  talk.className = "talk";
  grid.className = "answers";
  for (const [model, answer] of Object.entries(answers)) {
    const one = document.createElement("div");
    one.className = "answer";
    one.append(text("h4", model), text("p", answer || "(nothing)"));
    grid.append(one);
  }
  talk.append(text("p", prompt, "prompt"), text("p", expected ? `expected: ${expected}` : "", "expected"), grid);
  return talk;
}

function funnel(whose, sources) {
  const rows = sources.map(({ source, read, kept, dropped }) => {
    const reasons = Object.entries(dropped).sort((a, b) => b[1] - a[1]).slice(0, 4).map(([why, count]) => `${count} ${why}`);
    return [source, read.toLocaleString("en"), kept.toLocaleString("en"), read ? shown(kept / read, "percentunit") : "", reasons.join(", ")];
  });
  return [...(whose ? [text("h3", whose.replace(/: $/, ""))] : []), table(["source", "read", "kept", "share", "dropped, most first"], rows)];
}

function listen() {
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").addEventListener("input", (event) => {
    const form = event.currentTarget;
    Object.assign(page, { across: form.across.value, smoothing: Number(form.smoothing.value), log: form.log.checked });
    page.panels.forEach((panel) => { panel.dirty = true; });
    redraw();
  });
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    page.panels.forEach((panel) => { panel.dirty = true; });
    redraw();
  }).observe(document.body);
}

async function follow() {
  let wait = 2;
  try {
    const answer = await fetch(`/news?since=${page.number}&session=${page.session}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const news = await answer.json();
    wait = news.interval;
    take(news);
    byId("link").textContent = `as of ${new Date(news.now * 1000).toLocaleTimeString("en-GB")}, every ${wait} s`;
    document.body.classList.remove("lost");
  } catch (error) {
    const since = page.now ? new Date(page.now * 1000).toLocaleTimeString("en-GB") : "never";
    byId("link").textContent = `lehr watch does not answer; what is shown was true at ${since}`;
    document.body.classList.add("lost");
    if (!(error instanceof TypeError)) throw error; // a fault of this page's: it belongs on the console
  } finally {
    setTimeout(follow, wait * 1000);
  }
}

listen();
if (byId("news")) {
  const news = JSON.parse(byId("news").textContent);
  take(news);
  byId("link").textContent = `as it was at ${new Date(news.now * 1000).toLocaleString("en-GB")}`;
} else {
  follow();
}
