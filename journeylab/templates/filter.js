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
  shown.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length}`;
});
