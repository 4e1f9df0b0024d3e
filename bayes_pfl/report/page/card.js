// One image, large, with a layer of any opacity over it, and all that is known about it.
const card = byId('card'), stage = byId('card-stage'), fade = byId('card-fade');
let current = null;

function fit(frame) {
  const ratio = Number(frame.dataset.ratio);
  const wide = ratio >= stage.clientWidth / stage.clientHeight;
  frame.classList.toggle('wide', wide);
  frame.classList.toggle('tall', !wide);
}

function drawStage() {
  if (!current.picture) { stage.replaceChildren(current.error || 'no picture'); return; }
  const base = pictureWindow(current, current.name, 'base');
  const top = pictureWindow(current, state.layer ? altText(current) : '', 'top');
  for (const frame of [base, top]) frame.addEventListener('sized', () => fit(frame));
  stage.replaceChildren(base, top);
  drawFade();
}

function drawFade() {
  const top = stage.querySelector('.top');
  if (top) top.style.opacity = fade.value / 100;
  fade.setAttribute('aria-valuetext', `${fade.value}% ${layerName()}`);
  byId('card-top').textContent = layerName();
  fade.parentElement.hidden = state.layer === 0;
}

function drawFacts() {
  const truth = current.truth === null ? '' : current.truth ? 'anomalous' : 'normal';
  const interval = current.low === null ? '' : `${three(current.low)} to ${three(current.high)}`;
  const facts = [['Score', three(current.score)], ['95% interval', interval],
    ['Threshold', three(state.threshold)], ['Uncertainty', three(current.uncertainty)],
    ['p-value', three(current.p_value)], ['Class', current.group], ['Label', truth],
    ['Size', current.size], ['Problem', current.error]];
  byId('card-facts').replaceChildren(...facts.filter(([, text]) => text).map(([name, text]) =>
    make('div', {}, make('dt', {}, name), make('dd', {}, text))));
  byId('card-verdict').replaceChildren(...chips(current));
  for (const key of ['near', 'crops']) {
    const figure = byId(`card-${key}`);
    figure.hidden = !current[key];
    if (current[key]) figure.querySelector('img').setAttribute('src', current[key]);
  }
  byId('card-zoom').hidden = !current.picture;
  const link = byId('card-link');
  link.hidden = !current.link;
  if (current.link) link.setAttribute('href', current.link);
}

function drawCard() {
  byId('card-name').textContent = current.name;
  const place = state.list.indexOf(current);
  byId('card-previous').disabled = place <= 0;
  byId('card-next').disabled = place < 0 || place >= state.list.length - 1;
  drawStage();
  drawFacts();
}

function openCard(row) {
  current = row;
  card.showModal();
  drawCard();
}

function step(by) {
  const row = state.list[state.list.indexOf(current) + by];
  if (row) { current = row; drawCard(); }
}

function startCard() {
  byId('card-previous').addEventListener('click', () => step(-1));
  byId('card-next').addEventListener('click', () => step(1));
  fade.addEventListener('input', drawFade);
  card.addEventListener('keydown', (event) => {
    if (event.target.matches('input')) return;
    if (event.key === 'ArrowLeft') step(-1);
    if (event.key === 'ArrowRight') step(1);
  });
  card.addEventListener('click', (event) => { if (event.target === card) card.close(); });
  stage.addEventListener('click', () => openZoom(current));
  byId('card-zoom').addEventListener('click', () => openZoom(current));
  card.addEventListener('close', () => {
    const item = drawn.find((shown) => shown.row === current);
    if (item) item.element.querySelector('button').focus();
  });
}
