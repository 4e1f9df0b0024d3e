// One image as large as it is. Of a full picture beside the page the parts in view are fetched, at the
// level that fits; bayes_pfl/report/zoom.py writes them.
const zoom = byId('zoom'), ground = byId('zoom-ground'), plane = byId('zoom-plane');
const view = {row: null, width: 1, height: 1, scale: 1, x: 0, y: 0, tiles: new Map()};
const fingers = new Map();
const MOST_ENLARGED = 16, STEP = 1.5, MOVE = 80;
const bounded = (value, low, high) => Math.min(Math.max(value, low), high);

function levels() {
  const longest = Math.max(view.width, view.height);
  const side = longest <= data.zoom.single ? longest : data.zoom.tile;
  return {side, last: Math.max(0, Math.ceil(Math.log2(longest / side)))};
}

function newTile(key) {
  const tile = make('img', {alt: '', decoding: 'async', draggable: false});
  tile.style.zIndex = 20 - key.split('-')[0];
  tile.addEventListener('error', () => {
    tile.remove();
    byId('zoom-note').textContent = 'Small copy: the full picture is not beside this page; keep the folder report/ next to it.';
  });
  tile.src = `${view.row.zoom}/${key}.jpg`;
  byId('zoom-tiles').append(tile);
  return tile;
}

// Tiles of this level and of the coarser ones below it, so that no hole is seen while they load.
function tilesInView() {
  const {side, last} = levels(), found = new Map();
  const fine = bounded(Math.floor(-Math.log2(view.scale * devicePixelRatio)), 0, last);
  for (let level = last; level >= fine; level -= 1) {
    const step = side * 2 ** level, most = [view.width, view.height].map((length) => Math.ceil(length / step));
    const from = (start) => Math.max(0, Math.floor(-start / view.scale / step));
    const to = (start, room, count) => Math.min(count, Math.ceil((room - start) / view.scale / step));
    for (let line = from(view.y); line < to(view.y, ground.clientHeight, most[1]); line += 1) {
      for (let column = from(view.x); column < to(view.x, ground.clientWidth, most[0]); column += 1) {
        found.set(`${level}-${column}-${line}`, [column * step, line * step, step, 2 ** level]);
      }
    }
  }
  return found;
}

function drawTiles() {
  const wanted = view.row.zoom ? tilesInView() : new Map();
  for (const [key, tile] of view.tiles) {
    if (!wanted.has(key)) { tile.remove(); view.tiles.delete(key); }
  }
  for (const [key, [x, y, step, unit]] of wanted) {
    if (!view.tiles.has(key)) view.tiles.set(key, newTile(key));
    const end = (start, length) => Math.min(start + step, Math.ceil(length / unit) * unit);
    const [left, top] = [x, y].map((place) => Math.round(place * view.scale));
    Object.assign(view.tiles.get(key).style, {left: `${left}px`, top: `${top}px`,
      width: `${Math.round(end(x, view.width) * view.scale) - left}px`,
      height: `${Math.round(end(y, view.height) * view.scale) - top}px`});
  }
}

const held = (start, length, room) => (length <= room ? (room - length) / 2 : bounded(start, room - length, 0));

function drawZoom() {
  const [width, height] = [view.width * view.scale, view.height * view.scale];
  view.x = held(view.x, width, ground.clientWidth);
  view.y = held(view.y, height, ground.clientHeight);
  Object.assign(plane.style, {left: `${view.x}px`, top: `${view.y}px`, width: `${width}px`, height: `${height}px`});
  byId('zoom-scale').textContent = `${(100 * view.scale).toPrecision(3) / 1}%`;
  drawTiles();
}

const whole = () => Math.min(ground.clientWidth / view.width, ground.clientHeight / view.height);

// Enlarge around a place of the window; without one around its middle.
function enlarge(factor, x = ground.clientWidth / 2, y = ground.clientHeight / 2) {
  const scale = bounded(view.scale * factor, Math.min(1, whole()), Math.max(MOST_ENLARGED, whole()));
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  drawZoom();
}

function drawZoomLayer() {
  const top = plane.querySelector('.top');
  if (top) top.style.opacity = byId('zoom-fade').value / 100;
  byId('zoom-top').textContent = layerName();
  byId('zoom-fade').parentElement.hidden = state.layer === 0;
}

function openZoom(row) {
  if (!row.picture) return;
  const base = pictureWindow(row, row.name, 'base'), top = pictureWindow(row, '', 'top');
  const measure = () => {
    const [width, height] = (row.size || '').split('×').map(Number);
    const small = base.querySelector('img').naturalWidth / data.panels.length;
    Object.assign(view, {width: width || small, height: height || small / Number(base.dataset.ratio)});
    if (!row.zoom && view.width > small) byId('zoom-note').textContent = 'Small copy: the run kept no full picture of this image.';
    view.scale = whole();
    drawZoom();
  };
  view.row = row;
  view.tiles.clear();
  [byId('zoom-name').textContent, byId('zoom-note').textContent] = [row.name, ''];
  plane.replaceChildren(base, make('div', {id: 'zoom-tiles'}), top);
  zoom.showModal();
  base.addEventListener('sized', measure);
  drawZoomLayer();
}

const middle = () => {
  const [[x, y], [x2, y2]] = [...fingers.values(), ...fingers.values()];
  return fingers.size > 1 ? [(x + x2) / 2, (y + y2) / 2, Math.hypot(x - x2, y - y2)] : [x, y, 0];
};

function moveFinger(event) {
  if (!fingers.has(event.pointerId)) return;
  const [x, y, apart] = middle(), box = ground.getBoundingClientRect();
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  const [newX, newY, now] = middle();
  view.x += newX - x;
  view.y += newY - y;
  enlarge(apart && now ? now / apart : 1, newX - box.left, newY - box.top);
}

function startZoom() {
  const keys = {'+': () => enlarge(STEP), '=': () => enlarge(STEP), '-': () => enlarge(1 / STEP),
    0: () => enlarge(whole() / view.scale), 1: () => enlarge(1 / view.scale)};
  const moves = {ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE]};
  const buttons = {'zoom-more': '+', 'zoom-less': '-', 'zoom-whole': '0', 'zoom-full': '1'};
  for (const [id, key] of Object.entries(buttons)) byId(id).addEventListener('click', keys[key]);
  zoom.addEventListener('keydown', (event) => {
    if (keys[event.key]) keys[event.key]();
    if (!moves[event.key] || event.target.matches('input')) return;
    event.preventDefault();
    [view.x, view.y] = moves[event.key].map((by, axis) => by + (axis ? view.y : view.x));
    drawZoom();
  });
  ground.addEventListener('wheel', (event) => {
    event.preventDefault();
    const box = ground.getBoundingClientRect();
    enlarge(Math.exp(-event.deltaY / 500), event.clientX - box.left, event.clientY - box.top);
  }, {passive: false});
  ground.addEventListener('pointerdown', (event) => {
    ground.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  ground.addEventListener('pointermove', moveFinger);
  for (const end of ['pointerup', 'pointercancel']) ground.addEventListener(end, (event) => fingers.delete(event.pointerId));
  byId('zoom-fade').addEventListener('input', drawZoomLayer);
  byId('zoom-close').addEventListener('click', () => zoom.close());
  zoom.addEventListener('close', () => plane.replaceChildren());
  new ResizeObserver(() => { if (zoom.open) drawZoom(); }).observe(ground);
}
