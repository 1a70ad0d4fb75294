// First part of the trace page's script, which is its three files in one function: the data, the filters, the words.
// What comes from the trace is only ever text: on a canvas, or a node's textContent.

const $ = id => document.getElementById(id)

// --- the data ---

const page = JSON.parse($('trace').textContent)
const { machines, count } = page
const kinds = page.kinds.map(([name]) => name)
const groups = page.kinds.map(([, group]) => group)
const time = new Float64Array(count) // nanoseconds
const sent = new Float64Array(count)
const kind = new Uint32Array(count)
const source = new Int32Array(count)
const target = new Int32Array(count) // -1: none
const size = new Float64Array(count)

function decode () {
  const text = atob(page.events)
  let at = 0
  const next = () => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = text.charCodeAt(at++)
      if (byte < 128) return value + byte * scale
      value += (byte - 128) * scale
    }
  }
  for (let e = 0; e < count; e++) {
    time[e] = (e ? time[e - 1] : 0) + next()
    sent[e] = time[e] - next()
    kind[e] = next()
    source[e] = next()
    target[e] = next() - 1
    size[e] = next()
  }
}
decode()
const runStart = count ? sent.reduce((least, each) => Math.min(least, each), time[0]) : 0
const runEnd = count ? time[count - 1] : 0

/** When machines were off, frozen or had a link without traffic: [machine, state, from, to]. */
function statesOfMachines () {
  const states = []
  const open = new Map() // `state machine` -> since when
  const blocked = new Map() // pair -> whether its link is
  const blockedLinks = new Map() // machine -> how many
  const begin = (state, machine, now) => { if (!open.has(`${state} ${machine}`)) open.set(`${state} ${machine}`, now) }
  const end = (state, machine, now) => {
    const since = open.get(`${state} ${machine}`)
    if (since !== undefined) states.push([machine, state, since, now])
    open.delete(`${state} ${machine}`)
  }
  const block = (e, isBlocked) => {
    const pair = [source[e], target[e]].sort((a, b) => a - b).join(' ')
    if (Boolean(blocked.get(pair)) === isBlocked) return
    blocked.set(pair, isBlocked)
    for (const machine of [source[e], target[e]]) {
      const links = (blockedLinks.get(machine) || 0) + (isBlocked ? 1 : -1)
      blockedLinks.set(machine, links)
      if (links) begin('parted', machine, time[e])
      else end('parted', machine, time[e])
    }
  }
  for (let e = 0; e < count; e++) {
    if (groups[kind[e]] !== 'event') continue
    const name = kinds[kind[e]]
    if (target[e] >= 0) {
      if (name === 'stall' || name === 'cut') block(e, true)
      if (name === 'heal') block(e, false)
      continue
    }
    if (name === 'freeze') begin('frozen', source[e], time[e])
    if (name === 'resume' || name === 'kill' || name === 'power-off') end('frozen', source[e], time[e])
    if (name === 'power-off') begin('off', source[e], time[e])
    if (name === 'power-on') end('off', source[e], time[e])
  }
  for (const key of [...open.keys()]) {
    const [state, machine] = key.split(' ')
    end(state, Number(machine), runEnd)
  }
  return states
}
const states = statesOfMachines()

// --- what of it is shown ---

const isKindShown = kinds.map(() => true)
let shown = new Uint32Array(0) // events that the filters let through, in the order of their arrival
let minSent = new Float64Array(0) // of each shown event and all after it: when the first was sent
let marks = [] // positions in `shown` of what happened to machines and links
let rows = [] // machines from top to bottom
let rowOf = new Int32Array(0)
let overviewCounts = null

function filter () {
  const words = $('machines').value.toLowerCase().split(/[\s,]+/).filter(Boolean)
  const names = machines.map(name => name.toLowerCase())
  const whole = new Set(names)
  const isChosen = names.map(name =>
    words.length === 0 || words.some(word => whole.has(word) ? name === word : name.includes(word)))
  const hasRow = [...isChosen]
  const found = []
  marks = []
  for (let e = 0; e < count; e++) {
    if (!isKindShown[kind[e]] || !(isChosen[source[e]] || (target[e] >= 0 && isChosen[target[e]]))) continue
    if (groups[kind[e]] === 'event') marks.push(found.length)
    found.push(e)
    hasRow[source[e]] = true
    if (target[e] >= 0) hasRow[target[e]] = true
  }
  shown = Uint32Array.from(found)
  minSent = new Float64Array(shown.length)
  for (let i = shown.length - 1, least = Infinity; i >= 0; i--) minSent[i] = least = Math.min(least, sent[shown[i]])
  rows = [...machines.keys()].filter(machine => hasRow[machine])
  rowOf = new Int32Array(machines.length).fill(-1)
  rows.forEach((machine, row) => { rowOf[machine] = row })
  overviewCounts = null
  if (chosen !== null && !shown.includes(chosen)) choose(null)
}

/** The position of the first shown event that arrives at `moment` or later. */
function positionAt (moment) {
  let low = 0
  let high = shown.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (time[shown[middle]] < moment) low = middle + 1
    else high = middle
  }
  return low
}

// --- words ---

const seconds = (ns, digits = 9) => (ns / 1e9).toFixed(digits)
const bytes = number => number < 10000 ? `${number} B` : `${(number / 1024).toFixed(1)} KiB`

function lasting (ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`
  if (ns < 1e6) return `${Number((ns / 1e3).toFixed(3))} µs`
  return ns < 1e9 ? `${Number((ns / 1e6).toFixed(3))} ms` : `${Number((ns / 1e9).toFixed(3))} s`
}

function describe (e) {
  const parts = [`${seconds(time[e])} s`, kinds[kind[e]], machines[source[e]]]
  if (target[e] >= 0) parts.push('→', machines[target[e]])
  if (size[e]) parts.push(`${size[e]} B`)
  if (sent[e] !== time[e]) parts.push(`sent ${seconds(sent[e])} s, ${lasting(time[e] - sent[e])} on the way`)
  return parts.join('  ')
}
