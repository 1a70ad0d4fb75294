// Last part of the trace page's script: pointer, keys, and the start.

const PICK_PX = 7

// --- pointer and keys ---

function nearest (x, y) {
  let best = null
  let least = PICK_PX
  let near = 0
  for (const line of drawn) {
    const { x0, y0, x1, y1 } = line
    const length = (x1 - x0) ** 2 + (y1 - y0) ** 2
    const along = length ? Math.min(1, Math.max(0, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length)) : 0
    const distance = Math.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
    if (distance < PICK_PX) near++
    if (distance < least) [best, least] = [line.e, distance]
  }
  return { event: best, near }
}

function press (x, y) {
  if (x >= GUTTER_PX) return choose(nearest(x, y).event)
  const machine = rows[Math.floor((y - HEADER_PX + layout.top) / layout.rowPx)]
  if (machine === undefined || y < HEADER_PX) return
  $('machines').value = $('machines').value === machines[machine] ? '' : machines[machine]
  filter()
  redraw()
}

let drag = null
const placeOf = (event, canvas) => {
  const box = canvas.getBoundingClientRect()
  return [event.clientX - box.left, event.clientY - box.top]
}
chart.addEventListener('pointerdown', event => {
  const [x, y] = placeOf(event, chart)
  drag = { x, y, from, to, hasMoved: false }
  chart.setPointerCapture(event.pointerId)
})
chart.addEventListener('pointermove', event => {
  const [x, y] = placeOf(event, chart)
  if (drag === null) {
    const { event: found, near } = nearest(x, y)
    const more = near > 1 ? `  (and ${near - 1} more here)` : ''
    $('hover').textContent = found === null ? `${seconds(timeAt(Math.max(x, GUTTER_PX)), 6)} s` : describe(found) + more
    return
  }
  if (Math.abs(x - drag.x) > 3) drag.hasMoved = true
  const moved = (x - drag.x) / (layout.width - GUTTER_PX) * (drag.to - drag.from)
  if (drag.hasMoved) show(drag.from - moved, drag.to - moved)
})
chart.addEventListener('pointerup', () => {
  if (drag !== null && !drag.hasMoved) press(drag.x, drag.y)
  drag = null
})
chart.addEventListener('pointercancel', () => { drag = null })
chart.addEventListener('wheel', event => {
  if (event.ctrlKey || event.metaKey) zoom(Math.exp(event.deltaY * 0.003), timeAt(placeOf(event, chart)[0]))
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / layout.width)
  else return
  event.preventDefault()
}, { passive: false })

const goTo = event => {
  if (!event.buttons) return
  centre(runStart + placeOf(event, overview)[0] / Math.max(1, overview.clientWidth) * (runEnd - runStart))
}
overview.addEventListener('pointerdown', goTo)
overview.addEventListener('pointermove', goTo)

const all = () => Array.from(shown.keys())
const ACTIONS = {
  ArrowLeft: () => pan(-0.2),
  ArrowRight: () => pan(0.2),
  '+': () => zoom(0.5),
  '=': () => zoom(0.5),
  '-': () => zoom(2),
  0: showAll,
  Home: () => show(least, least + to - from),
  End: () => show(most - to + from, most),
  j: () => step(all(), 1),
  k: () => step(all(), -1),
  n: () => step(marks, 1),
  p: () => step(marks, -1),
  Escape: () => choose(null)
}
chart.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(ACTIONS, event.key)) return
  ACTIONS[event.key]()
  event.preventDefault()
})
for (const [id, key] of [['zoom-in', '+'], ['zoom-out', '-'], ['all', '0'], ['previous', 'p'], ['next', 'n']]) {
  $(id).addEventListener('click', ACTIONS[key])
}

// --- the start ---

const numberOfKind = new Uint32Array(kinds.length)
for (const each of kind) numberOfKind[each]++
kinds.forEach((name, index) => {
  const label = document.createElement('label')
  const box = document.createElement('input')
  const text = document.createElement('span')
  box.type = 'checkbox'
  box.checked = true
  box.addEventListener('change', () => {
    isKindShown[index] = box.checked
    filter()
    redraw()
  })
  text.className = groups[index]
  text.textContent = ` ${name} ${numberOfKind[index]}`
  label.append(box, text)
  $('kinds').append(label)
})
if (page.leftOut) {
  $('left-out').hidden = false
  $('left-out').textContent = `${page.leftOut} later events of the run are left out: the page has its first ${count}.`
}
$('machines').addEventListener('input', () => {
  filter()
  redraw()
})
scroller.addEventListener('scroll', redraw)
addEventListener('resize', redraw)
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  readColours()
  redraw()
})
readColours()
filter()
showStart()
