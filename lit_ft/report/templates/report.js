(() => {
  const one = s => document.querySelector(s), all = s => [...document.querySelectorAll(s)];
  document.documentElement.classList.add("on");
  const items = all("#texts li"), list = one("#texts"), more = one("#more");
  const folded = s => s.normalize("NFKC").toLowerCase();  // an accent or a full-width letter is typed in several ways
  let most = 10, whole = "";
  const holds = (classes, one) => !one || classes.split(" ").includes(one);  // of several labels all that are meant
  const draw = () => {
    const given = one("#given").value, said = one("#said").value, word = folded(one("#word").value);
    const doubted = one("#doubted").checked;
    let found = 0;
    for (const item of items) {
      const fits = holds(item.dataset.given, given) && holds(item.dataset.said, said)
        && (!doubted || item.querySelector(".tag")) && (!word || folded(item.textContent).includes(word));
      found += fits;
      item.hidden = !fits || found > most;
    }
    one("#found").textContent = `${Math.min(found, most)} of ${found} shown` + (whole && `, of ${whole} in all`);
    more.hidden = found <= most;
    one("#none").hidden = found > 0;
  };
  if (list) {
    one("#filters").addEventListener("input", event => {
      if (event.target.id === "order") {
        const key = event.target.value;
        items.sort((a, b) => key === "sure" ? b.dataset.sure - a.dataset.sure : a.dataset.place - b.dataset.place);
        list.append(...items);
      }
      most = 10;
      whole = "";
      draw();
    });
    one("#filters").addEventListener("submit", event => event.preventDefault());
    more.addEventListener("click", () => { most = Infinity; draw(); });
    for (const link of all("a[data-given]")) link.addEventListener("click", () => {
      one("#given").value = link.dataset.given;
      one("#said").value = link.dataset.said;
      one("#word").value = "";
      one("#doubted").checked = false;
      most = 10;
      whole = link.textContent;
      draw();
    });
    draw();
  }
  const slider = one("#least");
  if (slider) {
    const data = JSON.parse(one("#accepted").textContent);
    const show = () => {
      const i = Math.round(slider.value), taken = data.accepted[i], rows = data.accepted[0];
      one("#value").textContent = (i / 100).toFixed(2);
      const said = n => n.toLocaleString("en");
      one("#outcome").textContent = taken
        ? `${said(taken)} of ${said(rows)} texts (${(100 * taken / rows).toFixed(1)} %) are accepted, `
          + `${(100 * data.right[i] / taken).toFixed(1)} % of these are right, ${said(taken - data.right[i])} wrong; ${said(rows - taken)} are left for a person.`
        : "No text is that sure.";
    };
    slider.addEventListener("input", show);
    show();
  }
})();
