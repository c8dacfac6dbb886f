// The page of `nanochat watch --serve`. Whatever comes from outside becomes text nodes and attributes, never markup.
"use strict";

const EVERY = 2000;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
// The part of the address behind the # is never sent to a server.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
let experiment = null;
let chosen = null;
// Draws what is known of the curves for the width that there is now.
let draw = () => {};

async function get(path, query) {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const answer = await fetch(path + (query ? "?" + new URLSearchParams(query) : ""), { headers, cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status === 401 ? "the token is missing or wrong" : "status " + answer.status);
  return answer;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const figure = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 120) return Math.round(seconds) + " s";
  if (seconds < 7200) return Math.round(seconds / 60) + " min";
  return seconds < 172800 ? (seconds / 3600).toFixed(1) + " h" : (seconds / 86400).toFixed(1) + " days";
}

const colour = (place) => `hsl(${Math.round((place * 360 * 0.618) % 360)} 65% 50%)`;

function showExperiments(list) {
  const select = byId("experiments");
  const names = list.map((one) => one.name);
  if (!names.includes(experiment)) {
    const open = list.find((one) => one.open) || list[0];
    experiment = open ? open.name : null;
  }
  if (select.dataset.names !== JSON.stringify(names)) {
    select.dataset.names = JSON.stringify(names);
    select.replaceChildren(...names.map((name) => { const option = element("option", name); option.value = name; return option; }));
  }
  if (experiment !== null) select.value = experiment;
}

function showRuns(live) {
  byId("description").textContent = live.description;
  byId("counts").textContent = live.counts + (live.seconds_left ? `; about ${time(live.seconds_left)} left` : "");
  const rows = live.runs.concat(live.timing || []).map((run, place) => {
    const row = document.createElement("tr");
    const name = element("td");
    const swatch = element("span", "", "swatch");
    swatch.style.background = colour(place);
    if (run === live.timing) {
      name.textContent = run.run_id;
    } else {
      const button = element("button", run.run_id);
      button.type = "button";
      button.addEventListener("click", () => { chosen = run.run_id; refresh(); });
      name.append(swatch, button);
    }
    const where = [run.host, run.job && "job " + run.job].filter(Boolean).join(", ");
    const state = element("td", run.state);
    if (run.reason) state.title = run.reason;
    const steps = run.steps === null ? "–" : `${run.step}/${run.steps}`;
    const memory = run.memory_bytes === null ? "–" : (run.memory_bytes / 2 ** 30).toFixed(2) + " GiB";
    const sign = run.silent_seconds === null ? "–" : time(run.silent_seconds) + " ago";
    const cells = [steps, figure(run.loss, 4), figure(run.val_bpb, 4), whole(run.tokens_per_second), memory, time(run.seconds_left), sign];
    row.append(name, state, element("td", where || "–"), ...cells.map((text) => element("td", text, "n")));
    // On a narrow screen each cell says what it is, and one without a value is left out.
    [...row.cells].forEach((cell, column) => {
      cell.dataset.name = byId("columns").cells[column].textContent;
      if (cell.textContent === "–") cell.classList.add("none");
    });
    return row;
  });
  byId("runs").replaceChildren(...rows);
  if (!live.runs.some((run) => run.run_id === chosen)) {
    const running = live.runs.find((run) => ["training", "evaluating", "preparing"].includes(run.state));
    const first = running || live.runs[0];
    chosen = first ? first.run_id : null;
  }
  const verdicts = (live.scorecard || []).flatMap((one) => [element("dt", one.name), element("dd", one.verdict), element("dd", one.reason, "why")]);
  byId("scorecard").replaceChildren(...(verdicts.length ? verdicts : [element("dd", "nothing is judged yet")]));
}

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Draws curves of [step, value] over each other. */
function chart(svg, curves, names) {
  const width = svg.clientWidth || 600, height = svg.clientHeight || 240;
  const [left, right, top, bottom] = [52, 10, 8, 22];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = curves.flatMap((curve) => curve.points);
  if (points.length === 0) {
    svg.replaceChildren(drawn("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing yet"));
    return;
  }
  const most = Math.max(1, ...points.map((point) => point[0]));
  let low = Math.min(...points.map((point) => point[1])), high = Math.max(...points.map((point) => point[1]));
  if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
  const x = (step) => left + (step / most) * (width - left - right);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const parts = [];
  for (let tick = 0; tick <= 4; tick++) {
    const value = low + ((high - low) * tick) / 4;
    parts.push(drawn("line", { x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    parts.push(drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toPrecision(4)));
  }
  for (const tick of [0, 0.5, 1]) {
    const anchor = tick === 1 ? "end" : "middle";
    parts.push(drawn("text", { x: x(most * tick), y: height - 6, "text-anchor": anchor }, whole(most * tick)));
  }
  for (const curve of curves) {
    const path = curve.points.map((point, place) => (place ? "L" : "M") + x(point[0]).toFixed(1) + " " + y(point[1]).toFixed(1)).join("");
    const line = drawn("path", { d: path, stroke: colour(names.indexOf(curve.run_id)), "data-points": curve.points.length });
    if (curve.run_id === chosen) line.setAttribute("class", "chosen");
    line.append(drawn("title", {}, curve.run_id));
    parts.push(line);
  }
  svg.replaceChildren(...parts);
}

async function refresh() {
  try {
    showExperiments(await (await get("/api/experiments")).json());
    if (experiment === null) {
      byId("counts").textContent = "no experiment has results yet";
    } else {
      const asked = experiment;
      const live = await (await get("/api/experiment", { name: asked })).json();
      if (asked !== experiment) return;
      showRuns(live);
      const curves = await (await get("/api/curves", { name: asked })).json();
      if (asked !== experiment) return;
      const names = live.runs.map((run) => run.run_id);
      draw = () => {
        for (const [id, key] of [["loss", "loss"], ["bpb", "val_bpb"]]) {
          chart(byId(id), curves.filter((one) => one[key].length).map((one) => ({ run_id: one.run_id, points: one[key] })), names);
        }
      };
      draw();
      await showLog();
    }
    byId("connection").textContent = "live";
  } catch (problem) {
    byId("connection").textContent = "no connection, trying again: " + problem.message;
  }
}

async function showLog() {
  if (chosen === null) return;
  const log = byId("log");
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const text = await (await get("/api/log", { name: experiment, run: chosen })).text();
  byId("logname").textContent = chosen;
  log.textContent = text || "nothing is written yet";
  if (follows) log.scrollTop = log.scrollHeight;
}

byId("experiments").addEventListener("change", (event) => { experiment = event.target.value; chosen = null; refresh(); });

addEventListener("resize", () => draw());

async function follow() {
  await refresh();
  setTimeout(follow, document.hidden ? 5 * EVERY : EVERY);
}
follow();
