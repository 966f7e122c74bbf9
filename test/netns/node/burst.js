// Publishes messages at once with the npm mqtt client: node burst.js URL CLIENT TOPIC PROTOCOL QOS, payloads on standard input, one a line.
const mqtt = require('mqtt')
const fs = require('fs')
const [url, clientId, topic, protocolVersion, qos] = process.argv.slice(2)
const payloads = fs.readFileSync(0, 'utf8').split('\n').filter((p) => p)
const client = mqtt.connect(url, { clientId, protocolVersion: Number(protocolVersion), reconnectPeriod: 0 })
client.on('error', (e) => { console.error(String(e)); process.exit(1) })
client.on('connect', async () => {
  await Promise.all(payloads.map((p) => client.publishAsync(topic, p, { qos: Number(qos) })))
  client.end(false, {}, () => process.exit(0))
})
