// The controls above the images, and the start of the page.
const SORTS = [
  ['score', false, 'highest score'], ['score', true, 'lowest score'],
  ['uncertainty', false, 'most uncertain'], ['edge', true, 'nearest the threshold'],
  ['name', true, 'name'], ['group', true, 'class'],
].filter(([key]) => key === 'edge' || known[key]);

function sortBy(key, rising) {
  Object.assign(state, {sort: key, rising});
  const place = SORTS.findIndex(([name, way]) => name === key && way === rising);
  byId('sort').selectedIndex = place;
  drawList();
}

function options(select, texts) {
  select.replaceChildren(...texts.map(([value, text]) => make('option', {value}, text)));
}

function setLayer(layer) {
  state.layer = layer;
  document.documentElement.style.setProperty('--panel', layer);
  for (const item of drawn) if (item.image) item.image.alt = altText(item.row);
  for (const input of document.querySelectorAll('input[name$="layer"]')) input.checked = Number(input.value) === layer;
  for (const scale of document.querySelectorAll('.scale')) {
    const panel = layer === 3 ? 'uncertainty' : layer === 2 || layer === 1 ? 'map' : '';
    scale.hidden = scale.dataset.panel ? scale.dataset.panel !== panel : layer !== 1;
  }
  if (current && card.open) { drawStage(); drawFade(); }
}

function layerSwitch(home, name) {
  data.panels.forEach((panel, layer) => {
    const input = make('input', {type: 'radio', name, value: layer, checked: layer === state.layer});
    input.addEventListener('change', () => setLayer(layer));
    home.append(make('label', {}, input, make('span', {}, panel)));
  });
}

// A cell for a spreadsheet; a quote in front keeps a name from being read as a formula.
function cell(value) {
  const text = value === null || value === undefined ? '' : String(value);
  return `"${(/^[=+\-@\t\r]/.test(text) && typeof value === 'string' ? `'${text}` : text).replaceAll('"', '""')}"`;
}

function saveList() {
  const lines = state.list.map((row) => [row.name, row.group, row.score, state.threshold,
    row.score === null ? '' : flagged(row) ? BAD : GOOD, doubtful(row) ? 'review' : '', row.error]);
  const head = ['path', 'class', 'score', 'threshold', 'verdict', 'review', 'problem'];
  const text = [head, ...lines].map((values) => values.map(cell).join(',')).join('\n') + '\n';
  const link = make('a', {href: URL.createObjectURL(new Blob(['\ufeff', text], {type: 'text/csv'})), download: 'list.csv'});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function startTools() {
  document.documentElement.style.setProperty('--panels', data.panels.length);
  const offered = Object.entries(SHOWN).filter(([key]) => (key === 'review' ? known.review
    : key === 'alarms' || key === 'missed' ? labelled : key === 'errors' ? known.error : true));
  options(byId('show'), offered.map(([key, [text]]) => [key, text]));
  options(byId('sort'), SORTS.map(([, , text], place) => [place, text]));
  layerSwitch(byId('layer'), 'layer');
  layerSwitch(byId('card-layer'), 'card-layer');
  byId('show').addEventListener('change', (event) => { state.show = event.target.value; drawList(); });
  byId('sort').addEventListener('change', (event) => sortBy(...SORTS[event.target.value]));
  byId('filter').addEventListener('input', (event) => { state.filter = event.target.value; drawList(); });
  byId('view').addEventListener('change', (event) => { state.view = event.target.value; drawList(); });
  byId('save').addEventListener('click', saveList);
  document.querySelector('a[href="#skipped"]')?.addEventListener('click', () => { byId('skipped').open = true; });
  byId('clear').addEventListener('click', () => {
    Object.assign(state, {filter: '', show: 'all'});
    byId('filter').value = '';
    byId('show').value = 'all';
    drawList();
    byId('filter').focus();
  });
  more.addEventListener('click', () => {
    const [first] = drawMore();
    if (first) first.element.querySelector('button').focus();
  });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && !more.hidden) drawMore();
  }, {rootMargin: '900px'}).observe(more.parentElement);
}

startHistogram();
startTools();
startCard();
startZoom();
setLayer(known.picture ? 1 : 0);
drawList();
document.documentElement.dataset.ready = 'true';
