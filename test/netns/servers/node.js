// A function on Node's http server with default settings; prints what it gets.
const http = require('http')
http.createServer((req, res) => {
  const body = []
  req.on('data', (d) => body.push(d))
  req.on('end', () => {
    console.log(JSON.stringify({ headers: req.headers, body: Buffer.concat(body).toString('base64') }))
    res.end('ok\n')
  })
}).listen(Number(process.argv[2]), '::', () => console.error('msg=serving'))
