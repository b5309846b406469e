// The pages of a folder without a server: scripts bring the data, because pages from files may load nothing else.
const PAGE = 50, CHUNK = 16, KEPT = 8, DENSE = 0.2;
const $ = id => document.getElementById(id);
const chunks = new Map(), waiting = new Map();
let all, sorted = [], shownPage = 0, current = null;

globalThis.KernelScope = {
  index(packed) { unpack(packed).then(start, fail); },
  chunk(number, members) {
    chunks.set(number, members);
    if (chunks.size > KEPT)
      chunks.delete(chunks.keys().next().value);
    waiting.get(number)?.resolve(members);
  },
};

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
  return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text());
}

function fail(error) {
  $('status').hidden = false;
  $('status').textContent = `This cannot be shown: ${error.message}`;
}

/** The chunk of a feature, by a script that calls back. */
function chunkOf(index) {
  const number = Math.floor(index / CHUNK);
  if (chunks.has(number))
    return Promise.resolve(chunks.get(number));
  if (!waiting.has(number)) {
    const held = Promise.withResolvers ? Promise.withResolvers() : resolvers();
    waiting.set(number, held);
    const script = document.createElement('script');
    script.src = `site/${String(number).padStart(6, '0')}.js`;
    script.onload = () => { script.remove(); waiting.delete(number); held.reject(new Error('the file of this feature is damaged')); };
    script.onerror = () => { script.remove(); waiting.delete(number); held.reject(new Error('the file of this feature is missing')); };
    document.head.append(script);
  }
  return waiting.get(number).promise;
}

function resolvers() {
  const held = {};
  held.promise = new Promise((resolve, reject) => Object.assign(held, { resolve, reject }));
  return held;
}

function start(index) {
  all = index.index.map((feature, i) => ({
    feature, firing: index.firing[i], max: index.max[i], label: index.label[i], words: index.words[i],
    text: fold(`${index.label[i]} ${index.words[i]}`),
  }));
  all.info = index.info;
  document.title = `Features of ${index.info.source}`;
  $('list-title').textContent = `Features of ${index.info.source}`;
  $('source').textContent = `${index.info.model_id} at ${index.info.site}: ${all.length.toLocaleString('en')} features over ` +
    `${index.info.counted_positions.toLocaleString('en')} positions of ${index.info.dataset}.`;
  // Where somebody has labelled features, those make the first page.
  if (all.some(f => f.label !== ''))
    $('sort').value = 'label';
  for (const id of ['sort', 'show-dense', 'show-dead'])
    $(id).addEventListener('change', () => { shownPage = 0; list(); });
  $('query').addEventListener('input', () => { shownPage = 0; if (location.hash.length > 1) location.hash = ''; else list(); });
  $('search').addEventListener('submit', event => event.preventDefault());
  $('back').addEventListener('click', () => turn(-1));
  $('more').addEventListener('click', () => turn(1));
  $('around-tokens').addEventListener('change', () => examples());
  addEventListener('hashchange', route);
  $('status').hidden = true;
  route();
}

function route() {
  const index = /^#(\d{1,9})$/.exec(location.hash)?.[1];
  $('list').hidden = index !== undefined;
  $('feature').hidden = index === undefined;
  $('status').hidden = true;
  if (index === undefined)
    list();
  else
    show(Number(index)).catch(error => { $('feature').hidden = true; fail(error); });
}

const fold = text => text.toLowerCase().normalize('NFD').replace(/\p{M}/gu, '');

function turn(by) {
  shownPage += by;
  list();
  $('list-title').scrollIntoView();
}

function list() {
  const words = fold($('query').value).split(/\s+/).filter(w => w.length > 0), positions = all.info.counted_positions;
  const isAsked = f => words.every(w => f.text.includes(w) || String(f.feature) === w);
  const isMeant = f => (f.firing > 0 || $('show-dead').checked) && (f.firing <= DENSE * positions || $('show-dense').checked);
  sorted = all.filter(f => isAsked(f) && (words.length > 0 || isMeant(f)));
  const by = {
    index: (a, b) => a.feature - b.feature, dense: (a, b) => b.firing - a.firing, rare: (a, b) => a.firing - b.firing,
    max: (a, b) => b.max - a.max, label: (a, b) => (a.label === '') - (b.label === '') || (a.label < b.label ? -1 : a.label > b.label ? 1 : 0),
  }[$('sort').value];
  sorted.sort((a, b) => by(a, b) || a.feature - b.feature);
  const pages = Math.max(1, Math.ceil(sorted.length / PAGE));
  shownPage = Math.min(Math.max(0, shownPage), pages - 1);
  $('rows').replaceChildren(...sorted.slice(shownPage * PAGE, (shownPage + 1) * PAGE).map(f => element('tr', {},
    element('td', {}, element('a', { href: `#${f.feature}` }, String(f.feature))),
    element('td', {}, f.label || element('span', { class: 'dim' }, f.words)),
    element('td', { class: 'num' }, percent(f.firing, positions)), element('td', { class: 'num' }, number(f.max)))));
  $('count').textContent = `${sorted.length.toLocaleString('en')} of ${all.length.toLocaleString('en')}`;
  $('page').textContent = `page ${shownPage + 1} of ${pages}`;
  $('back').disabled = shownPage === 0;
  $('more').disabled = shownPage === pages - 1;
}

async function show(index) {
  const members = await chunkOf(index);
  if (members[index] === undefined)
    throw new Error(`there is no page of feature ${index}`);
  const row = await unpack(members[index]);
  if (location.hash !== `#${index}`)
    return;
  current = row;
  const facts = row.kernelscope;
  $('title').textContent = `Feature ${index}`;
  around(index);
  $('labels').replaceChildren(...row.explanations.map(e => element('p', {}, element('strong', {}, e.description))));
  $('marks').replaceChildren(...[
    facts.dead ? `did not fire in ${facts.counted_positions.toLocaleString('en')} positions` : `fires on ${percent(facts.firing_positions, facts.counted_positions)}`,
    facts.dead ? null : `largest ${number(row.maxActApprox)}`, facts.dead ? null : `mean ${number(facts.mean)}`,
    facts.dense ? 'frequent: more than a tenth of all positions' : null,
  ].filter(text => text !== null).map(text => element('span', { class: 'mark' }, text)));
  table('positive', row.pos_str.map((piece, i) => [code(piece), row.pos_values[i].toFixed(3)]));
  table('negative', row.neg_str.map((piece, i) => [code(piece), row.neg_values[i].toFixed(3)]));
  table('tokens', facts.top_tokens.map(t => [code(t.piece), `${t.count.toLocaleString('en')} ${t.count === 1 ? 'time' : 'times'}, mean ${number(t.mean)}`]));
  table('together', (facts.co_firing ?? []).map(c => [link(c.index), `${c.count.toLocaleString('en')} ${c.count === 1 ? 'time' : 'times'}, ${percent(c.value, 1)} in common`]));
  table('nearest', row.topkCosSimIndices.map((other, i) => [link(other), `cosine ${number(row.topkCosSimValues[i])}`]));
  $('histograms').replaceChildren(
    ...histogram('Activations where it fires', row.freq_hist_data_bar_values, row.freq_hist_data_bar_heights),
    ...histogram('Logits of its direction', row.logits_hist_data_bar_values, row.logits_hist_data_bar_heights));
  examples();
  $('facts').textContent = `Reads ${facts.site}${facts.site_out && facts.site_out !== facts.site ? `, writes ${facts.site_out}` : ''} (${row.hookName}). ` +
    `Fires on ${facts.firing_positions.toLocaleString('en')} of ${facts.counted_positions.toLocaleString('en')} positions of ${facts.dataset}; ids ${facts.masked_ids.join(', ')} do not count. ` +
    (facts.l0 === undefined ? '' : `L0 of the SAE there: ${number(facts.l0)}. `) + `BOS: ${facts.bos_policy}. Ranges: ${facts.binning}, seed ${facts.seed}. It fires on ${facts.distinct_tokens} different tokens.` +
    (facts.by_document ? ` One document has ${percent(facts.by_document.share_of_largest_document, 1)} of the places.` : '');
  scrollTo(0, 0);
  $('title').focus();
}

function around(index) {
  const at = all.findIndex(f => f.feature === index), links = [element('a', { href: '#' }, 'All features')];
  if (at > 0)
    links.push(element('a', { href: `#${all[at - 1].feature}`, rel: 'prev' }, '← Previous'));
  if (at + 1 < all.length)
    links.push(element('a', { href: `#${all[at + 1].feature}`, rel: 'next' }, 'Next →'));
  $('around').replaceChildren(...links);
}

const link = feature => all.some(f => f.feature === feature) ? element('a', { href: `#${feature}` }, String(feature)) : String(feature);

const code = piece => element('code', {}, visible(piece));

function table(id, rows) {
  $(id).replaceChildren(...rows.map(([name, value]) => element('tr', {}, element('td', {}, name), element('td', { class: 'num' }, value))));
}

/** Examples in the groups that they were chosen from, the same tokens once. */
function examples() {
  if (current.activations.length === 0) {
    $('examples').replaceChildren(element('p', {}, 'There are no examples: it did not fire.'));
    return;
  }
  const groups = new Map(), most = Math.max(current.maxActApprox, 1e-9);
  for (const a of current.activations) {
    const name = a.binContains < 0 ? 'Strongest' : `${number(a.binMin)} to ${number(a.binMax)}: ${percent(a.binContains, 1)} of ${current.kernelscope.binning === 'quantile' ? 'the places' : 'all positions'}`;
    if (!groups.has(name))
      groups.set(name, []);
    groups.get(name).push(a);
  }
  const strongest = [...groups].sort(([a], [b]) => (b === 'Strongest') - (a === 'Strongest'));
  $('examples').replaceChildren(...strongest.flatMap(([name, list]) => [element('h3', {}, name), ...list.map(a => example(a, most))]));
}

function example(a, most) {
  const width = Number($('around-tokens').value), peak = a.qualifyingTokenIndex;
  const from = width === 0 ? 0 : Math.max(0, peak - width), to = width === 0 ? a.tokens.length : Math.min(a.tokens.length, peak + width + 1);
  const spans = a.tokens.slice(from, to).map((piece, i) => {
    const value = a.values[from + i], span = element('span', { class: from + i === peak ? 'tok peak' : 'tok', title: value > 0 ? number(value) : null }, visible(piece));
    if (value > 0)
      span.style.setProperty('--a', Math.min(1, value / most) * .75);
    return span;
  });
  return element('p', { class: 'example' }, element('span', { class: 'value' }, number(a.values[peak] ?? 0)), ...spans, ...sources(a));
}

/** The tokens that gave most to the largest activation of an attention SAE's feature. */
function sources(a) {
  const values = a.dfaValues ?? [], most = values.map((value, i) => [value, i]).filter(([value]) => value > 0).sort(([x], [y]) => y - x).slice(0, 3);
  return most.length === 0 ? [] : [element('br', {}), element('small', {}, `from ${most.map(([value, i]) => `“${visible(a.tokens[i])}” ${number(value)}`).join(', ')}`)];
}

function histogram(title, values, heights) {
  if (values.length === 0)
    return [];
  const svg = draw('svg', { viewBox: '0 0 500 170', class: 'hist', role: 'img', 'aria-label': `${title}: from ${number(values[0])} to ${number(values.at(-1))}` });
  const most = Math.max(...heights);
  heights.forEach((height, i) => {
    const tall = height / most * 140, bar = draw('rect', { x: i * 10 + 1, y: 145 - tall, width: 8, height: tall }), hint = draw('title', {});
    hint.textContent = `${height.toLocaleString('en')} near ${number(values[i])}`;
    bar.append(hint);
    svg.append(bar);
  });
  for (const [x, anchor, value] of [[0, 'start', values[0]], [500, 'end', values.at(-1)]]) {
    const label = draw('text', { x, y: 164, 'text-anchor': anchor });
    label.textContent = number(value);
    svg.append(label);
  }
  return [element('div', {}, element('h2', {}, title), svg)];
}

function draw(name, attributes) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes))
    node.setAttribute(key, value);
  return node;
}

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'class')
      node.className = value;
    else if (value !== null)
      node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const number = value => value === 0 ? '0' : Number(value.toPrecision(3)).toString();

const percent = (part, whole) => whole === 0 ? '0 %' : `${Number((100 * part / whole).toPrecision(3))} %`;

/** A piece of the vocabulary as text. */
const visible = piece => piece.replaceAll('▁', ' ').replaceAll('\n', '↵');
