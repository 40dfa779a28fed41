// What a page can do beyond being read: name what is pointed at in a figure, values at a crosshair by pointer, touch or
// arrow keys, choose what curves are drawn, sort tables, filter trials.
// Without it everything is still there.
"use strict";
(() => {
  const UNITS = { s: 1, min: 60, h: 3600, k: 1e3, M: 1e6, G: 1e9 };
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  let named = null;

  // What a reader chose stays for the visit, where the browser lets a page keep anything.
  const kept = (name, value) => {
    try {
      const key = `${location.pathname} ${name}`;
      if (value === undefined) return JSON.parse(sessionStorage.getItem(key));
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch { /* nothing is kept */ }
    return null;
  };

  // Panels with their scales: a position in the picture is a value, and back.
  const scale = (text, from, to) => {
    const [low, high, kind] = text.split(" ");
    const on = kind === "log" ? Math.log10 : (value) => value;
    const [a, b] = [on(Number(low)), on(Number(high))];
    return {
      place: (value) => from + ((on(value) - a) / (b - a)) * (to - from),
      value: (place) => { const at = a + ((place - from) / (to - from)) * (b - a); return kind === "log" ? 10 ** at : at; },
    };
  };
  // A curve is its first point and, after an l, the steps to the others (figures/compact.py).
  const points = (line) => {
    const drawn = line.getAttribute("d") ?? "", found = [];
    const numbers = (drawn.match(/-?(?:\d+\.?\d*|\.\d+)/g) ?? []).map(Number);
    for (let place = 0; place + 1 < numbers.length; place += 2) {
      const [x, y] = drawn.includes("l") && found.length ? found.at(-1) : [0, 0];
      found.push([x + numbers[place], y + numbers[place + 1]]);
    }
    return found;
  };
  const panels = new Map();
  for (const drawing of document.querySelectorAll("figure svg")) {
    const found = [...drawing.querySelectorAll("g.axes")].map((group) => {
      const [left, top, right, bottom] = group.dataset.box.split(" ").map(Number);
      const lines = [...group.querySelectorAll(".hover")]
        .map((hover) => ({ hover, name: hover.querySelector("title").textContent, points: points(hover.querySelector("path") ?? hover) }))
        .filter((line) => line.points.length > 3);
      return { group, left, top, right, bottom, lines, x: scale(group.dataset.x, left, right), y: scale(group.dataset.y, bottom, top) };
    });
    if (found.some((panel) => panel.lines.length)) panels.set(drawing, found);
  }
  const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 1 ? value.toFixed(1) : value.toPrecision(2)).replace("-", "−");
  const clear = () => { for (const line of document.querySelectorAll(".cross")) line.remove(); };

  // A crosshair at one value of x in all panels of a figure; returns the values there, of means where there are any.
  const cross = (drawing, panel, x, everywhere = false) => {
    clear();
    const places = [...new Set(panel.lines.flatMap((line) => line.points.map(([at]) => at)))];
    const at = places.reduce((best, one) => (Math.abs(one - x) < Math.abs(best - x) ? one : best), places[0]);
    const value = panel.x.value(at);
    for (const other of panels.get(drawing)) {
      if (!other.lines.length) continue;
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const place = other.x.place(value);
      for (const [name, end] of Object.entries({ x1: place, x2: place, y1: other.top, y2: other.bottom })) line.setAttribute(name, end);
      line.classList.add("cross");
      other.group.append(line);
    }
    const told = (everywhere ? panels.get(drawing) : [panel]).flatMap((one) => {
      const shown = one.lines.filter((line) => !line.hover.classList.contains("off"));
      const means = shown.filter((line) => line.name.includes("mean of"));
      return (means.length ? means : shown)
        .map((line) => [line.name.split(/[,:]/)[0], line.points.find(([px]) => Math.abs(px - one.x.place(value)) < 0.1)])
        .filter(([, point]) => point)
        .map(([name, [, py]]) => [name, one.y.value(py)]);
    });
    told.sort((one, other) => other[1] - one[1]);
    return { at, text: [`at ${short(value).replace(/\.0$/, "")}`, ...told.slice(0, 12).map(([name, v]) => `${name}: ${short(v)}`)].join("\n") };
  };

  // Thin lines are hard to hit: look around the pointer as well.
  const near = (x, y) => {
    for (const [dx, dy] of [[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3], [5, 5], [-5, 5], [5, -5], [-5, -5]]) {
      const found = document.elementFromPoint(x + dx, y + dy)?.closest?.(".hover");
      if (found) return found;
    }
    return null;
  };
  const say = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = !text;
    const left = Math.min(x + 12, window.innerWidth - tip.offsetWidth - 8);
    tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.min(y + 16, window.innerHeight - tip.offsetHeight - 8)}px)`;
  };
  const show = (event) => {
    const found = near(event.clientX, event.clientY);
    if (found !== named) {
      named?.classList.remove("named");
      found?.classList.add("named");
      named = found;
    }
    let text = found ? found.querySelector("title").textContent : "";
    const drawing = event.target.closest?.("svg");
    if (!found && panels.has(drawing)) {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
      const panel = panels.get(drawing).find((one) => one.lines.length && x >= one.left && x <= one.right && y >= one.top && y <= one.bottom);
      if (panel) text = cross(drawing, panel, x).text;
      else clear();
    } else clear();
    say(text, event.clientX, event.clientY);
  };
  for (const figure of document.querySelectorAll("figure")) {
    figure.addEventListener("pointermove", show);
    figure.addEventListener("pointerdown", show);
    figure.addEventListener("pointerleave", (event) => { clear(); show(event); });
  }
  for (const [drawing, found] of panels) {
    const first = found.find((panel) => panel.lines.length);
    const places = first.lines.map((line) => line.points).reduce((a, b) => (b.length > a.length ? b : a)).map(([x]) => x);
    const box = drawing.parentElement;
    let place = -1;
    box.tabIndex = 0;
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") { place = -1; clear(); say("", 0, 0); }
      if (!step) return;
      event.preventDefault();
      place = Math.max(0, Math.min(places.length - 1, place + step));
      const { text } = cross(drawing, first, places[place], true);
      const at = new DOMPoint(places[place], first.top).matrixTransform(drawing.getScreenCTM());
      say(text, at.x, at.y);
    });
    box.addEventListener("blur", () => { place = -1; clear(); say("", 0, 0); });
  }

  // Which levels and seeds are drawn, in the sections of curves.
  const arms = JSON.parse(document.querySelector("main").dataset.arms ?? "{}");
  const names = Object.keys(arms).sort((one, other) => other.length - one.length);
  const lines = [...document.querySelectorAll("#curves .hover, #inside .hover")].map((hover) => {
    const text = hover.querySelector("title").textContent;
    const name = names.find((one) => text === one || text.startsWith(`${one},`) || text.startsWith(`${one}:`));
    return { hover, levels: { ...(arms[name] ?? {}), seed: /, seed (-?\d+)/.exec(text)?.[1] } };
  });
  const choices = {};
  for (const { levels } of lines) {
    for (const [factor, level] of Object.entries(levels)) if (level !== undefined) (choices[factor] ??= new Set()).add(level);
  }
  const off = new Set(kept("off") ?? []);
  const draw = () => {
    for (const { hover, levels } of lines) hover.classList.toggle("off", Object.entries(levels).some(([f, l]) => off.has(`${f} ${l}`)));
  };
  const curves = document.querySelector("#curves h2");
  for (const [factor, levels] of curves ? Object.entries(choices) : []) {
    if (levels.size < 2 || levels.size > 12) continue;
    const group = document.createElement("fieldset");
    group.className = "show";
    const legend = document.createElement("legend");
    legend.textContent = factor;
    group.append(legend);
    const ordered = [...levels].sort((one, other) => (factor === "seed" ? one - other : 0));
    for (const level of ordered) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = level;
      button.setAttribute("aria-pressed", !off.has(`${factor} ${level}`));
      button.addEventListener("click", () => {
        const key = `${factor} ${level}`;
        if (!off.delete(key)) off.add(key);
        button.setAttribute("aria-pressed", !off.has(key));
        kept("off", [...off]);
        draw();
      });
      group.append(button);
    }
    (document.querySelector("#curves .show:last-of-type") ?? curves).after(group);
  }
  draw();

  // On paper everything is open.
  const closed = [];
  window.addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open])")) { closed.push(one); one.open = true; }
  });
  window.addEventListener("afterprint", () => { for (const one of closed.splice(0)) one.open = false; });

  // "−9.2", "1.2 M", "7.1 min", "26.8", "<0.001", "3/5": what a cell is sorted by, null where it is no number.
  const number = (text) => {
    const found = /^[<≥]?\s*([+-]?[\d.,]+)(?:\s*(s|min|h|k|M|G)\b)?/.exec(text.trim().replace("−", "-"));
    return found ? parseFloat(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1) : null;
  };
  const compare = (one, other, down) => {
    const [a, b] = [number(one), number(other)];
    if (a !== null && b !== null && a !== b) return down ? b - a : a - b;
    if ((a === null) !== (b === null)) return a === null ? 1 : -1; // what has no value stands last, up or down
    return down ? other.localeCompare(one) : one.localeCompare(other);
  };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows];
        rows.sort((a, b) => compare(a.cells[place].textContent, b.cells[place].textContent, down));
        body.append(...rows);
      });
    });
  }

  const section = document.getElementById("trials");
  const rows = section ? [...section.querySelectorAll("tbody tr")] : [];
  if (rows.length > 1) {
    const label = document.createElement("label");
    label.className = "filter";
    label.textContent = "Filter trials ";
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "arm, seed, status, reason";
    const count = document.createElement("output");
    label.append(input, " ", count);
    section.querySelector(".scroll").before(label);
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
      kept("filter", input.value);
    };
    input.value = kept("filter") ?? "";
    if (input.value) filter();
    input.addEventListener("input", filter);
  }
})();
