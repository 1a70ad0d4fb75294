// Second part of the trace page's script: the window of time, and how it is drawn.

const GUTTER_PX = 130 // machines' names
const HEADER_PX = 22 // the time axis
const MIN_ROW_PX = 15
const MAX_ROW_PX = 80
const FIRST_EVENTS = 300 // in the window at the start, about
const FIRST_FLIGHTS = 40 // how many times a message's flight it lasts at most
const MAX_DRAWN = 15000 // messages drawn at once; beyond it every second, every third, ...
const MAX_HEADS = 3000 // arrows with heads
const MAX_LABELLED = 600 // messages in a window whose messages have their kind and size beside them
const MAX_LABELS = 60
const LETTER_PX = 6.5 // of a label, about
const LINE_PX = 12
const MIN_SPAN_NS = 1000
const COLOURS = ['paper', 'ink', 'faint', 'rule', 'connect', 'data', 'close', 'failure', 'event', 'off', 'frozen', 'parted', 'chosen']
const DASHES = { connect: [], data: [], close: [6, 3], failure: [2, 3], event: [] }

const chart = $('chart')
const overview = $('overview')
const scroller = $('scroller')

// --- the window ---

let from = 0
let to = 1
let chosen = null // an event

const margin = Math.max((runEnd - runStart) * 0.01, MIN_SPAN_NS / 2)
const least = runStart - margin
const most = runEnd + margin

function show (newFrom, newTo) {
  const span = Math.min(Math.max(newTo - newFrom, MIN_SPAN_NS), most - least)
  from = Math.min(Math.max((newFrom + newTo - span) / 2, least), most - span)
  to = from + span
  redraw()
}
const isInWindow = event => event !== null && time[event] >= from && time[event] <= to
const zoom = (factor, around = isInWindow(chosen) ? time[chosen] : (from + to) / 2) =>
  show(around - (around - from) * factor, around + (to - around) * factor)
const pan = part => show(from + (to - from) * part, to + (to - from) * part)
const showAll = () => show(least, most)
const centre = moment => show(moment - (to - from) / 2, moment + (to - from) / 2)

/** Show what can be read: from just before the first event of a machine or link, or from the first of all, some messages' time. */
function showStart () {
  if (shown.length <= FIRST_EVENTS) return showAll()
  const flights = Float64Array.from(shown, e => time[e] - sent[e]).filter(flight => flight > 0).sort()
  const readable = flights.length ? flights[flights.length >> 1] * FIRST_FLIGHTS : Infinity
  const begin = marks.length ? Math.max(runStart, time[shown[marks[0]]] - readable / 10) : runStart
  const enough = shown[Math.min(positionAt(begin) + FIRST_EVENTS, shown.length) - 1]
  show(begin - margin / 100, Math.min(begin + readable, Math.max(time[enough], begin + readable / 4)))
}

function choose (event) {
  chosen = event
  $('detail').textContent = event === null ? '' : describe(event)
  if (event !== null && !isInWindow(event)) centre(time[event])
  else redraw()
}

function step (positions, direction) {
  const here = chosen === null ? (direction > 0 ? from : to) : time[chosen]
  const at = chosen === null ? -1 : shown.indexOf(chosen)
  const isBeyond = i => at >= 0 ? (i - at) * direction > 0 : (time[shown[i]] - here) * direction >= 0
  const wanted = direction > 0 ? positions.find(isBeyond) : positions.findLast(isBeyond)
  if (wanted !== undefined) choose(shown[wanted])
}

// --- drawing ---

const colour = {}
function readColours () {
  const style = getComputedStyle(document.documentElement)
  for (const name of COLOURS) colour[name] = style.getPropertyValue(`--${name}`).trim()
  colour.dial = colour.connect
}

/** Fit a canvas's pixels to its place and return its context, width and height. */
function fitted (canvas, width, height) {
  const scale = devicePixelRatio || 1
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale)
    canvas.height = Math.round(height * scale)
  }
  const context = canvas.getContext('2d')
  context.setTransform(scale, 0, 0, scale, 0, 0)
  context.clearRect(0, 0, width, height)
  context.font = '12px system-ui, sans-serif'
  context.textBaseline = 'middle'
  context.setLineDash([])
  return context
}

let isWaiting = false
function redraw () {
  if (isWaiting) return
  isWaiting = true
  requestAnimationFrame(() => {
    isWaiting = false
    drawChart()
    drawOverview()
  })
}

let drawn = [] // {e, x0, y0, x1, y1} of each, for the pointer
const layout = { width: 0, height: 0, rowPx: 0, top: 0 }
const xOf = moment => GUTTER_PX + (moment - from) / (to - from) * (layout.width - GUTTER_PX)
const yOf = machine => HEADER_PX + (rowOf[machine] + 0.5) * layout.rowPx - layout.top
const timeAt = x => from + (x - GUTTER_PX) / (layout.width - GUTTER_PX) * (to - from)

function drawChart () {
  const width = scroller.clientWidth
  const height = scroller.clientHeight
  const rowPx = Math.min(MAX_ROW_PX, Math.max(MIN_ROW_PX, (height - HEADER_PX) / Math.max(1, rows.length)))
  $('spacer').style.height = `${Math.max(height, HEADER_PX + rows.length * rowPx)}px`
  chart.style.height = `${height}px`
  Object.assign(layout, { width, height, rowPx, top: scroller.scrollTop })
  const context = fitted(chart, width, height)
  context.save()
  context.beginPath()
  context.rect(GUTTER_PX, HEADER_PX, width - GUTTER_PX, height - HEADER_PX)
  context.clip()
  drawStates(context)
  drawGrid(context)
  const every = drawEvents(context)
  drawChosen(context)
  context.restore()
  drawNames(context)
  drawAxis(context)
  $('status').textContent = statusText(every)
}

function drawStates (context) {
  for (const [machine, state, since, until] of states) {
    if (rowOf[machine] < 0 || until < from || since > to) continue
    const left = Math.max(xOf(since), GUTTER_PX)
    context.fillStyle = colour[state]
    const thick = state === 'parted' ? Math.min(16, layout.rowPx * 0.7) : Math.min(8, layout.rowPx * 0.4)
    context.fillRect(left, yOf(machine) - thick / 2, Math.max(2, Math.min(xOf(until), layout.width) - left), thick)
  }
}

function drawGrid (context) {
  context.strokeStyle = colour.rule
  context.lineWidth = 1
  context.beginPath()
  for (const moment of ticks()) {
    context.moveTo(xOf(moment), HEADER_PX)
    context.lineTo(xOf(moment), layout.height)
  }
  for (const machine of visibleRows()) {
    context.moveTo(GUTTER_PX, yOf(machine))
    context.lineTo(layout.width, yOf(machine))
  }
  context.stroke()
}

/** Draw what is in the window and return every how manyth message was drawn. */
function drawEvents (context) {
  const begin = positionAt(from)
  let end = begin
  while (end < shown.length && minSent[end] <= to) end++
  const every = Math.ceil((end - begin) / MAX_DRAWN) || 1
  const last = new Map() // what was drawn last between two machines: the same pixels are not drawn again
  drawn = []
  for (let i = begin; i < end; i++) {
    const e = shown[i]
    const group = groups[kind[e]]
    if (sent[e] > to || (i % every && group !== 'event')) continue
    const isPoint = target[e] < 0 || group === 'dial'
    const line = { e, group, isPoint, x0: xOf(sent[e]), y0: yOf(source[e]), x1: xOf(time[e]), y1: yOf(isPoint ? source[e] : target[e]) }
    if (Math.max(line.y0, line.y1) < HEADER_PX || Math.min(line.y0, line.y1) > layout.height) continue
    const ends = source[e] * machines.length + (isPoint ? source[e] : target[e])
    const pixels = `${group} ${isPoint} ${Math.round(line.x0)} ${Math.round(line.x1)}`
    if (last.get(ends) === pixels) continue
    last.set(ends, pixels)
    drawn.push(line)
  }
  const lines = drawn.filter(line => !line.isPoint)
  for (const [group, dash] of Object.entries(DASHES)) {
    const ofGroup = lines.filter(line => line.group === group)
    context.strokeStyle = context.fillStyle = colour[group]
    context.lineWidth = group === 'event' ? 1.5 : 1
    context.setLineDash(dash)
    context.beginPath()
    for (const { x0, y0, x1, y1 } of ofGroup) {
      context.moveTo(x0, y0)
      context.lineTo(x1, y1)
    }
    context.stroke()
    context.setLineDash([])
    context.beginPath()
    for (const line of ofGroup) {
      if (group === 'event') drawDots(context, line)
      else if (drawn.length <= MAX_HEADS) drawHead(context, line)
    }
    context.fill()
  }
  for (const line of drawn) if (line.isPoint) drawPoint(context, line)
  drawLabels(context)
  return every
}

function drawHead (context, { x0, y0, x1, y1 }) {
  const length = Math.hypot(x1 - x0, y1 - y0)
  if (length < 8) return
  const [dx, dy] = [(x1 - x0) / length, (y1 - y0) / length]
  context.moveTo(x1, y1)
  context.lineTo(x1 - 7 * dx - 3 * dy, y1 - 7 * dy + 3 * dx)
  context.lineTo(x1 - 7 * dx + 3 * dy, y1 - 7 * dy - 3 * dx)
  context.closePath()
}

function drawDots (context, { x1, y0, y1 }) {
  for (const y of [y0, y1]) {
    context.moveTo(x1 + 3, y)
    context.arc(x1, y, 3, 0, 2 * Math.PI)
  }
}

function drawPoint (context, { group, x1, y1 }) {
  const half = group === 'event' ? 6 : 2.5
  context.fillStyle = colour[group]
  context.beginPath()
  context.moveTo(x1, y1 - half)
  context.lineTo(x1 + half, y1)
  context.lineTo(x1, y1 + half)
  context.lineTo(x1 - half, y1)
  context.closePath()
  context.fill()
}

/** Write kind and size beside what is drawn, events of machines and links first, as far as there is room. */
function drawLabels (context) {
  const events = drawn.filter(line => line.group === 'event')
  const messages = drawn.length <= MAX_LABELLED ? drawn.filter(line => line.group !== 'event') : []
  const written = []
  context.font = '11px system-ui, sans-serif'
  context.lineJoin = 'round'
  context.lineWidth = 3
  context.strokeStyle = colour.paper
  for (const { e, group, isPoint, x0, y0, x1, y1 } of [...events, ...messages]) {
    const text = size[e] ? `${kinds[kind[e]]} ${bytes(size[e])}` : kinds[kind[e]]
    const [x, y] = isPoint ? [x1 + 8, y1 - 7] : [(x0 + x1) / 2 + 4, (y0 + y1) / 2]
    const right = x + text.length * LETTER_PX
    if (x < GUTTER_PX || written.some(each => x < each.right && right > each.x && Math.abs(y - each.y) < LINE_PX)) continue
    written.push({ x, right, y })
    context.fillStyle = colour[group]
    context.strokeText(text, x, y)
    context.fillText(text, x, y)
    if (written.length === MAX_LABELS) break
  }
}

function drawChosen (context) {
  if (chosen === null || rowOf[source[chosen]] < 0) return
  context.strokeStyle = colour.chosen
  context.lineWidth = 3
  context.beginPath()
  context.moveTo(xOf(sent[chosen]), yOf(source[chosen]))
  context.lineTo(xOf(time[chosen]), yOf(target[chosen] >= 0 ? target[chosen] : source[chosen]))
  context.stroke()
  context.beginPath()
  context.arc(xOf(time[chosen]), yOf(target[chosen] >= 0 ? target[chosen] : source[chosen]), 7, 0, 2 * Math.PI)
  context.stroke()
}

function drawNames (context) {
  context.font = '12px system-ui, sans-serif'
  context.fillStyle = colour.ink
  context.save()
  context.beginPath()
  context.rect(0, HEADER_PX, GUTTER_PX - 6, layout.height - HEADER_PX)
  context.clip()
  for (const machine of visibleRows()) context.fillText(machines[machine].slice(0, 64), 6, yOf(machine))
  context.restore()
}

function drawAxis (context) {
  context.fillStyle = colour.faint
  const [first, second] = ticks()
  const digits = second === undefined ? 6 : Math.min(9, Math.max(0, Math.ceil(9 - Math.log10(second - first) - 0.001)))
  context.fillText('seconds', 6, HEADER_PX / 2)
  for (const moment of ticks()) context.fillText(seconds(moment, digits), xOf(moment) + 3, HEADER_PX / 2)
}

function ticks () {
  const wanted = Math.max(2, (layout.width - GUTTER_PX) / 110)
  const rough = (to - from) / wanted
  const power = 10 ** Math.floor(Math.log10(rough))
  const gap = [1, 2, 5, 10].map(each => each * power).find(each => each >= rough * 0.999) || 10 * power
  const moments = []
  for (let i = Math.ceil(from / gap); i * gap <= to && moments.length < 200; i++) moments.push(i * gap)
  return moments
}

function visibleRows () {
  const first = Math.max(0, Math.floor(layout.top / layout.rowPx))
  return rows.slice(first, first + Math.ceil(layout.height / layout.rowPx) + 1)
}

function statusText (every) {
  const inWindow = positionAt(to) - positionAt(from)
  const parts = [`${seconds(from, 6)} to ${seconds(to, 6)} s (${lasting(to - from)}): ${inWindow} of ${shown.length} events`]
  if (shown.length < count) parts.push(`${count - shown.length} are filtered out`)
  if (every > 1) parts.push(`one message of ${every} is drawn, zoom in for all`)
  return parts.join('; ')
}

function drawOverview () {
  const width = overview.clientWidth
  const height = overview.clientHeight
  const context = fitted(overview, width, height)
  const place = moment => (moment - runStart) / Math.max(1, runEnd - runStart) * (width - 1)
  if (overviewCounts === null || overviewCounts.length !== Math.max(1, Math.ceil(width))) {
    overviewCounts = new Uint32Array(Math.max(1, Math.ceil(width)))
    for (const e of shown) overviewCounts[Math.floor(place(time[e]))]++
  }
  const most = Math.sqrt(overviewCounts.reduce((a, b) => Math.max(a, b), 1))
  context.fillStyle = colour.data
  overviewCounts.forEach((number, x) => {
    const tall = Math.sqrt(number) / most * (height - 6)
    if (number) context.fillRect(x, height - tall, 1, tall)
  })
  context.fillStyle = colour.event
  let lastX = -1
  for (const position of marks) {
    const x = Math.floor(place(time[shown[position]]))
    if (x !== lastX) context.fillRect(x, 0, 1.5, height)
    lastX = x
  }
  context.strokeStyle = colour.chosen
  context.lineWidth = 2
  const left = Math.max(1, place(from))
  context.strokeRect(left, 1, Math.max(3, Math.min(width - 1, place(to)) - left), height - 2)
}
