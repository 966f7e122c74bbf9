// Functions on Node's http server; prints what they get. Arguments: PORT, with
// default settings, or PORT=MANNER.
const fs = require('fs')
const http = require('http')

// say prints a line, and returns when it is out of our hands: what console.log
// keeps while the pipe is full dies with us, though it was answered.
const never = new Int32Array(new SharedArrayBuffer(4))
function say (line) {
  const b = Buffer.from(line + '\n')
  for (let at = 0; at < b.length;) {
    try {
      at += fs.writeSync(1, b, at)
    } catch (e) {
      if (e.code !== 'EAGAIN') throw e
      Atomics.wait(never, 0, 0, 1) // a millisecond
    }
  }
}

const behave = {
  close: (res) => { res.setHeader('Connection', 'close'); res.end('ok\n') },
  chunked: (res) => { res.write('ok'); setImmediate(() => { res.write('ay'); res.end('\n') }) },
  head: (res) => { res.writeHead(200); res.end('ok\n') }, // chunked, in one segment
  slow: (res) => setTimeout(() => res.end('ok\n'), 2000),
  204: (res) => { res.writeHead(204); res.end() },
  500: (res, status) => { res.writeHead(status); res.end('ok\n') }
}
const settings = {
  idle: (server) => { server.keepAliveTimeout = 5000 },
  limit: (server) => { server.maxRequestsPerSocket = 100 }
}

const ports = process.argv.slice(2)
let listening = 0
for (const arg of ports) {
  const [port, manner] = arg.split('=')
  if (manner && !behave[manner] && !settings[manner]) throw new Error(`no manner ${manner}`)
  let n = 0
  const server = http.createServer((req, res) => {
    const body = []
    req.on('data', (d) => body.push(d))
    req.on('end', () => {
      const status = manner === '500' && ++n % 3 ? 500 : 200
      say(JSON.stringify({ headers: req.headers, body: Buffer.concat(body).toString('base64'), status }))
      if (behave[manner]) behave[manner](res, status)
      else res.end('ok\n')
    })
  })
  if (settings[manner]) settings[manner](server)
  server.listen(Number(port), '::', () => { if (++listening === ports.length) console.error('msg=serving') })
}
