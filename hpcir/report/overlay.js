"use strict";
// Reads a file to compare with: two columns, or JCAMP-DX (McDonald and Wilks 1988). `readSpectrum(text)` gives {x, y}.
const readSpectrum = (() => {
  const highest = (values) => values.reduce((most, value) => (value !== null && value > most ? value : most), 0);

  function readColumns(text) {
    const x = [], y = [];
    for (const line of text.split(/\r?\n/)) {
      const fields = line.trim().split(/[\s,;]+/).map(Number);
      if (fields.length >= 2 && Number.isFinite(fields[0]) && Number.isFinite(fields[1]) && line.trim() !== "") {
        x.push(fields[0]); y.push(fields[1]);
      }
    }
    return { x, y };
  }

  // JCAMP-DX (McDonald and Wilks 1988): labelled records; (X++(Y..Y)) with plain numbers, or (XY..XY) pairs.
  function readJcamp(text) {
    const label = {};
    let body = null, kind = "";
    for (const raw of text.split(/\r?\n/)) {
      const line = raw.split("$$")[0];
      const record = line.match(/^\s*##\s*([^=]*)=\s*(.*)$/);
      if (record) {
        const name = record[1].toUpperCase().replace(/[\s_/-]/g, "");
        if (body && body.length) break;
        if (name === "XYDATA" || name === "XYPOINTS" || name === "PEAKTABLE") { kind = record[2]; body = []; }
        else label[name] = record[2].trim();
      } else if (body) body.push(line);
    }
    if (!body) throw new Error("there is no ##XYDATA= in the file");
    const number = (name, other) => (Number.isFinite(parseFloat(label[name])) ? parseFloat(label[name]) : other);
    const xf = number("XFACTOR", 1), yf = number("YFACTOR", 1);
    return toAbsorption(kind.includes("++") ? ordinates(body, label, number, xf, yf) : pairs(body, xf, yf), label);
  }

  function ordinates(body, label, number, xf, yf) {
    const y = [];
    for (const line of body) {
      if (!line.trim()) continue;
      if (/[A-IJ-Ra-ij-rS-Zs@%]/.test(line.replace(/[eE][+-]?\d+/g, ""))) throw new Error("compressed (ASDF) JCAMP-DX is not read here; use hpcir compare");
      const values = (line.match(/[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/g) || []).map(Number);
      values.slice(1).forEach((value) => y.push(value * yf));
    }
    const first = number("FIRSTX", 0), last = number("LASTX", first + (y.length - 1) * number("DELTAX", xf));
    const step = y.length > 1 ? (last - first) / (y.length - 1) : 0;
    return { x: y.map((_, i) => first + i * step), y };
  }

  function pairs(body, xf, yf) {
    const values = (body.join(" ").match(/[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/g) || []).map(Number);
    const x = [], y = [];
    for (let i = 0; i + 1 < values.length; i += 2) { x.push(values[i] * xf); y.push(values[i + 1] * yf); }
    return { x, y };
  }

  function toAbsorption(series, label) {
    const xUnits = (label.XUNITS || "").toUpperCase(), yUnits = (label.YUNITS || "").toUpperCase();
    if (xUnits.includes("MICRO")) series.x = series.x.map((value) => 1e4 / value);
    if (yUnits.includes("TRANSMIT")) {
      const percent = highest(series.y) > 2 ? 100 : 1;
      series.y = series.y.map((value) => -Math.log10(Math.max(value / percent, 1e-4)));
    }
    return series;
  }

  return (text) => {
    const series = /^\s*##/.test(text) ? readJcamp(text) : readColumns(text);
    if (series.x.length < 2) throw new Error("it has no two columns of numbers");
    const order = series.x.map((_, i) => i).sort((a, b) => series.x[a] - series.x[b]);
    return { x: order.map((i) => series.x[i]), y: order.map((i) => series.y[i]) };
  };
})();
