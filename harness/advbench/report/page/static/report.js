"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // Text that may break after the separators of a spec.
  const breakable = (text) => text.split(/(?<=[:,+])/).flatMap((piece, index) => (index ? [make("wbr"), piece] : [piece]));

  // Theme: light, dark, or that of the system.
  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  let chosen = "auto";
  const setTheme = (name) => {
    chosen = themes.includes(name) ? name : "auto";
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    theme.textContent = `Theme: ${chosen}`;
  };
  const remembered = () => { try { return localStorage.getItem("advbench-theme"); } catch { return null; } };
  setTheme(remembered());
  theme.hidden = false;
  theme.addEventListener("click", () => {
    setTheme(themes[(themes.indexOf(chosen) + 1) % themes.length]);
    try { localStorage.setItem("advbench-theme", chosen); } catch { /* storage may be blocked for a page opened from a file */ }
  });

  // Sorting: descending, ascending, original order.
  for (const table of all(".board table")) {
    const original = all("tbody", table).map((body) => [body, all("tr", body)]);
    const heads = all("thead th", table);
    const scoreOf = (row, column) => {
      const cell = row.children[column];
      const under = cell.querySelector(".under:not([hidden])");
      return under ? under.dataset.score : cell.dataset.sort ?? cell.textContent;
    };
    const order = (one, other, sign) => {
      if (one === "" || other === "") return (one === "") - (other === "");
      const numbers = [Number(one), Number(other)];
      if (numbers.every(Number.isFinite)) return sign * (numbers[0] - numbers[1]);
      return sign * one.localeCompare(other, "en", { numeric: true });
    };
    heads.forEach((head, column) => {
      head.querySelector(".sort").addEventListener("click", () => {
        const first = column === 0 ? "ascending" : "descending";
        const second = column === 0 ? "descending" : "ascending";
        const now = head.getAttribute("aria-sort");
        const next = now === null ? first : now === first ? second : null;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        original.forEach(([body, rows]) => body.append(...rows));
        if (next === null) return;
        head.setAttribute("aria-sort", next);
        const rows = original.flatMap(([, some]) => some);
        rows.sort((a, b) => order(scoreOf(a, column), scoreOf(b, column), next === "ascending" ? 1 : -1));
        original[0][0].append(...rows);
      });
    });
  }

  // Wide boards: the first columns stay in sight, and a line counts the columns that are out of sight on each side.
  const hints = all(".board .scroll").map((area) => {
    const heads = all("thead th", area);
    const frame = area.parentElement;
    let frozen = [];
    let frozenWidth = 0;
    // The columns that move, and the ends of the space in which they are in sight.
    const moving = () => heads.filter((head) => !frozen.includes(head) && !head.hidden).map((head) => head.getBoundingClientRect());
    const space = () => {
      const edge = area.getBoundingClientRect().left + area.clientLeft;
      return [edge + frozenWidth, edge + area.clientWidth];
    };
    const outside = (boxes, [start, end]) => [boxes.filter((box) => box.left < start - 8), boxes.filter((box) => box.right > end + 8)];
    // Scrolls by the columns that are in sight, or to the rest of a column that is wider than this space.
    const turn = (step) => {
      const [start, end] = space();
      const [before, after] = outside(moving(), [start, end]);
      const last = before.at(-1);
      const first = step > 0 ? after.find((box) => box.left > start + 8) : before.find((box) => box.left >= last.right - (end - start)) ?? last;
      area.scrollBy({ left: first ? first.left - start : after[0].right - end });
    };
    const button = (step) => {
      const made = make("button", { type: "button", value: step });
      made.addEventListener("click", () => turn(step));
      return made;
    };
    const [left, right] = [button(-1), button(1)];
    const line = make("div", { className: "more" }, left, right);
    frame.before(line);
    const several = (count) => `${count} more column${count === 1 ? "" : "s"}`;
    const count = () => {
      const [before, after] = outside(moving(), space()).map((boxes) => boxes.length);
      left.textContent = `← ${several(before)}`;
      right.textContent = `${several(after)} →`;
      left.hidden = !before;
      right.hidden = !after;
      frame.classList.toggle("before", before > 0);
      frame.classList.toggle("after", after > 0);
    };
    const update = () => {
      line.hidden = area.scrollWidth <= area.clientWidth + 1;
      frozen = heads.filter((head) => getComputedStyle(head).position === "sticky");
      frozenWidth = 0;
      frozen.forEach((head, index) => {
        area.style.setProperty(`--left-${index}`, `${frozenWidth}px`);
        frozenWidth += head.getBoundingClientRect().width;
      });
      area.style.scrollPaddingLeft = `${frozenWidth}px`;
      count();
    };
    area.addEventListener("scroll", count, { passive: true });
    new ResizeObserver(update).observe(area.firstElementChild);
    addEventListener("resize", update);
    return update;
  });

  // Charts: pointing at a name in the legend emphasizes its line.
  for (const figure of all("figure[data-dataset]")) {
    const series = all(".series", figure);
    all(".legend li", figure).forEach((entry, index) => {
      entry.addEventListener("mouseenter", () => series[index]?.classList.add("on"));
      entry.addEventListener("mouseleave", () => series[index]?.classList.remove("on"));
    });
  }

  // Filters.
  const form = document.getElementById("filters");
  const targets = { dataset: ".board", model: ".board, .board tbody tr", threat: ".board thead th", family: ".board tbody tr" };
  for (const [name, selector] of Object.entries(targets)) {
    const select = form.querySelector(`[data-filter="${name}"]`);
    const values = [...new Set(all(selector).map((element) => element.dataset[name]).filter(Boolean))];
    select.append(...values.map((value) => make("option", { value, textContent: value })));
    select.parentElement.hidden = values.length < 2;
  }
  const filter = () => {
    const wanted = Object.fromEntries(all("[data-filter]", form).map((field) => [field.dataset.filter, field.value]));
    const words = wanted.text.toLowerCase().trim();
    let shown = 0;
    let rows = 0;
    for (const part of all(".board, figure[data-dataset]")) {
      part.hidden = ["dataset", "model"].some((name) => wanted[name] && part.dataset[name] && part.dataset[name] !== wanted[name]);
    }
    if (wanted.threat) {
      for (const board of all(".board:not([hidden])")) {
        board.hidden = !all("thead th", board).some((head) => head.dataset.threat === wanted.threat);
      }
    }
    for (const row of all(".board tbody tr")) {
      const text = row.firstElementChild.textContent.toLowerCase();
      const other = wanted.model && row.dataset.model && row.dataset.model !== wanted.model;
      row.hidden = other || (wanted.family && row.dataset.family !== wanted.family) || !text.includes(words);
      rows += 1;
      shown += !row.hidden && !row.closest(".board").hidden;
    }
    for (const cell of all(".board [data-threat]")) {
      cell.hidden = Boolean(wanted.threat) && cell.dataset.threat !== wanted.threat;
    }
    for (const worst of all("td:has(> .under)")) {
      const kinds = all(".under", worst);
      const under = kinds.find((kind) => kind.dataset.under === wanted.threat) ?? kinds[0];
      kinds.forEach((kind) => { kind.hidden = kind !== under; });
    }
    hints.forEach((update) => update());
    document.getElementById("shown").textContent = shown === rows ? `${rows} rows` : `${shown} of ${rows} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();

  // A cell's details.
  const dialog = document.getElementById("cell");
  const body = document.getElementById("cell-body");
  let current = null;

  // The name of a class, or its number if it has none. The stylesheet truncates long names; the tooltip shows them in full.
  const className = (names, number) => {
    const text = names?.[number] || `${number}`;
    return make("bdi", { className: names ? "class named" : "class", title: names ? `${number}: ${text}` : "", textContent: text });
  };

  const confusion = (title, counts, names) => {
    const head = make("tr", {}, make("th", { textContent: "label" }), ...counts.map((_, index) => make("th", {}, className(names, index))));
    const rows = counts.map((line, label) => {
      const total = line.reduce((sum, count) => sum + count, 0) || 1;
      const cells = line.map((count, prediction) => {
        const cell = make("td", { textContent: count || "" });
        if (count) cell.style.background = `rgba(var(--shade), ${(0.08 + 0.72 * count / total).toFixed(3)})`;
        if (prediction === label) cell.className = "right";
        return cell;
      });
      return make("tr", {}, make("th", {}, className(names, label)), ...cells);
    });
    return make("table", { className: names ? "confusion named" : "confusion" }, make("caption", { textContent: title }), make("thead", {}, head), make("tbody", {}, ...rows));
  };

  // The most frequent errors, for data with many classes.
  const confused = (title, pairs, names) => {
    const head = ["label", "prediction", "images"].map((text) => make("th", { scope: "col", textContent: text }));
    const rows = pairs.map(([label, prediction, count]) => make("tr", {},
      make("th", { scope: "row" }, className(names, label)), make("td", {}, className(names, prediction)), make("td", { className: "count", textContent: count })));
    const none = make("tr", {}, make("td", { colSpan: 3, textContent: "no errors" }));
    return make("table", { className: "confused" }, make("caption", { textContent: title }), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...(rows.length ? rows : [none])));
  };

  const svg = (tag, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  };
  const histogram = ({ norm, edges, counts }) => {
    const [width, height, left, bottom] = [560, 190, 44, 34];
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "histogram", role: "img", "aria-label": "histogram of distances" });
    const most = Math.max(...counts);
    const step = (width - left - 10) / counts.length;
    counts.forEach((count, bin) => {
      const tall = (height - bottom - 12) * count / most;
      const bar = svg("rect", { x: left + bin * step + 0.5, y: height - bottom - tall, width: Math.max(step - 1, 1), height: tall });
      bar.append(svg("title", {}, `${count} images: ${edges[bin].toPrecision(3)} to ${edges[bin + 1].toPrecision(3)}`));
      drawing.append(bar);
    });
    drawing.append(svg("path", { class: "axis", d: `M${left} 8V${height - bottom}H${width - 10}` }));
    drawing.append(svg("text", { x: left - 6, y: 18, "text-anchor": "end" }, most));
    drawing.append(svg("text", { x: left - 6, y: height - bottom, "text-anchor": "end" }, "0"));
    for (const bin of [0, counts.length / 4, counts.length / 2, 3 * counts.length / 4, counts.length]) {
      const anchor = bin === counts.length ? "end" : "middle";
      drawing.append(svg("text", { x: left + bin * step, y: height - bottom + 15, "text-anchor": anchor }, Number(edges[bin].toPrecision(3))));
    }
    drawing.append(svg("text", { class: "label", x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, `distance ${norm === "l2" ? "L2" : "L∞"}`));
    return drawing;
  };

  // The certified accuracy as a step function of the radius.
  const certifiedCurve = ({ curve, norm }) => {
    const [width, height, left, bottom, top] = [560, 210, 52, 38, 12];
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "certified", role: "img", "aria-label": "certified accuracy by radius" });
    const most = curve.eps.at(-1) * 1.05 || 1;
    const x = (radius) => left + (width - left - 12) * radius / most;
    const y = (share) => height - bottom - (height - bottom - top) * share;
    const path = curve.accuracy.map((share, at) => `${at ? `H${x(curve.eps[at])}V${y(share)}` : `M${x(curve.eps[0])} ${y(share)}`}`).join("");
    for (const share of [0, 0.5, 1]) {
      drawing.append(svg("path", { class: "grid", d: `M${left} ${y(share)}H${width - 12}` }));
      drawing.append(svg("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`));
    }
    drawing.append(svg("path", { class: "line s0", d: `${path}H${width - 12}` }));
    const power = 10 ** Math.floor(Math.log10(most / 4));
    const tick = power * [1, 2, 5, 10].find((factor) => factor * power >= most / 4);
    for (let at = 0; at <= most; at += tick) {
      drawing.append(svg("text", { x: x(at), y: height - bottom + 15, "text-anchor": "middle" }, Number(at.toPrecision(3))));
    }
    drawing.append(svg("text", { class: "label", x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, `certified ${norm} radius`));
    return drawing;
  };
  const radii = (listed, norm, names) => {
    const head = ["sample", "label", "certified class", `${norm} radius`].map((text) => make("th", { scope: "col", textContent: text }));
    const rows = listed.map(([id, label, found, radius]) => make("tr", {},
      make("th", { scope: "row", textContent: id }), make("th", {}, className(names, label)),
      make("th", { className: found === label ? "" : "bad" }, found < 0 ? "abstained" : className(names, found)),
      make("td", { textContent: found < 0 ? "—" : Number(radius.toPrecision(4)) })));
    return make("div", { className: "scroll", tabIndex: 0 }, make("table", { className: "radii" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
  };

  const samples = ({ scale, rows }, names) => {
    const picture = (image, alt) => make("img", { src: data.images[image], alt });
    const view = ([image, prediction, confidence], label, what) => {
      const verdict = make("span", { className: prediction === label ? "prediction" : "prediction wrong" }, className(names, prediction), ` (${confidence} %)`);
      return make("td", {}, picture(image, `${what}, predicted as ${names?.[prediction] || prediction}`), verdict);
    };
    const heads = ["label", "original", "adversarial", `difference ×${scale}`, "defended"];
    const lines = rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, className(names, row.label), make("br"), `sample ${row.id}`),
      view(row.clean, row.label, "original"), view(row.adversarial, row.label, "adversarial"),
      make("td", {}, picture(row.difference, "difference"), "grey: unchanged"), view(row.defended, row.label, "defended")));
    const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col", textContent: text })));
    return make("div", { className: "samples", tabIndex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)));
  };

  const show = (index) => {
    const cell = data.cells[index];
    if (!cell) return;
    current = index;
    const names = data.classes[cell.dataset];
    document.getElementById("cell-title").textContent = cell.title;
    const facts = make("dl", { className: "facts" });
    for (const [label, text] of cell.facts) facts.append(make("dt", { textContent: label }), make("dd", {}, ...breakable(text)));
    const parts = [
      make("p", {}, ...cell.badges.map((text) => make("span", { className: `badge ${text}`, textContent: text }))),
      ...cell.warnings.map((text) => make("p", { className: "warning", textContent: text })),
      facts,
    ];
    const of = cell.seed === undefined ? "" : ` (seed ${cell.seed})`;
    if (cell.samples) {
      parts.push(make("h3", { textContent: `Samples${of}` }), samples(cell.samples, names), make("p", { className: "note", textContent:
        "For each class in turn, the first sample that the undefended model predicts correctly, and others if there are too few. Below each image are the undefended model's prediction and its confidence."
        + (cell.samples.reduced ? " Large images are scaled down." : "") }));
    }
    if (cell.before) {
      parts.push(make("h3", { textContent: `Predictions of the defended model${of}` }),
        make("div", { className: "pair" }, confusion("clean images", cell.before, names), confusion("adversarial images", cell.after, names)),
        make("p", { className: "note", textContent: "One row per label, one column per prediction; shaded by the share of the row." }));
    }
    if (cell.confused_before) {
      parts.push(make("h3", { textContent: `Most frequent errors of the defended model${of}` }),
        make("div", { className: "pair" }, confused("clean images", cell.confused_before, names), confused("adversarial images", cell.confused_after, names)));
    }
    if (cell.histogram) {
      parts.push(make("h3", { textContent: `Distances of the images that fooled the attacked classifier${of}` }), histogram(cell.histogram));
    }
    if (cell.certified) {
      const { norm, samples: listed, all: total } = cell.certified;
      parts.push(make("h3", { textContent: "Share of all samples that are certified beyond a radius" }), certifiedCurve(cell.certified));
      if (listed.length) {
        const shown = listed.length < total ? `the first ${listed.length} of ${total} samples` : `the ${total} samples`;
        parts.push(make("details", {}, make("summary", { textContent: `Radii of ${shown}${of}` }), radii(listed, norm, names)));
      }
    }
    body.replaceChildren(...parts);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    history.replaceState(null, "", `#cell-${index}`);
  };
  const visible = () => [...new Set(all("button.open").filter((button) => button.offsetParent !== null).map((button) => Number(button.dataset.cell)))];
  const go = (step) => {
    const indices = visible();
    const position = indices.indexOf(current) + step;
    if (indices.length) show(indices[(position + indices.length) % indices.length]);
  };
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("button.open");
    if (opener) show(Number(opener.dataset.cell));
    const link = event.target.closest('a[href^="#cell-"]');
    if (link) { event.preventDefault(); show(Number(link.hash.slice(6))); }
  });
  document.getElementById("previous").addEventListener("click", () => go(-1));
  document.getElementById("next").addEventListener("click", () => go(1));
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    history.replaceState(null, "", location.pathname + location.search);
    const opener = document.querySelector(`button.open[data-cell="${current}"]`);
    if (opener) opener.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (dialog.open) {
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") { go(event.key === "ArrowLeft" ? -1 : 1); event.preventDefault(); }
      return;
    }
    const opener = document.activeElement?.closest?.("button.open");
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!opener || !moves[event.key]) return;
    const [down, right] = moves[event.key];
    const rows = all("tbody tr", opener.closest("table")).filter((row) => !row.hidden);
    const openers = (row) => all("td:not([hidden]) > button.open", row);
    const row = opener.closest("tr");
    const target = openers(rows[rows.indexOf(row) + down] ?? row)[openers(row).indexOf(opener) + right];
    if (target) { target.focus(); event.preventDefault(); }
  });
  const linked = /^#cell-(\d+)$/.exec(location.hash);
  if (linked) show(Number(linked[1]));
})();
