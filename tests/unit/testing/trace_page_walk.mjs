// Runs the script of a trace page on a document of a few objects, uses it as a reader would, and prints what it drew.
//
// node trace_page_walk.mjs PAGE.html < STEPS.json, where a step is ["key", "j"], ["filter", "ann"], ["kind", "data", false],
// ["press", x, y], ["hover", x, y], ["drag", x0, x1], ["wheel", deltaY, {"ctrlKey": true}], ["go", x], ["scroll", y] or ["button", id].
// Prints a JSON list: what is on the page after the start and after each step.

import { readFileSync } from 'node:fs'
import vm from 'node:vm'

const WIDTH = 1200
const HEIGHT = 600
const METHODS = ['arc', 'beginPath', 'clearRect', 'clip', 'closePath', 'fill', 'fillRect', 'fillText', 'lineTo', 'moveTo', 'rect', 'restore',
  'save', 'setLineDash', 'setTransform', 'stroke', 'strokeRect', 'strokeText']
const SETTINGS = ['fillStyle', 'font', 'lineJoin', 'lineWidth', 'strokeStyle', 'textBaseline']

/** A canvas's context that counts what is called, keeps texts and lines, and refuses what a real one does not have or draw. */
function fakeContext () {
  let calls = {}
  let texts = []
  let lines = []
  let at = null
  const target = {}
  for (const name of METHODS) {
    target[name] = (...values) => {
      for (const each of values) if (typeof each === 'number' && !Number.isFinite(each)) throw new Error(`${name}(${values})`)
      calls[name] = (calls[name] || 0) + 1
      if (name === 'fillText') texts.push(values)
      if (name === 'moveTo') at = values
      if (name === 'lineTo') lines.push([...at, ...(at = values)])
    }
  }
  const context = new Proxy(target, {
    get (_, name) {
      if (!(name in target)) throw new Error(`a context has no ${String(name)}`)
      return target[name]
    },
    set (_, name, value) {
      if (!SETTINGS.includes(name)) throw new Error(`a context has no ${String(name)} to set`)
      if (value === undefined || value === '' || Number.isNaN(value)) throw new Error(`${name} = ${value}`)
      target[name] = value
      return true
    }
  })
  const take = () => {
    const taken = { calls, texts, lines }
    ;[calls, texts, lines] = [{}, [], []]
    return taken
  }
  return { context, take }
}

class FakeElement {
  constructor (id = '') {
    this.id = id
    this.style = {}
    this.value = ''
    this.hidden = true
    this.checked = false
    this.textContent = ''
    this.children = []
    this.scrollTop = 0
    this.clientWidth = WIDTH
    this.clientHeight = id === 'overview' ? 48 : HEIGHT
    this.listeners = {}
    this.drawing = fakeContext()
  }

  append (...children) { this.children.push(...children) }
  addEventListener (name, call) { (this.listeners[name] ||= []).push(call) }
  getContext () { return this.drawing.context }
  getBoundingClientRect () { return { left: 10, top: 20 } }
  setPointerCapture () {}

  fire (name, event = {}) {
    for (const call of this.listeners[name] || []) call({ preventDefault () {}, pointerId: 1, buttons: 1, ...event })
  }
}

const html = readFileSync(process.argv[2], 'utf8')
const ids = [...html.matchAll(/\sid="([^"]+)"/g)].map(match => match[1])
const elements = new Map(ids.map(id => [id, new FakeElement(id)]))
const [, data] = html.match(/<script type="application\/json" id="trace">([^<]*)<\/script>/)
const [, script] = html.match(/<script>([^]*?)<\/script>/)
elements.get('trace').textContent = data

let frames = []
const scheme = new FakeElement()
const page = new FakeElement()
const document = {
  documentElement: page,
  createElement: () => new FakeElement(),
  getElementById (id) {
    if (!elements.has(id)) throw new Error(`the page has no ${id}`)
    return elements.get(id)
  }
}
vm.runInNewContext(script, {
  document,
  atob,
  devicePixelRatio: 2,
  requestAnimationFrame: call => frames.push(call),
  getComputedStyle: () => ({ getPropertyValue: name => html.includes(`${name}: #`) ? ` ${name}` : '' }),
  matchMedia: () => scheme,
  addEventListener: (name, call) => page.addEventListener(name, call)
}, { filename: 'trace_page.js' })

function shown (step) {
  const began = performance.now()
  while (frames.length) {
    const due = frames
    frames = []
    for (const call of due) call()
  }
  const $ = id => elements.get(id)
  return {
    step,
    drawnMs: performance.now() - began,
    status: $('status').textContent,
    detail: $('detail').textContent,
    hover: $('hover').textContent,
    leftOut: $('left-out').hidden ? '' : $('left-out').textContent,
    kinds: $('kinds').children.map(label => label.children[1].textContent.trim()),
    chart: $('chart').drawing.take(),
    overview: $('overview').drawing.take()
  }
}

const at = (x, y) => ({ clientX: x + 10, clientY: y + 20 })
const ACTIONS = {
  key: key => elements.get('chart').fire('keydown', { key }),
  filter (words) {
    elements.get('machines').value = words
    elements.get('machines').fire('input')
  },
  kind (name, isOn) {
    const [box] = elements.get('kinds').children.map(label => label.children).find(([, text]) => text.textContent.startsWith(` ${name} `))
    box.checked = isOn
    box.fire('change')
  },
  press (x, y) {
    elements.get('chart').fire('pointerdown', at(x, y))
    elements.get('chart').fire('pointerup', at(x, y))
  },
  hover: (x, y) => elements.get('chart').fire('pointermove', at(x, y)),
  drag (x0, x1) {
    elements.get('chart').fire('pointerdown', at(x0, 100))
    elements.get('chart').fire('pointermove', at(x1, 100))
    elements.get('chart').fire('pointerup', at(x1, 100))
  },
  wheel: (deltaY, keys) => elements.get('chart').fire('wheel', { deltaX: 0, deltaY, ...at(600, 100), ...keys }),
  go: x => elements.get('overview').fire('pointerdown', at(x, 10)),
  scroll (y) {
    elements.get('scroller').scrollTop = y
    elements.get('scroller').fire('scroll')
  },
  button: id => elements.get(id).fire('click'),
  resize: () => page.fire('resize'),
  scheme: () => scheme.fire('change')
}
const steps = JSON.parse(readFileSync(0, 'utf8'))
const seen = [shown('start')]
for (const [name, ...values] of steps) {
  ACTIONS[name](...values)
  seen.push(shown(name))
}
console.log(JSON.stringify(seen))
