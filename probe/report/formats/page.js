"use strict";
// Sorting, filtering, choosing, tooltips. Everything is on the page without this; strings go in as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const say = (text) => { document.getElementById("said").textContent = text; };
  document.querySelector(".tools").hidden = false;

  // Light and dark: what the system says, until a person says otherwise.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const showTheme = () => { theme.setAttribute("aria-pressed", isDark()); };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // Sorting: by the values in data-value; what has none stays last.
  for (const button of all("table.sortable thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = button.closest("table"), place = head.cellIndex;
      const text = head.dataset.kind === "text";
      const down = head.getAttribute("aria-sort") === "none" ? !text : head.getAttribute("aria-sort") === "ascending";
      for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[place].dataset.value ?? "";
      const order = (a, b) => {
        const x = value(a), y = value(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        return (down ? -1 : 1) * (text ? x.localeCompare(y) : x - y);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
      say(`sorted by ${button.textContent}, ${down ? "descending" : "ascending"}`);
    });
  }

  // Filtering: rows and columns of other backbones go, lines of theirs fade.
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/);
    const keeps = (label) => wanted.every((word) => label.toLowerCase().includes(word));
    for (const part of all("[data-label]")) {
      part.classList.toggle(part instanceof SVGElement ? "dim" : "gone", !keeps(part.dataset.label));
    }
    const labels = new Set(all("[data-label]").map((part) => part.dataset.label));
    say(`${[...labels].filter(keeps).length} of ${labels.size} ${filter.dataset.what}`);
  });

  // Heat map: the values of another n_train.
  const level = (value, low, high) => Math.max(0, Math.min(9, Math.floor((value - low) / (high - low) * 10)));
  for (const select of all("select.heat-column")) {
    const board = data[select.dataset.board], table = document.getElementById(`b${select.dataset.board}-heat`);
    select.addEventListener("change", () => {
      const values = board.values[select.value];
      for (const row of table.tBodies[0].rows) {
        for (const cell of all("td", row)) {
          const value = (values[cell.dataset.row] || [])[row.dataset.task] ?? null;
          cell.className = value === null ? "none" : `h${level(value, board.low, board.high)}`;
          cell.textContent = value === null ? "–" : value.toFixed(3);
          cell.dataset.value = value ?? "";
        }
      }
      say(`scores at n_train ${board.columns[select.value]}`);
    });
  }

  // Scatter: a point for each task.
  for (const form of all(".scatter")) {
    const number = form.dataset.board, board = data[number];
    const [across, up, column] = all("select", form);
    const frame = form.querySelector("[data-low]"), side = frame.ownerSVGElement.viewBox.baseVal.height;
    const [low, high, from, to] = ["low", "high", "from", "to"].map((name) => Number(frame.dataset[name]));
    const at = (value) => from + (value - low) / (high - low) * (to - from);
    const show = () => {
      const values = board.values[column.value], a = values[across.value] || [], b = values[up.value] || [];
      const names = [across, up].map((select) => board.rows[select.value]);
      let better = 0, worse = 0, both = 0;
      for (const dot of all(".dot", form)) {
        const task = dot.dataset.task, x = a[task] ?? null, y = b[task] ?? null;
        dot.setAttribute("display", x === null || y === null ? "none" : "inline");
        if (x === null || y === null) continue;
        both += 1; better += y > x; worse += y < x;
        dot.setAttribute("transform", `translate(${at(x)} ${side - at(y)})`);
        const said = `${board.tasks[task]}: ${x.toFixed(3)} across, ${y.toFixed(3)} up`;
        dot.dataset.tip = said;
      }
      form.querySelector(".across").textContent = board.axes[across.value];
      form.querySelector(".up").textContent = board.axes[up.value];
      form.querySelector("output").textContent =
        `Of ${both} tasks, ${names[1]} is better on ${better}, ${names[0]} on ${worse}, equal on ${both - better - worse}.`;
      const body = form.querySelector("tbody");
      body.replaceChildren(...board.tasks.map((task, place) => {
        const row = document.createElement("tr"), head = document.createElement("th");
        head.scope = "row"; head.textContent = task; row.append(head);
        for (const value of [a[place] ?? null, b[place] ?? null]) {
          const cell = document.createElement("td");
          cell.className = "number"; cell.textContent = value === null ? "–" : value.toFixed(3); row.append(cell);
        }
        return row;
      }));
      all("thead .of", form).forEach((head, place) => { head.textContent = names[place]; });
    };
    for (const select of [across, up, column]) select.addEventListener("change", show);
    for (const dot of all(".dot", form)) {
      dot.addEventListener("click", () => { location.hash = `b${number}-t${dot.dataset.task}`; });
    }
    show();
  }

  // Links into folded parts unfold them.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target?.closest("details"); part; part = part.parentElement?.closest("details")) part.open = true;
    if (target?.classList.contains("task")) { scrollTo(0, 0); target.querySelector("h2").focus({ preventScroll: true }); }
    else target?.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  // In a notebook's frame a link's address would be that of the notebook.
  document.addEventListener("click", (event) => {
    const link = location.protocol === "about:" && event.target.closest?.('a[href^="#"]');
    if (link) { event.preventDefault(); location.hash = link.getAttribute("href"); }
  });
  if (location.hash) unfold();

  // Tooltips: for the mouse and for the focus; Escape closes them.
  const tip = document.getElementById("tip");
  const place = (x, y) => {
    tip.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18}px`;
  };
  const show = (event, x, y) => {
    const source = event.target.closest?.("[data-tip]");
    tip.hidden = !source;
    if (source) { tip.textContent = source.dataset.tip; place(x, y); }
  };
  document.addEventListener("pointermove", (event) => show(event, event.clientX, event.clientY));
  document.addEventListener("focusin", (event) => {
    const box = event.target.getBoundingClientRect();
    show(event, box.right, box.top);
  });
  document.addEventListener("focusout", () => { tip.hidden = true; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
