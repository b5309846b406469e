// What all pages share: calls, tokens, the search box.

/** The answers of a copy without a server; undefined where there is one. */
export const recorded = globalThis.KernelScopeRecorded;

export async function post(path, body, signal) {
  if (recorded)
    return recorded.post(path, body);
  const response = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal });
  const answer = await response.json();
  if (!response.ok)
    throw new Error(answer.error?.message ?? answer.error ?? `status ${response.status}`);
  return answer;
}

export async function get(path) {
  if (recorded)
    return recorded.get(path);
  const response = await fetch(path);
  const answer = await response.json();
  if (!response.ok)
    throw new Error(answer.error ?? `status ${response.status}`);
  return answer;
}

/** The data of each server-sent event, until [DONE]. */
export async function* events(path, body, signal) {
  if (recorded) {
    yield* recorded.events(path, body, signal);
    return;
  }
  const response = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal });
  if (!response.ok) {
    const answer = await response.json();
    throw new Error(answer.error?.message ?? answer.error ?? `status ${response.status}`);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done)
      return;
    held += value;
    for (let end; (end = held.indexOf('\n\n')) >= 0; held = held.slice(end + 2)) {
      const frame = held.slice(0, end);
      if (!frame.startsWith('data: '))
        continue;
      if (frame === 'data: [DONE]')
        return;
      yield JSON.parse(frame.slice(6));
    }
  }
}

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'class')
      node.className = value;
    else if (key.startsWith('on'))
      node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false)
      node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export const number = value => value === 0 ? '0' : Number(value.toPrecision(3)).toString();

export const visible = text => text.replaceAll('\n', '↵');

/** A piece of the vocabulary as text. */
export const pieceText = piece => visible(piece.replaceAll('▁', ' '));

/** Tokens, each as strong as its value. */
export function shaded(tokens, values, largest) {
  const most = largest || Math.max(...values, 1e-9);
  return tokens.map((token, i) => {
    const span = element('span', { class: 'tok', title: values[i] > 0 ? number(values[i]) : null }, visible(token));
    span.style.setProperty('--a', Math.min(1, values[i] / most) * .75);
    return span;
  });
}

/** The tokens that gave most to the largest activation of an attention SAE's feature, as ", from …"; empty for other SAEs. */
export function from(answer) {
  const values = answer.dfaValues ?? [], most = values.map((value, i) => [value, i]).filter(([value]) => value > 0).sort(([a], [b]) => b - a).slice(0, 3);
  return most.length === 0 ? '' : `, from ${most.map(([value, i]) => `“${visible(answer.tokens[i])}” ${number(value)}`).join(', ')}`;
}

export async function model() {
  const [first] = await post('/api/model/list', {});
  return post('/api/model/get', { id: first.id });
}

export const featurePath = (modelId, source, index) => `${recorded ? 'feature.html#' : '/'}${modelId}/${source}/${index}`;

/** Which feature a page is of: model, source, index. */
export const featureOfPage = () => (recorded ? location.hash : location.pathname).slice(1).split('/').map(decodeURIComponent);

/** The box that searches labels. */
export function search(modelId) {
  const form = document.getElementById('search'), results = document.getElementById('results');
  form.addEventListener('submit', async event => {
    event.preventDefault();
    const query = form.q.value.trim();
    if (query.length < 3)
      return;
    results.replaceChildren(element('p', { class: 'status' }, 'Searching…'));
    try {
      const answer = await post('/api/explanation/search', { modelId, layers: [], query });
      const list = element('ul', { class: 'results' }, ...answer.results.map(r => element('li', {},
        element('a', { href: featurePath(r.modelId, r.source, r.index) }, `${r.source} ${r.index}`), `: ${r.description}`)));
      results.replaceChildren(element('p', {}, answer.resultsCount === 0 ? `No label has “${query}”.` : `Labels for “${query}”. They are guesses; test them.`), list);
    } catch (error) {
      results.replaceChildren(element('p', { class: 'note' }, error.message));
    }
  });
}
