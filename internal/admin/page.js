// Fetches the page again every two seconds and puts its main part in place of ours. Numbers that moved light up.
'use strict';
const every = 2000;

function numbers() {
  const all = new Map();
  for (const e of document.querySelectorAll('[data-k]')) all.set(e.dataset.k, e.textContent);
  return all;
}

function swap(text) {
  const next = new DOMParser().parseFromString(text, 'text/html');
  const before = numbers();
  document.title = next.title;
  document.querySelector('main').replaceWith(next.querySelector('main'));
  for (const e of document.querySelectorAll('[data-k]')) {
    if (before.has(e.dataset.k) && before.get(e.dataset.k) !== e.textContent) e.classList.add('moved');
  }
}

async function refresh() {
  const selection = getSelection(); // somebody is copying
  if (!document.hidden && (!selection || selection.isCollapsed)) {
    try {
      const answer = await fetch('/', {signal: AbortSignal.timeout(10000)});
      if (!answer.ok) throw new Error(answer.status);
      swap(await answer.text());
      document.body.classList.remove('lost');
    } catch {
      document.body.classList.add('lost');
    }
  }
  setTimeout(refresh, every);
}
setTimeout(refresh, every);
