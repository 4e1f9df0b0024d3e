// Gallery and table: the same rows in the same order, drawn part by part while scrolling.
const gallery = byId('gallery'), table = byId('table'), more = byId('more');
const PART = {gallery: 60, table: 200};
let drawn = [];

// One file holds all panels of an image side by side; a window shows one of them.
function pictureWindow(row, alt, kind = '') {
  const frame = make('span', {className: `window ${kind}`});
  const image = make('img', {alt, loading: kind ? 'eager' : 'lazy', decoding: 'async'});
  image.addEventListener('load', () => {
    const ratio = image.naturalWidth / data.panels.length / image.naturalHeight;
    frame.style.setProperty('--ratio', ratio);
    frame.dataset.ratio = ratio;
    frame.classList.add(ratio < 1 ? 'tall' : 'wide');
    frame.dispatchEvent(new Event('sized'));
  });
  image.addEventListener('error', () => frame.replaceChildren('picture not found'));
  image.src = row.picture;
  frame.append(image);
  return frame;
}

const altText = (row) => (state.layer ? `${layerName()} of ${row.name}` : row.name);

// The score with its interval on the histogram's scale, and the threshold.
function gauge(row) {
  const box = draw('svg', {viewBox: '0 0 200 10', class: 'gauge', 'aria-hidden': 'true', preserveAspectRatio: 'none'});
  const x = (value) => 4 + 192 * Math.min(1, Math.max(0, (value - LOW) / (TOP - LOW)));
  box.append(draw('line', {x1: 4, x2: 196, y1: 5, y2: 5, class: 'rail'}));
  if (row.low !== null && row.high !== null) {
    box.append(draw('line', {x1: x(row.low), x2: x(row.high), y1: 5, y2: 5, class: 'reach'}));
  }
  box.append(draw('line', {x1: x(state.threshold), x2: x(state.threshold), y1: 0, y2: 10, class: 'limit'}));
  box.append(draw('circle', {cx: x(row.score), cy: 5, r: 3.5, class: 'dot'}));
  return box;
}

function words(row) {
  const marks = row.score === null ? [] : [make('b', {}, three(row.score))];
  return [make('span', {className: 'figure'}, ...marks, ...chips(row)),
    ...(row.score === null ? [] : [gauge(row)]), make('span', {className: 'name', title: row.name}, row.name)];
}

function tile(row) {
  const frame = make('span', {className: 'frame'},
    row.picture ? pictureWindow(row, altText(row)) : row.score === null ? 'not read' : 'no picture');
  const text = make('span', {className: 'words'});
  const button = make('button', {type: 'button'}, frame, text);
  const update = () => {
    text.replaceChildren(...words(row));
    button.className = flagged(row) ? 'tile flagged' : 'tile';
  };
  update();
  button.addEventListener('click', () => openCard(row));
  return {row, element: make('li', {}, button), update, image: frame.querySelector('img')};
}

const COLUMNS = [
  ['name', 'Image', (row) => row.name],
  ['group', 'Class', (row) => row.group],
  ['score', 'Score', (row) => three(row.score)],
  ['low', 'Interval', (row) => (row.low === null ? '' : `${three(row.low)} to ${three(row.high)}`)],
  ['uncertainty', 'Uncertainty', (row) => three(row.uncertainty)],
  ['p_value', 'p-value', (row) => three(row.p_value)],
  ['size', 'Size', (row) => row.size],
  ['error', 'Problem', (row) => row.error],
].filter(([key]) => known[key]);
const NUMBERS = ['score', 'low', 'uncertainty', 'p_value', 'size'];

function line(row) {
  const verdict = make('td', {className: 'verdict', 'data-name': 'Verdict'});
  const cells = COLUMNS.map(([key, title, text]) => {
    const className = NUMBERS.includes(key) ? 'number' : '';
    if (key !== 'name') return make('td', {className, 'data-name': title}, text(row) || '');
    const button = make('button', {type: 'button', className: 'name'}, row.name);
    button.addEventListener('click', () => openCard(row));
    return make('th', {scope: 'row'}, button);
  });
  cells.splice(Math.min(3, cells.length), 0, verdict);
  const update = () => verdict.replaceChildren(...chips(row).flatMap((chip) => [chip, ' ']));
  update();
  return {row, element: make('tr', {}, ...cells), update};
}

function drawHead() {
  const heads = COLUMNS.map(([key, title]) => {
    const sorted = state.sort === key;
    const mark = sorted ? (state.rising ? ' ▲' : ' ▼') : '';
    const button = make('button', {type: 'button'}, title + mark);
    button.addEventListener('click', () => {
      sortBy(key, sorted ? !state.rising : key === 'name' || key === 'group');
      table.tHead.querySelector(`[data-key="${key}"] button`).focus();
    });
    const direction = sorted ? (state.rising ? 'ascending' : 'descending') : 'none';
    const className = NUMBERS.includes(key) ? 'number' : '';
    return make('th', {scope: 'col', 'aria-sort': direction, 'data-key': key, className}, button);
  });
  heads.splice(Math.min(3, heads.length), 0, make('th', {scope: 'col'}, 'Verdict'));
  table.tHead.rows[0].replaceChildren(...heads);
}

function drawMore() {
  const start = drawn.length, build = state.view === 'table' ? line : tile;
  const added = state.list.slice(start, start + PART[state.view]).map(build);
  drawn.push(...added);
  const home = state.view === 'table' ? table.tBodies[0] : gallery;
  home.append(...added.map((item) => item.element));
  more.hidden = drawn.length >= state.list.length;
  more.textContent = `Show more (${state.list.length - drawn.length} left)`;
  return added;
}

function drawList() {
  choose();
  drawn = [];
  gallery.replaceChildren();
  table.tBodies[0].replaceChildren();
  gallery.hidden = state.view !== 'gallery';
  byId('table-frame').hidden = state.view !== 'table';
  if (state.view === 'table') drawHead();
  byId('nothing').hidden = state.list.length > 0;
  byId('shown').textContent = `${state.list.length} of ${rows.length}`;
  drawMore();
}

function thresholdMoved() {
  const moves = ['flagged', 'below', 'review', 'alarms', 'missed'].includes(state.show);
  if (moves || state.sort === 'edge') drawList(); else drawn.forEach((item) => item.update());
}
