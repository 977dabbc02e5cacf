"use strict";
// Draws the plots from the JSON in #data. Every name in it is text: `plain` keeps Plotly from reading markup in it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const plots = [];          // functions that draw again, after a change of theme
  let overlay = null;        // {name, x, y}

  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
  const phone = () => window.matchMedia("(max-width: 600px)").matches;

  function layout(extra) {
    const axis = { color: colour("soft"), gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"),
      automargin: true };
    const made = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("ink"), size: 13 },
      margin: { l: 50, r: 12, t: 28, b: 44 }, hoverlabel: { font: { size: 13 } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("soft"), activecolor: colour("curve") }, ...extra };
    for (const name of Object.keys(made).filter((key) => /^[xy]axis\d*$/.test(key)).concat(["xaxis", "yaxis"]))
      made[name] = { ...axis, ...made[name] };
    return made;
  }

  function draw(id, make) {
    const place = typeof id === "string" ? document.getElementById(id) : id;
    const again = () => {
      const made = make();
      return Plotly.react(place, made.traces, layout(made.layout), { responsive: true, displaylogo: false,
        displayModeBar: phone() || made.small ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d"] });
    };
    plots.push(again);
    return again();
  }

  // -- spectrum ------------------------------------------------------------------------------------------------

  const checked = (id) => document.getElementById(id).checked;
  const highest = (values) => values.reduce((most, value) => (value !== null && value > most ? value : most), 0);

  function spectrumTraces() {
    const traces = [];
    const colours = [colour("curve"), colour("third"), "#cc79a7", "#e69f00", "#56b4e9"];
    data.spectra.forEach((curve, index) => {
      const shade = colours[index % colours.length];
      if (checked("show-error")) {
        const around = curve.y.map((y, i) => [y - curve.error[i], y + curve.error[i]]);
        const hidden = { x: curve.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
        traces.push({ ...hidden, y: around.map((pair) => pair[0]) });
        traces.push({ ...hidden, y: around.map((pair) => pair[1]), fill: "tonexty", fillcolor: faded(shade, 0.3) });
      }
      traces.push({ x: curve.x, y: curve.y, customdata: curve.error, mode: "lines", name: plain(curve.name),
        line: { color: shade, width: 1.8 },
        hovertemplate: "%{x:.1f} cm⁻¹: %{y:.4g} ± %{customdata:.2g}<extra></extra>" });
    });
    if (checked("show-sticks") && data.sticks.length) traces.push(stickTrace(data.sticks[0]));
    if (overlay) traces.push(overlayTrace());
    return traces;
  }

  // One polyline: up and down at every line, gaps between; heights relative to the strongest.
  function stickTrace(sticks) {
    const top = data.spectra.length ? 0.5 * highest(data.spectra[0].y) : highest(sticks.y);
    const scale = top / (highest(sticks.y) || 1);
    const x = [], y = [], told = [];
    sticks.x.forEach((place, i) => {
      if (place <= 0) return;
      x.push(place, place, null); y.push(0, scale * sticks.y[i], null); told.push(sticks.y[i], sticks.y[i], null);
    });
    return { x, y, customdata: told, mode: "lines", name: data.spectra.length ? "harmonic, relative heights" : "harmonic", connectgaps: false,
      line: { color: colour("reference"), width: 2 },
      hovertemplate: "harmonic %{x:.1f} cm⁻¹: %{customdata:.3g} km/mol<extra></extra>" };
  }

  function area(x, y, first, last) {
    let sum = 0;
    for (let i = 1; i < x.length; i++) {
      const middle = 0.5 * (x[i] + x[i - 1]);
      if (middle >= first && middle <= last) sum += Math.abs(x[i] - x[i - 1]) * 0.5 * (y[i] + y[i - 1]);
    }
    return sum;
  }

  function overlayTrace() {
    const own = data.spectra[0];
    let scale = 1;
    if (own) {
      const first = Math.max(Math.min(...own.x), Math.min(...overlay.x));
      const last = Math.min(Math.max(...own.x), Math.max(...overlay.x));
      const theirs = area(overlay.x, overlay.y, first, last);
      if (first < last && theirs > 0) scale = area(own.x, own.y, first, last) / theirs;
    }
    return { x: overlay.x, y: overlay.y.map((value) => scale * value), mode: "lines", name: plain(overlay.name),
      line: { color: colour("third"), width: 1.3 }, hovertemplate: "%{x:.1f} cm⁻¹<extra>" + plain(overlay.name) + "</extra>" };
  }

  function spectrumLayout() {
    const x = data.spectra.length ? data.spectra[0].x : [0, 4500];
    return { hovermode: "closest", uirevision: "spectrum",
      xaxis: { title: { text: "wavenumber / cm⁻¹" }, range: [x[x.length - 1], x[0]] },
      yaxis: { title: { text: data.spectra.length ? "absorption / (km mol⁻¹ cm)" : "intensity / (km/mol)" }, rangemode: "tozero" } };
  }

  // -- a file to compare with ----------------------------------------------------------------------------------

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

  async function chooseOverlay(file) {
    const word = document.getElementById("overlay-word");
    try {
      const text = await file.text();
      const series = /^\s*##/.test(text) ? readJcamp(text) : readColumns(text);
      if (series.x.length < 2) throw new Error("it has no two columns of numbers");
      const order = series.x.map((_, i) => i).sort((a, b) => series.x[a] - series.x[b]);
      overlay = { name: file.name, x: order.map((i) => series.x[i]), y: order.map((i) => series.y[i]) };
      word.textContent = `${file.name}: ${series.x.length} points`;
    } catch (error) {
      overlay = null;
      word.textContent = `${file.name} cannot be read: ${error.message}`;
    }
    document.getElementById("overlay-remove").hidden = overlay === null;
    plots[0]();
  }

  // -- model ---------------------------------------------------------------------------------------------------

  const quantities = [["force_rmse_kcal_per_mol_angstrom", "forces / (kcal/mol/Å)", "curve"],
    ["energy_rmse_kcal_per_mol", "energy / (kcal/mol)", "reference"], ["dipole_rmse_debye", "dipole / D", "third"]];

  function curvePlot() {
    const traces = [], shapes = [];
    for (const [key, name, shade] of quantities) {
      const points = data.curve.filter((entry) => entry[key] > 0);
      if (!points.length) continue;
      traces.push({ x: points.map((entry) => entry.labels), y: points.map((entry) => entry[key]), name, mode: "lines+markers",
        line: { color: colour(shade), width: 2 }, hovertemplate: "%{x} labels: %{y:.3g}<extra>" + name + "</extra>" });
      if (data.test[key] > 0) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: data.test[key], y1: data.test[key],
        line: { color: colour(shade), width: 1, dash: "dot" } });
    }
    return { traces, layout: { shapes, xaxis: { title: { text: "labels" } },
      yaxis: { type: "log", title: { text: "held-out RMSE (dotted: test)" }, dtick: phone() ? 1 : "D2" } } };
  }

  function parityPlot(parity) {
    const every = parity.reference.concat(parity.model);
    const ends = [Math.min(...every), Math.max(...every)];
    const unit = parity.unit.includes("/") ? `(${parity.unit})` : parity.unit;
    return { traces: [
      { x: ends, y: ends, mode: "lines", line: { color: colour("soft"), width: 1 }, hoverinfo: "skip" },
      { x: parity.reference, y: parity.model, mode: "markers", type: "scatter",
        marker: { color: faded(colour("curve"), 0.55), size: 5 },
        customdata: parity.model.map((value, i) => value - parity.reference[i]),
        hovertemplate: "engine %{x:.4g}, off by %{customdata:.2g}<extra></extra>" }],
      small: true, layout: { showlegend: false, title: { text: `${parity.quantity}: RMSE ${parity.rmse.toPrecision(3)} ${parity.unit}`, font: { size: 14 } },
        xaxis: { title: { text: `label engine / ${unit}` } }, yaxis: { title: { text: `model / ${unit}` } } } };
  }

  function committeePlot() {
    const keep = data.calibration.spread.map((_, i) => i)
      .filter((i) => data.calibration.spread[i] > 0 && data.calibration.error[i] > 0);
    const x = keep.map((i) => data.calibration.spread[i]), y = keep.map((i) => data.calibration.error[i]);
    const ends = [Math.min(...x, ...y), Math.max(...x, ...y)];
    const axis = { type: "log", dtick: phone() ? 1 : "D2" };
    return { traces: [
      { x, y, mode: "markers", type: "scatter", name: "an atom", marker: { color: faded(colour("curve"), 0.4), size: 5 },
        hovertemplate: "spread %{x:.2g}, error %{y:.2g}<extra></extra>" },
      { x: ends, y: ends, mode: "lines", name: "error = spread", line: { color: colour("soft"), width: 1.5 }, hoverinfo: "skip" }],
      layout: { xaxis: { ...axis, title: { text: "committee spread / (kcal/mol/Å)" } },
        yaxis: { ...axis, title: { text: "true error / (kcal/mol/Å)" } } } };
  }

  const hideCard = (id) => { document.getElementById(id).closest(".card").hidden = true; };

  function drawAll() {
    draw("plot-spectrum", () => ({ traces: spectrumTraces(), layout: spectrumLayout() }));
    if (!data.spectra.length && !data.sticks.length) hideCard("plot-spectrum");
    if (data.curve.length) draw("plot-curve", curvePlot); else hideCard("plot-curve");
    const row = document.getElementById("plot-parity");
    if (!data.parity.length) hideCard("plot-parity");
    const places = data.parity.map(() => {
      const place = document.createElement("div");
      place.className = "plot";
      row.append(place);
      return place;
    });
    places.forEach((place, index) => draw(place, () => parityPlot(data.parity[index])));
    if (data.calibration) draw("plot-committee", committeePlot); else hideCard("plot-committee");
    for (const id of ["show-sticks", "show-error"]) document.getElementById(id).addEventListener("change", () => plots[0]());
    document.getElementById("overlay").addEventListener("change", (event) => {
      if (event.target.files.length) chooseOverlay(event.target.files[0]);
    });
    document.getElementById("overlay-remove").addEventListener("click", () => {
      overlay = null;
      document.getElementById("overlay").value = "";
      document.getElementById("overlay-word").textContent = "";
      document.getElementById("overlay-remove").hidden = true;
      plots[0]();
    });
  }

  // -- table and theme -----------------------------------------------------------------------------------------

  function sortBy(table, column) {
    const head = table.tHead.rows[0].cells[column];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => {
      const text = row.cells[column].dataset.value;
      return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const one = value(a), two = value(b);
      const order = typeof one === "number" && typeof two === "number" ? one - two : String(one).localeCompare(String(two));
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }

  for (const button of document.querySelectorAll(".sortable th button"))
    button.addEventListener("click", () => sortBy(button.closest("table"), Number(button.dataset.column)));

  const setTheme = (dark) => { root.dataset.theme = dark ? "dark" : "light"; plots.forEach((again) => again()); };
  const wish = window.matchMedia("(prefers-color-scheme: dark)");
  root.dataset.theme = wish.matches ? "dark" : "light";
  wish.addEventListener("change", (event) => setTheme(event.matches));
  document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
  let before = root.dataset.theme;
  window.addEventListener("beforeprint", () => { before = root.dataset.theme; setTheme(false); });
  window.addEventListener("afterprint", () => setTheme(before === "dark"));

  if (window.Plotly) drawAll();
  root.dataset.ready = "yes";
})();
