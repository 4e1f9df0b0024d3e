// The rows, the threshold, and the questions about both. Text from files is set as text, never as markup.
const data = JSON.parse(document.getElementById('data').textContent);
const KEYS = ['name', 'group', 'score', 'low', 'high', 'uncertainty', 'p_value', 'truth', 'review',
  'size', 'error', 'picture', 'link', 'near', 'crops', 'zoom'];
const [GOOD, BAD] = data.words; // what a verdict is called
const known = Object.fromEntries(KEYS.map((key) => [key, key in data.columns]));
const rows = Array.from({length: data.count}, (_, index) => {
  const row = {index};
  for (const key of KEYS) row[key] = known[key] ? data.columns[key][index] : null;
  row.words = `${row.name}\n${row.group || ''}`.toLowerCase();
  return row;
});
const scored = rows.filter((row) => row.score !== null);
const groups = [...new Set(rows.map((row) => row.group || ''))].sort();
const state = {
  threshold: data.threshold, layer: 1, view: 'gallery', sort: 'score', rising: false,
  show: 'all', filter: '', list: [],
};

const byId = (id) => document.getElementById(id);
const three = (value) => (value === null ? '' : value.toFixed(3));
const flagged = (row) => row.score !== null && state.threshold !== null && row.score >= state.threshold;
// Of the run's own threshold: what is near another one, only the normal pictures could say.
const doubtful = (row) => row.review === true && state.threshold === data.threshold;
const wrong = (row) => row.truth !== null && row.score !== null && flagged(row) !== (row.truth === 1);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function chips(row) {
  if (row.score === null) return [make('span', {className: 'chip flag'}, '✕ no score')];
  const marks = [flagged(row)
    ? make('span', {className: 'chip flag'}, `▲ ${BAD}`)
    : make('span', {className: 'chip below'}, `● ${GOOD}`)];
  if (doubtful(row)) marks.push(make('span', {className: 'chip review'}, '◆ review'));
  if (row.truth !== null) {
    const truth = row.truth ? 'anomalous' : 'normal';
    marks.push(wrong(row) ? make('span', {className: 'chip flag'}, `✕ is ${truth}`)
      : make('span', {className: 'chip truth'}, `is ${truth}`));
  }
  return marks;
}

const layerName = () => data.panels[state.layer];
const SHOWN = {
  all: ['all', () => true],
  flagged: [BAD, flagged],
  below: [GOOD, (row) => row.score !== null && !flagged(row)],
  review: ['to review', doubtful],
  alarms: ['false alarms', (row) => row.truth === 0 && flagged(row)],
  missed: ['missed', (row) => row.truth === 1 && row.score !== null && !flagged(row)],
  errors: ['with a problem', (row) => Boolean(row.error)],
};
const count = (test) => rows.reduce((sum, row) => sum + (test(row) ? 1 : 0), 0);
const compareText = new Intl.Collator('en', {numeric: true}).compare;

// Missing values come last in either direction; equal values keep the order of the run.
function compare(key, rising) {
  const sign = rising ? 1 : -1;
  const value = (row) => (key === 'edge'
    ? (row.score === null ? null : Math.abs(row.score - state.threshold)) : row[key]);
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a.index - b.index;
    return sign * (typeof x === 'string' ? compareText(x, y) : x - y) || a.index - b.index;
  };
}

function choose() {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const test = SHOWN[state.show][1];
  state.list = rows.filter((row) => test(row) && words.every((word) => row.words.includes(word)));
  state.list.sort(compare(state.sort, state.rising));
}
