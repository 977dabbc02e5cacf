"use strict";
// Draws the plots from the JSON in #data. Every name in it is text: `plain` keeps Plotly from reading markup in it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const plots = [];          // functions that draw again, after a change of theme
  const redraw = {};         // the same by the id of the plot
  let overlay = null;        // {name, x, y}
  let view = {};             // ranges x and y of the spectrum that someone zoomed to

  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
  const phone = () => window.matchMedia("(max-width: 600px)").matches && !root.classList.contains("paper");

  function layout(extra) {
    const axis = { color: colour("soft"), gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"),
      automargin: true };
    const made = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("ink"), size: 13, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 50, r: 12, t: 28, b: 44 }, hoverlabel: { font: { size: 13 } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal", font: { size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("soft"), activecolor: colour("curve") }, ...extra };
    for (const name of Object.keys(made).filter((key) => /^[xy]axis\d*$/.test(key)).concat(["xaxis", "yaxis"]))
      made[name] = { ...axis, ...made[name] };
    return made;
  }

  // Plots keep the size that they were drawn in: a sheet of paper has its own width.
  const fit = (place) => Plotly.relayout(place, { width: place.clientWidth, height: place.clientHeight });

  function draw(id, make) {
    const place = typeof id === "string" ? document.getElementById(id) : id;
    const again = () => {
      const made = make();
      const drawn = Plotly.react(place, made.traces, layout(made.layout), { responsive: true, displaylogo: false, doubleClick: id === "plot-spectrum" ? false : "reset+autosize",
        displayModeBar: id === "plot-spectrum" && !phone() ? "hover" : false, modeBarButtonsToRemove: ["select2d", "lasso2d"],
        toImageButtonOptions: { format: "svg", filename: String(data.name).replace(/[^\w-]+/g, "-") || "spectrum" } });
      // The place may have grown with its legend since it was drawn first.
      if (place.clientHeight && place._fullLayout && Math.abs(place._fullLayout.height - place.clientHeight) > 1) Plotly.Plots.resize(place);
      return drawn;
    };
    plots.push(again);
    if (typeof id === "string") redraw[id] = again;
    return again();
  }

  // -- spectrum ------------------------------------------------------------------------------------------------

  const checked = (id) => document.getElementById(id).checked;
  const highest = (values) => values.reduce((most, value) => (value !== null && value > most ? value : most), 0);
  // km/mol per cm-1 (napierian) to the decadic molar absorption coefficient: 1e5 cm2/mol / (1000 cm3/L) / ln 10.
  const height = () => (document.getElementById("unit").value === "epsilon" ? 100 / Math.LN10 : 1);
  const factor = () => Math.min(1.5, Math.max(0.5, Number(document.getElementById("factor").value) || 1));
  const times = (values, by) => values.map((value) => (value === null ? null : by * value));

  function spectrumTraces() {
    const traces = [];
    const colours = [colour("curve"), colour("third"), "#cc79a7", "#e69f00", "#56b4e9"];
    data.spectra.forEach((curve, index) => {
      const shade = colours[index % colours.length], x = times(curve.x, factor());
      const y = times(curve.y, height()), error = times(curve.error, height());
      if (checked("show-error")) {
        const hidden = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
        traces.push({ ...hidden, y: y.map((value, i) => value - error[i]) });
        traces.push({ ...hidden, y: y.map((value, i) => value + error[i]), fill: "tonexty", fillcolor: faded(shade, 0.3) });
      }
      traces.push({ x, y, customdata: error, mode: "lines", name: plain(curve.name), line: { color: shade, width: 1.8 },
        hovertemplate: "%{x:.1f} cm⁻¹: %{y:.4g} ± %{customdata:.2g}<extra></extra>" });
    });
    traces.push(...partTraces());
    if (checked("show-sticks"))
      data.sticks.forEach((sticks) => traces.push(stickTrace(sticks)));
    if (overlay) traces.push(overlayTrace());
    return traces;
  }

  // What modes or groups of atoms contribute to the first curve; they add up to it.
  function partTraces() {
    const kind = document.getElementById("parts").value;
    if (!kind || !data.parts) return [];
    const shades = [colour("reference"), colour("third"), "#cc79a7", "#e69f00", "#8c6bb1", "#7f7f7f", "#b15928", "#66a61e", "#e7298a", "#1f6f8b"];
    const x = times(data.parts.x, factor());
    return data.parts[kind].map((part, i) => ({ x, y: times(part.y, height()), mode: "lines", name: plain(part.name),
      line: { color: shades[i % shades.length], width: 1.2 }, hovertemplate: "%{x:.1f} cm⁻¹: %{y:.3g}<extra>" + plain(part.name) + "</extra>" }));
  }

  function chooseParts() {
    const choice = document.getElementById("parts"), words = { groups: "of groups of atoms", modes: "of normal modes" };
    for (const kind of Object.keys(words)) if (data.parts?.[kind]) choice.append(new Option(words[kind], kind));
    document.getElementById("parts-label").hidden = choice.options.length < 2;
    choice.addEventListener("change", () => plots[0]());
  }

  // One polyline: up and down at every line, gaps between; the model's lines hang below the axis where others are known.
  const stickNames = { engine: "harmonic, label engine", model: "harmonic, model", levels: "quantum levels, model" };
  function stickTrace(sticks) {
    const x = [], y = [], details = [], way = sticks.name !== "engine" && data.sticks.some((one) => one.name === "engine") ? -1 : 1;
    sticks.x.forEach((place, i) => {
      if (place <= 0) return;
      const error = sticks.error?.[i], word = `${place.toFixed(1)}${error > 0 ? ` ± ${error.toPrecision(2)}` : ""} cm⁻¹: ${sticks.y[i].toPrecision(3)} km/mol`;
      x.push(factor() * place, factor() * place, null); y.push(0, way * sticks.y[i], null); details.push(word, word, null);
      if (!(error > 0)) return;
      // The bar of the error, at the end of the line.
      x.push(factor() * (place - error), factor() * (place + error), null); y.push(way * sticks.y[i], way * sticks.y[i], null); details.push(word, word, null);
    });
    const name = plain(stickNames[sticks.name] + (data.spectra.length > 1 ? ` (${data.name})` : ""));
    const shades = { engine: colour("reference"), model: colour("curve"), levels: colour("third") };
    return { x, y, customdata: details, mode: "lines", name, connectgaps: false, yaxis: data.spectra.length ? "y2" : "y",
      line: { color: shades[sticks.name], width: 2 },
      hovertemplate: `${name} %{customdata}<extra></extra>` };
  }

  // Positions above the maxima, the strongest first, none over another in the range that is shown.
  function bandLabels(range) {
    const curve = data.spectra[0];
    if (!curve || !checked("show-labels")) return [];
    const width = Math.abs(range[1] - range[0]), least = (phone() ? 0.06 : 0.022) * width, taken = [], labels = [];
    const strongest = highest(data.bands.map((band) => band.intensity));
    for (const band of [...data.bands].sort((a, b) => (b.intensity || 0) - (a.intensity || 0))) {
      if (band.position === null || !(band.intensity > 0.02 * strongest)) continue;
      const low = band.low ?? band.position - 40, high = band.high ?? band.position + 40;
      let top = 0, place = band.position;
      curve.x.forEach((x, i) => { if (x >= low && x <= high && curve.y[i] > top) { top = curve.y[i]; place = x; } });
      place *= factor();
      if (place < Math.min(...range) || place > Math.max(...range) || taken.some((other) => Math.abs(other - place) < least)) continue;
      taken.push(place);
      labels.push({ x: place, y: height() * top, text: (factor() * band.position).toFixed(0), textangle: -90, showarrow: false, yshift: 6,
        yanchor: "bottom", font: { size: 12, color: colour("soft") }, captureevents: false });
    }
    return labels;
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
      const x = times(own.x, factor());
      const first = Math.max(Math.min(...x), overlay.x[0]), last = Math.min(Math.max(...x), overlay.x.at(-1));
      const theirs = area(overlay.x, overlay.y, first, last);
      if (first < last && theirs > 0) scale = (height() * area(x, own.y, first, last)) / theirs;
    }
    return { x: overlay.x, y: times(overlay.y, scale), mode: "lines", name: plain(overlay.name),
      line: { color: colour("third"), width: 1.3 }, hovertemplate: "%{x:.1f} cm⁻¹<extra>" + plain(overlay.name) + "</extra>" };
  }

  function fullRange() {
    const x = data.spectra.length ? data.spectra[0].x : [0, 4500];
    return [factor() * Math.max(x[0], x.at(-1)), factor() * Math.min(x[0], x.at(-1))];
  }

  // The range of the axis that fits what is shown: room for labels above.
  function fittingHeight(range) {
    let top = 0;
    for (const curve of data.spectra)
      curve.x.forEach((x, i) => { if (factor() * x >= Math.min(...range) && factor() * x <= Math.max(...range)) top = Math.max(top, curve.y[i]); });
    return top ? [-0.02 * height() * top, (checked("show-labels") ? 1.2 : 1.05) * height() * top] : undefined;
  }

  function spectrumLayout() {
    const lines = data.sticks.length && checked("show-sticks") && data.spectra.length;
    const title = height() === 1 ? "absorption / (km mol⁻¹ cm)" : "ε / (L mol⁻¹ cm⁻¹)";
    const range = view.x || fullRange();
    const made = { hovermode: "closest", annotations: bandLabels(range),
      xaxis: { title: { text: "wavenumber / cm⁻¹" }, range, anchor: lines ? "y2" : "y" },
      yaxis: { title: { text: data.spectra.length ? title : "intensity / (km/mol)" }, domain: lines ? [0.27, 1] : [0, 1],
        range: view.y || fittingHeight(range), rangemode: "tozero" } };
    if (lines) {
      const top = highest(data.sticks.flatMap((sticks) => sticks.y)), tick = Number((0.8 * top).toPrecision(1));
      made.yaxis2 = { domain: [0, 0.2], title: { text: "km/mol", font: { size: 11 } }, zerolinewidth: 1.5, fixedrange: true,
        range: [data.sticks.length > 1 ? -1.1 * top : 0, 1.1 * top], tickvals: [-tick, 0, tick], ticktext: [tick, 0, tick] };
    }
    return made;
  }

  // -- a file to compare with ----------------------------------------------------------------------------------

  async function chooseOverlay(file) {
    const word = document.getElementById("overlay-word");
    try {
      overlay = { name: file.name, ...readSpectrum(await file.text()) };
      word.textContent = `${file.name}: ${overlay.x.length} points`;
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
    const tested = data.curve.some((entry) => quantities.some(([key]) => entry["test_" + key] > 0));
    for (const [key, name, shade] of quantities) {
      const column = (tested ? "test_" : "") + key;
      const points = data.curve.filter((entry) => entry[column] > 0);
      if (!points.length) continue;
      traces.push({ x: points.map((entry) => entry.labels), y: points.map((entry) => entry[column]), name, mode: "lines+markers",
        line: { color: colour(shade), width: 2 }, hovertemplate: "%{x} labels: %{y:.3g}<extra>" + name + "</extra>" });
      if (data.test[key] > 0) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: data.test[key], y1: data.test[key],
        line: { color: colour(shade), width: 1, dash: "dot" } });
    }
    return { traces, layout: { shapes, xaxis: { title: { text: "labels" } },
      yaxis: { type: "log", title: { text: tested ? "RMSE on the test" : "held-out RMSE" }, dtick: phone() ? 1 : "D2" } } };
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
      layout: { showlegend: false, title: { text: `${parity.quantity}: RMSE ${parity.rmse.toPrecision(3)} ${parity.unit}`, font: { size: root.classList.contains("paper") ? 11 : 14 } },
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

  // The molecule in its plane, atoms coloured by the value that is chosen.
  function atomsPlot() {
    const atoms = data.atoms, chosen = atoms.values[Number(document.getElementById("atoms-value").value) || 0], x = [], y = [];
    for (const [i, j] of atoms.bonds) { x.push(atoms.x[i], atoms.x[j], null); y.push(atoms.y[i], atoms.y[j], null); }
    const named = atoms.symbols.map((symbol, i) => plain(symbol + (i + 1)));
    const size = atoms.symbols.length > 40 ? 14 : 26;
    return { traces: [
      { x, y, mode: "lines", line: { color: colour("soft"), width: atoms.symbols.length > 40 ? 3 : 6 }, hoverinfo: "skip" },
      { x: atoms.x, y: atoms.y, mode: "markers+text", text: atoms.symbols.map((symbol, i) => (size > 20 ? named[i] : "")),
        textfont: { size: 11, color: "#10141a" }, customdata: named.map((name, i) => [name, plain(chosen.details[i] || "")]),
        marker: { size: atoms.symbols.map((symbol) => (symbol === "H" ? 0.85 * size : size)), color: chosen.value,
          colorscale: [[0, "#fff3d6"], [0.5, "#f6a04d"], [1, "#d5432c"]], cmin: 0, cmax: highest(chosen.value) || 1, opacity: 1,
          line: { color: colour("soft"), width: 1 }, colorbar: { title: { text: plain(chosen.unit), side: "right" }, thickness: 12 } },
        hovertemplate: "%{customdata[0]}: %{marker.color:.3g}<br>%{customdata[1]}<extra></extra>" }],
      layout: { showlegend: false, hovermode: "closest", margin: { l: 8, r: 8, t: 8, b: 8 }, xaxis: { visible: false },
        yaxis: { visible: false, scaleanchor: "x" } } };
  }

  function chooseAtoms() {
    const choice = document.getElementById("atoms-value"), word = document.getElementById("atoms-word");
    data.atoms.values.forEach((item, index) => choice.append(new Option(item.what, String(index))));
    const tell = () => { word.textContent = `${data.atoms.values[Number(choice.value)].unit}; largest values are red`; };
    choice.addEventListener("change", () => { tell(); redraw["plot-atoms"](); });
    tell();
  }

  function settlingPlot() {
    const shades = [colour("curve"), colour("reference"), colour("third"), "#cc79a7", "#e69f00"];
    const every = data.settling.flatMap((band) => band.percent.slice(Math.floor(band.percent.length / 8)).map(Math.abs));
    const most = Math.max(1, 1.2 * highest(every));
    return { traces: data.settling.map((band, i) => ({ x: band.percent.map((_, n) => n + 1), y: band.percent, mode: "lines",
      name: `${band.position.toFixed(0)} cm⁻¹`, line: { color: shades[i % shades.length], width: 1.6 },
      hovertemplate: "%{x} trajectories: %{y:+.2g} %<extra>" + band.position.toFixed(0) + " cm⁻¹</extra>" })),
      layout: { xaxis: { title: { text: "trajectories" } }, yaxis: { title: { text: "from the final intensity / %" }, range: [-most, most] } } };
  }

  function energyPlot() {
    const kept = data.conservation;
    return { traces: kept.energy.map((energy) => ({ x: kept.time, y: energy, mode: "lines", hoverinfo: "skip",
      line: { color: faded(colour("curve"), 0.45), width: 1 } })),
      layout: { showlegend: false, xaxis: { title: { text: "time / ps" } }, yaxis: { title: { text: "energy / (kcal/mol)" } } } };
  }

  const hideCard = (id) => { document.getElementById(id).closest(".card").hidden = true; };

  function drawModel() {
    const row = document.getElementById("plot-parity");
    if (!data.parity.length) hideCard("plot-parity");
    const places = data.parity.map(() => {
      const place = document.createElement("div");
      place.className = "plot";
      row.append(place);
      return place;
    });
    places.forEach((place, index) => draw(place, () => parityPlot(data.parity[index])));  // once all have their widths
    const optional = [["plot-atoms", data.atoms, atomsPlot], ["plot-committee", data.calibration, committeePlot],
      ["plot-curve", data.curve.length, curvePlot], ["plot-settling", data.settling.length, settlingPlot],
      ["plot-energy", data.conservation, energyPlot]];
    if (data.atoms) chooseAtoms();
    for (const [id, there, make] of optional) if (there) draw(id, make); else hideCard(id);
  }

  function zoom(low, high) {
    view = low === null ? {} : { x: [high, low] };
    plots[0]();
  }

  // What someone dragged to is kept when the curves are drawn again.
  function keepView(change) {
    if (change["xaxis.autorange"] || change["yaxis.autorange"]) view = {};
    for (const axis of ["x", "y"])
      if (change[axis + "axis.range[0]"] !== undefined) view[axis] = [change[axis + "axis.range[0]"], change[axis + "axis.range[1]"]];
    if (view.x) view.x = [Math.max(...view.x), Math.min(...view.x)];
    plots[0]();
  }

  function drawAll() {
    chooseParts();
    draw("plot-spectrum", () => {
      const traces = spectrumTraces(), entries = traces.filter((trace) => trace.showlegend !== false).length;
      // The legend stands above the curve: what it takes is added to the height.
      document.getElementById("plot-spectrum").style.setProperty("--entry-rows", phone() ? entries : Math.ceil(entries / 4));
      return { traces, layout: spectrumLayout() };
    });
    if (!data.spectra.length && !data.sticks.length) hideCard("plot-spectrum");
    document.getElementById("plot-spectrum").on("plotly_relayout", (change) => {
      if (Object.keys(change).some((key) => /^[xy]axis/.test(key))) keepView(change);
    });
    document.getElementById("plot-spectrum").on("plotly_doubleclick", () => zoom(null));
    drawModel();
    for (const id of ["show-sticks", "show-error", "show-labels"])
      document.getElementById(id).addEventListener("change", () => plots[0]());
    for (const id of ["unit", "factor"])
      document.getElementById(id).addEventListener("change", () => { delete view.y; plots[0](); });
    for (const button of document.querySelectorAll(".ranges button"))
      button.addEventListener("click", () => zoom(button.dataset.low ? Number(button.dataset.low) : null, Number(button.dataset.high)));
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
    for (const row of document.querySelectorAll("#bands tr[data-low]")) {
      const show = () => {
        const low = factor() * Number(row.dataset.low), high = factor() * Number(row.dataset.high);
        zoom(low - 0.5 * (high - low), high + 0.5 * (high - low));
        document.getElementById("spectrum").scrollIntoView({ behavior: "smooth" });
      };
      row.addEventListener("click", show);
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") show(); });
    }
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
  window.addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.classList.add("paper");
    setTheme(false);
    document.querySelectorAll(".js-plotly-plot").forEach(fit);
  });
  window.addEventListener("afterprint", () => {
    root.classList.remove("paper");
    setTheme(before === "dark");
    document.querySelectorAll(".js-plotly-plot").forEach((place) => Plotly.relayout(place, { autosize: true, width: null, height: null }));
  });

  if (!data.atoms) hideCard("plot-atoms");
  if (window.Plotly) drawAll();
  root.dataset.ready = "yes";
})();
