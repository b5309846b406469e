import { element, featureOfPage, featurePath, from, get, number, pieceText, post, recorded, search, shaded } from '/api.js';

const $ = id => document.getElementById(id);
const [modelId, source, text] = featureOfPage();
const index = Number(text), options = new URLSearchParams(location.search);

if (options.get('embed') === 'true') {
  document.body.classList.add('embed');
  for (const [name, id] of [['embedexplanation', 'explanations'], ['embedplots', 'plots'], ['embedtest', 'testbox'], ['embedsteer', 'steerbox'], ['embedactivations', 'activations']]) {
    if (options.get(name) === 'false')
      $(id).hidden = true;
  }
  if (options.get('embedtestfield') === 'false')
    $('test').hidden = true;
}
document.title = `${modelId}/${source}/${index}`;
$('title').textContent = `${source} · feature ${index}`;
$('steer-link').href = `/?source=${encodeURIComponent(source)}&steer=${index}`;
search(modelId);
test();
load().catch(error => {
  $('problem').hidden = false;
  $('problem').textContent = error.message;
});

async function load() {
  const row = await get(`/api/feature/${encodeURIComponent(modelId)}/${encodeURIComponent(source)}/${index}`);
  await around(row.kernelscope.feature_count);
  $('explanations').replaceChildren(...row.explanations.map(e => element('p', {}, element('strong', {}, e.description), element('small', {}, e.explanationModelName ? ` (${e.explanationModelName}, ${e.typeName ?? ''})` : ''))),
    element('p', { class: 'dim' }, row.explanations.length === 0 ? 'Nobody has labelled this feature yet.' : recorded ? 'Labels are guesses.' : 'Labels are guesses; test them below.'));
  table($('positive'), row.pos_str, row.pos_values);
  table($('negative'), row.neg_str, row.neg_values);
  $('nearest').replaceChildren(...row.topkCosSimIndices.map((other, i) => element('li', {}, element('a', { href: featurePath(modelId, source, other) }, String(other)), ` cosine ${number(row.topkCosSimValues[i])}`)));
  const together = row.kernelscope?.co_firing ?? [];
  $('together-box').hidden = together.length === 0;
  $('together').replaceChildren(...together.map(c => element('li', {}, element('a', { href: featurePath(modelId, source, c.index) }, String(c.index)), ` ${number(100 * c.value)} % of their places in common`)));
  histogram('Activations where it fires', row.freq_hist_data_bar_values, row.freq_hist_data_bar_heights);
  histogram('Logits of its direction', row.logits_hist_data_bar_values, row.logits_hist_data_bar_heights);
  examples(row);
  $('around-tokens').addEventListener('change', () => examples(row));
  const facts = row.kernelscope;
  $('facts').textContent = `Reads ${facts.site}${facts.site_out && facts.site_out !== facts.site ? `, writes ${facts.site_out}` : ''} (${row.hookName}). ` +
    (facts.counted_positions > 0 ? `Fires on ${facts.firing_positions} of ${facts.counted_positions} positions of ${facts.dataset}; ids ${facts.masked_ids.join(', ')} do not count.` : '') +
    (facts.l0 === undefined ? '' : ` L0 of the SAE there: ${number(facts.l0)}.`) + (facts.bos_policy ? ` BOS: ${facts.bos_policy}.` : '');
}

/** The pages before and after this one; a copy has those of some features only. */
async function around(count) {
  const there = await recorded?.features(), links = [];
  const before = there ? there.filter(f => f < index).at(-1) : index > 0 ? index - 1 : undefined;
  const after = there ? there.find(f => f > index) : index + 1 < count ? index + 1 : undefined;
  if (before !== undefined)
    links.push(element('a', { href: featurePath(modelId, source, before), rel: 'prev' }, '← Previous'));
  if (after !== undefined)
    links.push(element('a', { href: featurePath(modelId, source, after), rel: 'next' }, 'Next →'));
  const input = element('input', { type: 'number', min: 0, max: count - 1, id: 'goto', placeholder: 'number', 'aria-label': 'Go to feature' });
  const form = element('form', { class: 'row', onsubmit: event => { event.preventDefault(); if (input.value) location.href = featurePath(modelId, source, input.value); } }, input, element('button', {}, 'Go to'));
  $('around').replaceChildren(...links, form);
}

function table(place, pieces, values) {
  place.replaceChildren(...pieces.map((piece, i) => element('tr', {}, element('td', {}, element('code', {}, pieceText(piece))), element('td', { class: 'num' }, values[i].toFixed(3)))));
}

function histogram(title, values, heights) {
  if (values.length === 0)
    return;
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), most = Math.max(...heights);
  svg.setAttribute('viewBox', '0 0 500 170');
  svg.setAttribute('class', 'hist');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `${title}: from ${number(values[0])} to ${number(values.at(-1))}`);
  heights.forEach((height, i) => {
    const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect'), tall = height / most * 140;
    for (const [name, value] of [['x', i * 10 + 1], ['y', 145 - tall], ['width', 8], ['height', tall]])
      bar.setAttribute(name, value);
    const hint = document.createElementNS('http://www.w3.org/2000/svg', 'title');
    hint.textContent = `${height} near ${number(values[i])}`;
    bar.append(hint);
    svg.append(bar);
  });
  for (const [x, anchor, value] of [[0, 'start', values[0]], [500, 'end', values.at(-1)]]) {
    const label = document.createElementNS('http://www.w3.org/2000/svg', 'text');
    label.setAttribute('x', x);
    label.setAttribute('y', 164);
    label.setAttribute('text-anchor', anchor);
    label.textContent = number(value);
    svg.append(label);
  }
  $('histograms').append(element('div', {}, element('h3', {}, title), svg));
}

function examples(row) {
  if (row.activations.length === 0) {
    const counted = row.kernelscope.counted_positions;
    $('examples').replaceChildren(element('p', {}, counted > 0 ? `It did not fire in ${counted} positions.` : 'No examples are stored for this feature; test it on a text of your own.'));
    return;
  }
  const most = Math.max(...row.activations.map(a => a.maxValue), 1e-9), width = Number($('around-tokens').value);
  $('examples').replaceChildren(...row.activations.map(a => {
    const first = width === 0 ? 0 : Math.max(0, a.maxValueTokenIndex - width), end = width === 0 ? a.tokens.length : a.maxValueTokenIndex + width + 1;
    return element('p', { class: 'tokens' }, element('small', {}, `${number(a.maxValue)}${from(a)}  `), ...shaded(a.tokens.slice(first, end), a.values.slice(first, end), most));
  }));
}

function test() {
  $('test').addEventListener('submit', async event => {
    event.preventDefault();
    $('test-status').textContent = 'Reading…';
    try {
      const answer = await post('/api/activation/new', { feature: { modelId, layer: source, index: String(index) }, customText: $('text').value });
      $('test-tokens').replaceChildren(...shaded(answer.tokens, answer.values, answer.maxValue));
      $('test-status').textContent = answer.maxValue > 0 ? `Largest: ${number(answer.maxValue)} on “${answer.tokens[answer.maxValueTokenIndex]}”${from(answer)}.` : 'It does not fire on this text.';
    } catch (error) {
      $('test-status').textContent = error.message;
    }
  });
}
