"use strict";
const unpack = async (id) => {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Tables: a button in every header sorts (numbers from the largest, names from A), the other way round at a second
// click, as at first at a third; a field above filters.
for (const table of all("table.sortable")) {
  const body = one("tbody", table);
  const unsorted = [...body.rows];
  all("thead th", table).forEach((head, column) => {
    const ways = head.classList.contains("text") ? ["ascending", "descending"] : ["descending", "ascending"];
    one("button", head)?.addEventListener("click", () => {
      const way = ways[ways.indexOf(head.getAttribute("aria-sort")) + 1];
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const larger = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return way === "ascending" ? larger : -larger;
      };
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      if (way) head.setAttribute("aria-sort", way);
      body.append(...(way ? [...unsorted].sort(order) : unsorted));
    });
  });
}
for (const field of all("input[data-filters]")) {
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of document.getElementById(field.dataset.filters).tBodies[0].rows) {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    }
  });
}

// Figures: the controls name a path in `figures`, each plot's `data-path` says which controls count.
const dark = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const controls = Object.fromEntries(all("select").map((select) => [select.name, select]));

const start = async () => {
  const script = document.createElement("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);
  const { figures, themes } = JSON.parse(await unpack("figures"));

  const printed = (plot, height) => ({ // several figures a page, none longer than one
    width: plot.closest(".two:not(.curves)") ? 340 : 700,
    height: Math.min(900, height * (plot.closest(".curves") ? 0.5 : height < 650 ? 0.66 : 0.8)),
  });
  const draw = (plot) => {
    const pair = figures[controls.pair.value];
    const steps = plot.dataset.path.split(" ").map((step) => controls[step]?.value ?? step);
    const figure = steps.reduce((tree, step) => tree?.[step], pair);
    const empty = !figure || figure.data.length === 0;
    plot.hidden = empty;
    plot.parentElement.querySelector(".none").hidden = !empty;
    if (empty) return undefined;
    const { data, layout } = structuredClone(figure);
    layout.template = themes[dark.matches && !printing ? "dark" : "light"];
    if (printing) Object.assign(layout, printed(plot, layout.height));
    if (printing || plot.clientWidth < 420) layout.legend.font.size = 9.5; // two names a row and more
    plot.setAttribute("aria-label", layout.meta.alt);
    return (printing ? Plotly.newPlot : Plotly.react)(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  };
  const plots = all(".plot");
  const drawAll = () => Promise.all(plots.map(draw));

  const fill = (select, options) => {
    const kept = select.value;
    select.replaceChildren(...options.map(([value, words]) => new Option(words, value)));
    if (options.some(([value]) => value === kept)) select.value = kept;
  };
  const fitControls = () => {
    const { names } = figures[controls.pair.value];
    fill(controls.protocol, names.protocols);
    fill(controls.combination, names.combinations.map((name) => [name, name]));
    if (!controls.combination.dataset.touched && names.everything) controls.combination.value = names.everything;
    fill(controls.label, [["", "all classes"], ...names.labels.map((name) => [name, name])]);
  };
  const highlight = () => {
    const plot = document.getElementById("map");
    if (plot.hidden) return;
    const chosen = controls.label.selectedIndex - 1;
    Plotly.restyle(plot, { "marker.opacity": plot.data.map((_, i) => (chosen < 0 ? 0.85 : i === chosen ? 1 : 0.08)) });
  };
  fitControls();
  for (const select of all("select")) {
    select.addEventListener("change", async () => {
      select.dataset.touched = "yes";
      if (select.name === "pair") fitControls();
      if (select.name !== "label") await Promise.all(plots.filter((plot) => select.name === "pair" || plot.dataset.path.split(" ").includes(select.name)).map(draw));
      highlight();
    });
  }
  dark.addEventListener("change", drawAll);
  const closed = all("details:not([open])");
  addEventListener("beforeprint", () => { printing = true; closed.forEach((part) => { part.open = true; }); drawAll(); });
  addEventListener("afterprint", () => { printing = false; closed.forEach((part) => { part.open = false; }); drawAll(); });
  await drawAll();
  document.documentElement.dataset.ready = "yes";
};
one("button.save")?.addEventListener("click", (event) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([one("#config").textContent], { type: "text/yaml" }));
  link.download = event.target.dataset.name;
  link.click();
});
start();
