(() => {
  const tip = document.createElement("div");
  tip.className = "tip"; tip.hidden = true; tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  // The browser's own tooltips give way to ours; screen readers keep the words.
  for (const title of document.querySelectorAll("svg title")) {
    const owner = title.parentNode;
    if (owner.matches("svg")) {
      owner.setAttribute("aria-label", title.textContent);
      owner.removeAttribute("aria-labelledby");
    } else owner.tip = title.textContent;
    title.remove();
  }
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cross.setAttribute("class", "cross");
  const show = (text, x, y) => {
    tip.textContent = text; tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y + box.height + 26 > innerHeight ? y - box.height - 12 : y + 18) + "px";
  };
  const hide = () => { tip.hidden = true; cross.remove(); };
  // On a ROC panel: the highest sensitivity of each visible line at most this far right.
  const read = (chart, event) => {
    // The diagonal goes from (0, 0) to (1, 1).
    const [x0, y0, x1, y1] = ["x1", "y1", "x2", "y2"].map(end => +chart.querySelector(".diagonal").getAttribute(end));
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    const share = (at.x - x0) / (x1 - x0);
    if (share < 0 || share > 1 || at.y < y1 - 6 || at.y > y0 + 6) return hide();
    const found = [];
    for (const curve of chart.querySelectorAll(".curve")) {
      if (getComputedStyle(curve).display === "none") continue;
      const ys = [...curve.querySelector("polyline").points].filter(p => p.x <= at.x + .5).map(p => p.y);
      if (ys.length) found.push([(y0 - Math.min(...ys)) / (y0 - y1), curve.dataset.label]);
    }
    for (const [end, y] of [[1, y1], [2, y0]]) {
      cross.setAttribute("x" + end, at.x); cross.setAttribute("y" + end, y);
    }
    chart.append(cross);
    found.sort((a, b) => b[0] - a[0]);
    show(`False-positive rate ${share.toFixed(2)}\n` + found.map(f => `${f[0].toFixed(2)}  ${f[1]}`).join("\n"),
      event.clientX, event.clientY);
  };
  document.addEventListener("pointermove", event => {
    const mark = event.target.closest("svg .mark"), chart = event.target.closest("svg.roc");
    if (mark) show(mark.tip, event.clientX, event.clientY);
    else if (chart) read(chart, event);
    else hide();
  });
  document.addEventListener("scroll", hide, { passive: true });
  // A hypothesis ticked in one section is ticked in the others.
  document.addEventListener("change", event => {
    if (event.target.matches(".keys input"))
      for (const box of document.querySelectorAll(".keys input"))
        if (box.value === event.target.value) box.checked = event.target.checked;
  });
  // Long tables get a field that leaves only the rows that hold its words.
  for (const fold of document.querySelectorAll(".search")) {
    const rows = [...fold.querySelectorAll("tbody tr")];
    if (rows.length < 8) continue;
    const label = document.createElement("label"), field = document.createElement("input"), told = document.createElement("span");
    label.className = "find"; field.type = "search"; field.autocomplete = "off"; told.setAttribute("role", "status");
    label.append("Find in this table ", field); fold.querySelector("summary").after(label); label.after(told);
    told.className = "far";
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every(word => text.includes(word));
        n += !row.hidden;
      }
      told.textContent = words.length ? `${n} of ${rows.length} rows` : "";
    });
  }
  const seen = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      document.querySelector("nav [aria-current]")?.removeAttribute("aria-current");
      document.querySelector(`nav a[href="#${target.id}"]`)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70%" });
  document.querySelectorAll("main > section").forEach(section => seen.observe(section));
})();
