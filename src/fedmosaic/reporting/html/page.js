"use strict";
for (const box of document.querySelectorAll("[data-matrix]")) {
  const { rounds, frames } = JSON.parse(document.getElementById(box.dataset.matrix).textContent);
  const selects = [...box.querySelectorAll("select")];
  const slider = box.querySelector("input");
  const cells = [...box.querySelectorAll("td")];
  const show = () => {
    const frame = frames[selects.map((select) => select.selectedIndex).join(".")];
    const round = Number(slider.value);
    const values = frame.cells[round];
    box.querySelector("output").textContent = rounds[round];
    box.querySelector(".info").textContent = frame.info[round] ?? "";
    cells.forEach((cell, index) => {
      const value = values[index];
      cell.textContent = value === null ? "" : Math.round(value / 10);
      cell.style.setProperty("--v", `${value === null ? 0 : Math.min(100, Math.round((100 * Math.abs(value)) / frame.scale))}%`);
      if (value < 0) cell.style.setProperty("--cell", "var(--minus)");
      else cell.style.removeProperty("--cell");
    });
  };
  slider.addEventListener("input", show);
  for (const select of selects) select.addEventListener("change", show);
}
