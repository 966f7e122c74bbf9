// Publishes messages with the npm mqtt client: node publish.js URL CLIENT TOPIC PROTOCOL QOS PAYLOAD...
const mqtt = require('mqtt')
const [url, clientId, topic, protocolVersion, qos, ...payloads] = process.argv.slice(2)
const client = mqtt.connect(url, { clientId, protocolVersion: Number(protocolVersion), reconnectPeriod: 0 })
client.on('error', (e) => { console.error(String(e)); process.exit(1) })
client.on('connect', async () => {
  for (const p of payloads) await client.publishAsync(topic, p, { qos: Number(qos) })
  client.end(false, {}, () => process.exit(0))
})
