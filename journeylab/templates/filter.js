const box = document.getElementById("filter");
const rows = [...document.querySelectorAll("tbody tr")];
const shown = document.getElementById("shown");
box.parentElement.hidden = false;
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/);
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
  const n = rows.filter(row => !row.hidden).length;
  shown.textContent = box.dataset.shown.replace("{n}", n).replace("{all}", rows.length);
});
