"use strict";
// Numbers as people read them. Units are those of the panels (monitoring/panels/panel.py), as Grafana names them.

const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function digits(value, decimals, significant = 3) {
  if (decimals !== null && decimals !== undefined) return value.toFixed(decimals);
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  if (size < -4 || size >= 7) return value.toExponential(significant - 1).replace(/\.?0*e/, "e").replace("e+", "e");
  return value.toFixed(Math.max(significant - 1 - size, 0));
}

function scaled(value, decimals) {
  const found = PREFIXES.find(([size]) => Math.abs(value) >= size * 0.9995);
  return found ? digits(value / found[0], decimals) + " " + found[1] : digits(value, decimals) + " ";
}

function bytes(value, decimals) {
  const names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let place = 0;
  while (Math.abs(value) >= 1024 && place < names.length - 1) { value /= 1024; place += 1; }
  return digits(value, decimals) + " " + names[place];
}

function duration(seconds, decimals) {
  if (!Number.isFinite(seconds)) return "–";
  if (Math.abs(seconds) < 1) return digits(seconds * 1000, decimals) + " ms";
  if (seconds < 60) return digits(seconds, decimals) + " s";
  const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

// A value with its unit.
function shown(value, unit, decimals = null) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (unit === "percentunit") return digits(100 * value, decimals) + " %";
  if (unit === "s") return duration(value, decimals);
  if (unit === "bytes") return bytes(value, decimals);
  if (unit === "Bps") return bytes(value, decimals) + "/s";
  if (unit === "joule") return scaled(value, decimals) + "J";
  if (unit === "watt") return scaled(value, decimals) + "W";
  if (unit === "kwatth") return scaled(value * 1000, decimals) + "Wh";
  if (unit === "flops") return scaled(value, decimals) + "FLOP/s";
  if (unit === "celsius") return digits(value, decimals) + " °C";
  if (unit === "short") return scaled(value, decimals).trim();
  if (unit === "") return digits(value, decimals, 4);
  return scaled(value, decimals).trim() + " " + unit;
}

// Ticks are round numbers: zeros at the end would only take the room of those before.
function bare(text) {
  return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}

// Beside an axis: without the words that the panel's title has.
function onAxis(value, unit) {
  if (unit === "s" && Math.abs(value) >= 60) return Math.abs(value) >= 172800 ? `${digits(value / 86400)} d` : clock(value);
  if (unit === "") return bare(digits(value, null, 4));
  if (["percentunit", "s", "bytes", "celsius"].includes(unit)) return shown(value, unit);
  return scaled(value, null).trim();
}

const WORDS = { "": "", short: "", percentunit: "", s: "", bytes: "", Bps: "B/s", joule: "J", watt: "W", kwatth: "kWh", flops: "FLOP/s", celsius: "" };
const unitWord = (unit) => WORDS[unit] ?? unit;
