package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

const good = `interfaces: [eth0]
functions:
  - name: temp
    url: http://temp.local/ingest
    pods: [10.2.0.2:8080, "[fd00::2]:8080"]
    timeout: 5s
routes:
  - topic: sensors/+/temp
    function: temp
`

func TestSmallConfiguration(t *testing.T) {
	c, err := Parse("f.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	f := c.Functions[0]
	if f.Timeout != 5*time.Second || f.Concurrency != 16 || len(f.Pods) != 2 || c.Listeners[0].Address != ":1883" || !c.Auth.AllowAnonymous {
		t.Errorf("%+v %+v", f, c)
	}
}

// TestDeadlineOfFunction: a message may take twice as long as all its attempts, if nothing else is said.
func TestDeadlineOfFunction(t *testing.T) {
	for with, want := range map[string]time.Duration{
		"content_type: a/b":                           180 * time.Second,
		"timeout: 5s":                                 30 * time.Second,
		"retry: {attempts: 1}":                        time.Minute,
		"timeout: 5s\n    retry: {attempts: 7}":       70 * time.Second,
		"timeout: 5s\n    deadline: 5s":               5 * time.Second,
		"timeout: 200h\n    deadline: 1000h":          1000 * time.Hour,
		"timeout: 2562047h\n    retry: {attempts: 2}": math.MaxInt64,
	} {
		c, err := Parse("f.yaml", []byte(strings.Replace(good, "timeout: 5s", with, 1)))
		if err != nil || c.Functions[0].Deadline != want {
			t.Errorf("%s: %v, want %s", with, err, want)
		}
	}
}

func TestFromPublisher(t *testing.T) {
	for with, want := range map[string]bool{"timeout: 5s": false, "cloudevents: {type: t}": false, "cloudevents: {from_publisher: true}": true} {
		c, err := Parse("f.yaml", []byte(strings.Replace(good, "timeout: 5s", with, 1)))
		if err != nil || c.Functions[0].CloudEvents.FromPublisher != want {
			t.Errorf("%s: %v, want %v", with, err, want)
		}
	}
}

func TestTracing(t *testing.T) {
	for with, want := range map[string]float64{"timeout: 5s": 0, "tracing: true": 1, "tracing: false": 0, "tracing: {}": 1, "tracing: {sample: 0.25}": 0.25, "tracing: {sample: 1}": 1} {
		c, err := Parse("f.yaml", []byte(strings.Replace(good, "timeout: 5s", with, 1)))
		if err != nil || c.Functions[0].Tracing != want {
			t.Errorf("%s: %v, want %v", with, err, want)
		}
	}
}

func TestErrorsNameTheirLine(t *testing.T) {
	for _, c := range []struct{ replace, with, want string }{
		{"interfaces:", "interface:", `f.yaml:1: interface: unknown key; known are interfaces, xdp`},
		{"functions:", "pods_gro: maybe\nfunctions:", `f.yaml:2: pods_gro "maybe": must be on or off`},
		{"timeout: 5s", "timeout: soon", `f.yaml:6: function "temp": timeout: duration "soon"`},
		{"timeout: 5s", "timeout: 5s\n    deadline: 4s", `f.yaml:7: function "temp": deadline 4s: must be at least the timeout of one attempt, 5s`},
		{"timeout: 5s", "deadline: 29s", `f.yaml:6: function "temp": deadline 29s: must be at least the timeout of one attempt, 30s`},
		{"timeout: 5s", "deadline: 0s", `f.yaml:6: function "temp": deadline: duration "0s"`},
		{"timeout: 5s", "timeout: 0s", `f.yaml:6: function "temp": timeout: duration "0s"`},
		{"timeout: 5s", "retry: {attempts: 0}", `f.yaml:6: function "temp": retry.attempts 0: must be 1 to 100`},
		{"timeout: 5s", "queue: {spool: {dir: /s}}", `f.yaml:6: function "temp": queue.spool needs a dead_letter`},
		{"timeout: 5s", "queue: {spool: {bytes: 1Gi}}", `f.yaml:6: function "temp": queue.spool: dir is missing`},
		{"timeout: 5s", "queue: {spool: {dir: s}}\n    dead_letter: {file: /d}", `f.yaml:6: queue.spool.dir "s": must be an absolute path`},
		{"timeout: 5s", "queue: {spool: {dir: /s, bytes: 1Ki}}\n    dead_letter: {file: /d}", `f.yaml:6: function "temp": queue.spool.bytes "1Ki": must be bytes, at least 1Mi`},
		{"timeout: 5s", "queue: {spool: {dir: /s, fsync: false}}\n    dead_letter: {file: /d}", `f.yaml:6: functions[0].queue.spool.fsync: unknown key; known are dir, bytes`},
		{"timeout: 5s", "concurrency: 65", `f.yaml:6: function "temp": concurrency 65: must be 1 to 64`},
		{"timeout: 5s", "concurrency: many", `f.yaml:6: functions[0].concurrency: found the text "many", want a whole number`},
		{"timeout: 5s", "concurrency: 1.5", `f.yaml:6: functions[0].concurrency: found "1.5", want a whole number`},
		{"timeout: 5s", "concurrency: 99999999999999999999", `f.yaml:6: functions[0].concurrency: found "99999999999999999999", want a whole number`},
		{"timeout: 5s", "retry: 3", `f.yaml:6: functions[0].retry: found "3", want keys with values`},
		{"functions:", "tracing: {otlp: \"localhost:4318\"}\nfunctions:", `f.yaml:2: tracing.otlp "localhost:4318": must be the base URL`},
		{"functions:", "tracing: {otlp: \"http://u:p@c/\"}\nfunctions:", `f.yaml:2: tracing.otlp "http://u:p@c/": must be the base URL`},
		{"functions:", "tracing: true\nfunctions:", `f.yaml:2: tracing: found "true", want keys with values`},
		{"timeout: 5s", "tracing: {sample: 0}", `f.yaml:6: function "temp": tracing.sample 0: must be above 0, and at most 1`},
		{"timeout: 5s", "tracing: {sample: 1.01}", `f.yaml:6: function "temp": tracing.sample 1.01: must be above 0, and at most 1`},
		{"timeout: 5s", "tracing: {sample: some}", `f.yaml:6: functions[0].tracing.sample: found the text "some", want a number`},
		{"timeout: 5s", "tracing: {sample: .nan}", `f.yaml:6: functions[0].tracing.sample: found ".nan", want a number`},
		{"timeout: 5s", "tracing: 0.5", `f.yaml:6: functions[0].tracing: found "0.5", want true or false`},
		{"timeout: 5s", "tracing: {\"\": true}", `f.yaml:6: functions[0].tracing.: unknown key; known are sample`},
		{"timeout: 5s", "tracing: true\n    headers: {TraceParent: x}", `f.yaml:6: function "temp": tracing: headers has a traceparent for all messages already`},
		{"timeout: 5s", "headers: [a]", `f.yaml:6: functions[0].headers: found a list, want keys with values`},
		{"timeout: 5s", "headers: {X-A: [a]}", `f.yaml:6: functions[0].headers.X-A: found a list, want text`},
		{"timeout: 5s", "name: again", `f.yaml:6: functions[0].name is a duplicate of line 3`},
		{"timeout: 5s", "timeout: !!binary aa==", `f.yaml:6: functions[0].timeout: found "aa==" with the tag "!!binary", want text`},
		{"timeout: 5s", "? [a]\n    : b", `f.yaml:6: functions[0]: a key must be text`},
		{"    function: temp", "    function: temp\n    ordered: maybe", `f.yaml:10: routes[0].ordered: found the text "maybe", want true or false`},
		{"    function: temp", "    function: temp\n---\nxdp: off", `f.yaml:10: a second document`},
		{"    pods: [10.2.0.2:8080, \"[fd00::2]:8080\"]", "    pods: 10.2.0.2:8080", `f.yaml:5: functions[0].pods: found the text "10.2.0.2:8080", want a list`},
		{good, "interfaces", `f.yaml:1: the configuration: found the text "interfaces", want keys with values`},
		{good, "a: b: c", `f.yaml:1: not YAML: mapping values are not allowed`},
		{good, "functions:\n- {a: b\nc: d}\n", `f.yaml:3: not YAML: did not find expected ',' or '}' while parsing a flow mapping that begins in line 2`},
		{good, "functions:\n\n- name: \xff\n", `f.yaml:3: not YAML: invalid`},
		{"url: http://temp.local/ingest", "url: http://temp.local/?q=a b", `f.yaml:4: function "temp": url "http://temp.local/?q=a b": blanks`},
		{"timeout: 5s", "headers: {Expect: 100-continue}", `f.yaml:6: function "temp": header "Expect" asks the server`},
		{"timeout: 5s", "headers:\n      X-A: a\n      upgrade: h2c", `f.yaml:8: function "temp": header "upgrade" is about a connection`},
		{"timeout: 5s", "headers:\n      X-A: a\n      x-a: b", `f.yaml:8: function "temp": header "x-a" is a duplicate`},
		{"timeout: 5s", "headers: {X A: a}", `f.yaml:6: function "temp": header name "X A" is not a token`},
		{"timeout: 5s", "headers: {X-A: \" a\"}", `f.yaml:6: function "temp": header "X-A": value " a" begins or ends with a blank`},
		{"timeout: 5s", "content_type: \"a\\nb\"", `f.yaml:6: function "temp": content_type: value "a\nb" has control characters`},
		{"10.2.0.2:8080", "10.2.0.2", `f.yaml:5: function "temp": pod "10.2.0.2"`},
		{"10.2.0.2:8080", "10.2.0.300:8080", `f.yaml:5: function "temp": pod "10.2.0.300:8080": must be address:port or host:port`},
		{"    pods:", "    drain: [10.2.0.2]\n    pods:", `f.yaml:5: function "temp": drain "10.2.0.2": must be`},
		{"    pods:", "    probe: healthz\n    pods:", `f.yaml:5: function "temp": probe "healthz" must be tcp, or a path such as /healthz`},
		{"    pods:", "    probe: /a b\n    pods:", `f.yaml:5: function "temp": probe "/a b" is no valid path`},
		{"10.2.0.2:8080", "temp.local:0", `f.yaml:5: function "temp": pod "temp.local:0": must be`},
		{"10.2.0.2:8080", "temp.local:80, temp.local:80", `f.yaml:5: function "temp": pod "temp.local:80" is a duplicate`},
		{"timeout: 5s", "discover: {file: pods.json}", `f.yaml:6: function "temp": discover file "pods.json": must be an absolute path`},
		{"timeout: 5s", "discover: {dns: temp.local}", `f.yaml:6: function "temp": discover dns "temp.local": must be host:port`},
		{"timeout: 5s", "discover: {dns: _http.temp.local}", `f.yaml:6: function "temp": discover dns "_http.temp.local": must be _service._proto.host`},
		{"timeout: 5s", "discover: {kubernetes: {namespace: a}}", `f.yaml:6: function "temp": service "": must be a name as Kubernetes has them`},
		{"timeout: 5s", "kubernetes: {service: a.b}", `f.yaml:6: function "temp": service "a.b": must be a name as Kubernetes has them`},
		{"timeout: 5s", "kubernetes: {service: a, namespace: -b}", `f.yaml:6: function "temp": namespace "-b": must be a name as Kubernetes has them`},
		{"timeout: 5s", "kubernetes: {service: a, port: 65536}", `f.yaml:6: function "temp": port "65536": must be`},
		{"timeout: 5s", "kubernetes: {service: a, port: a_b}", `f.yaml:6: function "temp": port "a_b": must be`},
		{"timeout: 5s", "kubernetes: {service: a, ports: 80}", `f.yaml:6: functions[0].kubernetes.ports: unknown key; known are service, knative, namespace, port`},
		{"timeout: 5s", "kubernetes: {service: a, knative: a}", `f.yaml:6: function "temp": service and knative are two Services`},
		{"timeout: 5s", "kubernetes: {knative: a.b}", `f.yaml:6: function "temp": knative "a.b": must be a name as Kubernetes has them`},
		{"routes:", "kubernetes: {name: A}\nroutes:", `f.yaml:7: kubernetes.name "A": must be`},
		{"timeout: 5s", "kubernetes: {service: a}\n    discover: {kubernetes: {service: a}}", `f.yaml:6: function "temp": kubernetes and discover.kubernetes are the same`},
		{"routes:", "kubernetes: {routes: [{namespace: A}]}\nroutes:", `f.yaml:7: kubernetes.routes: namespace "A": must be`},
		{"routes:", "kubernetes: {routes: [{namespace: a}, {namespace: a}]}\nroutes:", `f.yaml:7: kubernetes.routes: namespace "a" is a duplicate`},
		{"routes:", "kubernetes: {routes: [{namespace: a, topics: [a/#/b]}]}\nroutes:", `f.yaml:7: kubernetes.routes: topic "a/#/b"`},
		{"routes:", "kubernetes: {kubeconfig: admin.conf}\nroutes:", `f.yaml:7: kubernetes.kubeconfig "admin.conf": must be an absolute path`},
		{"url: http://temp.local/ingest", "url: ftp://x", `f.yaml:4: function "temp": url "ftp://x"`},
		{"function: temp", "function: tmp", `f.yaml:9: route "sensors/+/temp": unknown function "tmp"`},
		{"sensors/+/temp", "sensors/#/temp", `f.yaml:8: route "sensors/#/temp"`},
		{"    function: temp\n", "    function: temp\n  - topic: $share/g/sensors/+/temp\n    function: temp\n", `f.yaml:10: route "$share/g/sensors/+/temp" is a duplicate of line 8`},
		{"routes:", "auth: {users: [{username: u, password_hash: secret}]}\nroutes:", `f.yaml:7: user "u": password_hash is not a bcrypt hash`},
		{"routes:", "auth: {users: [{username: u, password_hash: $2y$05$abc}]}\nroutes:", `f.yaml:7: user "u": password_hash is not a bcrypt hash`},
		{"routes:", "auth: {users: [{username: u, password_hash: $2y$05$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu!.}]}\nroutes:", `f.yaml:7: user "u": password_hash is not a bcrypt hash`},
		{"routes:", "auth: {users: [{username: u, password_hash: $2y$17$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu.}]}\nroutes:", `f.yaml:7: user "u": password_hash has the cost 17: more than 16`},
		{"routes:", "auth: {users: [{username: u, password_hash: $6$a$b}]}\nroutes:", `f.yaml:7: user "u": password_hash is not a bcrypt hash, as htpasswd -nbB writes, or one of mosquitto_passwd`},
		{"routes:", "auth: {users: [{username: u, publish: [a]}]}\nroutes:", `f.yaml:7: user "u": password_hash is not`},
		{"routes:", "auth: {password_file: passwd}\nroutes:", `f.yaml:7: auth.password_file "passwd": must be an absolute path`},
		{"routes:", "auth: {jwt: {}}\nroutes:", `f.yaml:7: auth.jwt: no keys: name a secret_file, a public_key_file or a jwks_file`},
		{"routes:", "auth:\n  jwt:\n    secret_file: s\nroutes:", `f.yaml:9: auth.jwt.secret_file "s": must be an absolute path`},
		{"routes:", "auth: {jwt: {public_key_file: s}}\nroutes:", `f.yaml:7: auth.jwt.public_key_file "s": must be an absolute path`},
		{"routes:", "auth: {jwt: {jwks_file: s}}\nroutes:", `f.yaml:7: auth.jwt.jwks_file "s": must be an absolute path`},
		{"routes:", "auth: {jwt: {jwks: s}}\nroutes:", `f.yaml:7: auth.jwt.jwks: unknown key; known are secret_file`},
		{"routes:", "auth: {http: {}}\nroutes:", `f.yaml:7: auth.http.url "": must be as https://login.example/mqtt`},
		{"routes:", "auth: {http: {url: \"ldap://x\"}}\nroutes:", `f.yaml:7: auth.http.url "ldap://x"`},
		{"routes:", "auth: {http: {url: \"http://x\", timeout: 1m}}\nroutes:", `f.yaml:7: auth.http.timeout 1m0s: must be at most 20s`},
		{"routes:", "auth: {http: {url: \"http://x\", valid: 1s}}\nroutes:", `f.yaml:7: auth.http.valid 1s: must be at least 10s`},
		{"routes:", "auth: {default: {deny_publish: [a/#/b]}}\nroutes:", `f.yaml:7: auth.default: filter "a/#/b"`},
		{"routes:", "auth: {password_file: /p, users: [{username: u, deny_subscribe: [a, b#]}]}\nroutes:", `f.yaml:7: user "u": filter "b#"`},
		{"routes:", "auth: {default: {deny_subscribe: [$share/g/secret/#]}}\nroutes:", `f.yaml:7: auth.default: filter "$share/g/secret/#": rights count for every group: leave $share/group/ out`},
		{"routes:", "auth: {password_file: /p, users: [{username: u, subscribe: [$share/g/a]}]}\nroutes:", `f.yaml:7: user "u": filter "$share/g/a": rights count`},
		{"routes:", "auth: {deny: {addresses: [\"::ffff:10.0.0.0/90\"]}}\nroutes:", `f.yaml:7: auth.deny: address "::ffff:10.0.0.0/90": must be`},
		{"timeout: 5s", "dead_letter: {}", `f.yaml:6: function "temp": dead_letter needs one of file, topic and url`},
		{"timeout: 5s", "dead_letter: {file: /a, topic: b}", `f.yaml:6: function "temp": dead_letter needs one of file, topic and url`},
		{"timeout: 5s", "dead_letter: {file: a}", `f.yaml:6: function "temp": dead_letter file "a": must be an absolute path`},
		{"timeout: 5s", "dead_letter: {file: /a, max_size: 7}", `f.yaml:6: function "temp": dead_letter.max_size "7": must be bytes, at least 1Mi`},
		{"timeout: 5s", "dead_letter: {file: /a, keep: 0}", `f.yaml:6: function "temp": dead_letter.keep 0: must be 1 to 100`},
		{"timeout: 5s", "dead_letter: {topic: a/#}", `f.yaml:6: function "temp": dead_letter topic "a/#"`},
		{"timeout: 5s", "dead_letter: {topic: $SYS/a}", `f.yaml:6: function "temp": dead_letter topic "$SYS/a": topics under`},
		{"timeout: 5s", "dead_letter: {topic: a, keep: 3}", `f.yaml:6: function "temp": dead_letter max_size and keep are those of a file`},
		{"timeout: 5s", "dead_letter: {url: \"ftp://x\"}", `f.yaml:6: function "temp": dead_letter url "ftp://x": must be as http://letters.example/temp`},
		{"sensors/+/temp", "$SYS/#", `f.yaml:8: route "$SYS/#": topics under $SYS and $share are the server's own`},
		{"sensors/+/temp", "$share/g/$SYS", `f.yaml:8: route "$share/g/$SYS": topics under`},
		{"timeout: 5s", "headers: {Host: x}", `header "Host" is written by eproxy itself`},
		{"timeout: 5s", `headers: {X-A: "a\r\nb"}`, `has control characters`},
		{"pods: [10.2.0.2:8080, \"[fd00::2]:8080\"]", "pods: []", `function "temp" has no pods: list them, or say where to discover them, or what to run`},
		{"timeout: 5s", "run: {}", `f.yaml:6: function "temp": run has no command: a list, as [/usr/bin/node, server.js]`},
		{"timeout: 5s", "run: {command: node server.js}", `f.yaml:6: functions[0].run.command: found the text "node server.js", want a list`},
		{"timeout: 5s", "run: {command: [\"a\\0\"]}", `f.yaml:6: function "temp": run.command: has a NUL`},
		{"timeout: 5s", "run: {command: [a], env: {A=B: c}}", `f.yaml:6: function "temp": run.env "A=B": must have a name without =`},
		{"timeout: 5s", "run: {command: [a], env: {PORT: 80}}", `f.yaml:6: function "temp": run.env PORT: it is set by run.port`},
		{"timeout: 5s", "run: {command: [a], dir: x}", `f.yaml:6: function "temp": run.dir "x": must be an absolute path`},
		{"timeout: 5s", "run: {command: [a], user: root}", `f.yaml:6: function "temp": run.user "root": instances never run as root`},
		{"timeout: 5s", "run: {command: [a], memory: 1M}", `f.yaml:6: function "temp": run.memory "1M": must be bytes, at least 1Mi, as 256Mi or 2Gi`},
		{"timeout: 5s", "run: {command: [a], memory: 99999999999Gi}", `f.yaml:6: function "temp": run.memory "99999999999Gi": must be`},
		{"timeout: 5s", "run: {command: [a], cpu: NaN}", `f.yaml:6: function "temp": run.cpu "NaN": must be processors, as 0.5 or 2`},
		{"timeout: 5s", "run: {command: [a], instances: 0}", `f.yaml:6: function "temp": run.instances 0: must be 1 to 256`},
		{"timeout: 5s", "run: {command: [a], instances: many}", `f.yaml:6: functions[0].run.instances: found the text "many", want a whole number`},
		{"timeout: 5s", "run: {command: [a], instances: {min: -1}}", `f.yaml:6: function "temp": run.instances.min -1: must be 0 to 256`},
		{"timeout: 5s", "run: {command: [a], instances: {max: 0}}", `f.yaml:6: function "temp": run.instances.max 0: must be 1 to 256`},
		{"timeout: 5s", "run: {command: [a], instances: {min: 3, max: 2}}", `f.yaml:6: function "temp": run.instances: min 3 is more than max 2`},
		{"timeout: 5s", "run: {command: [a], instances: {most: 2}}", `f.yaml:6: functions[0].run.instances.most: unknown key; known are min, max`},
		{"timeout: 5s", "run: {command: [a], lambda: 1ms}", `f.yaml:6: function "temp": run.lambda 1ms: must be from 1s to 720h0m0s`},
		{"timeout: 5s", "run: {command: [a], sandbox: chroot}", `f.yaml:6: function "temp": run.sandbox "chroot": must be none or read-only`},
		{"timeout: 5s", "run: {command: [a], network: on}", `f.yaml:6: function "temp": run.network "on": must be outgoing or none`},
		{"timeout: 5s", "run: {command: [a], port: 0}", `f.yaml:6: function "temp": run.port 0: must be 1 to 65535`},
		{"timeout: 5s", "run: {command: [a], start: 0s}", `f.yaml:6: function "temp": run.start: duration "0s": must be positive`},
		{"timeout: 5s", "run: {command: [a], idle: 0s}", `f.yaml:6: function "temp": run.idle: duration "0s": must be positive`},
		{"timeout: 5s", "run: {command: [a], idle: 100ms}", `f.yaml:6: function "temp": run.idle 100ms: must be at least 1s`},
		{"timeout: 5s", "run: {command: [a], zygote: node}", `f.yaml:6: function "temp": run.zygote "node": must be python`},
		{"timeout: 5s", "run: {command: [a], zygote: yes}", `f.yaml:6: function "temp": run.zygote "yes": must be python`},
		{"timeout: 5s", "run: {command: [a], imports: [json]}", `f.yaml:6: function "temp": run.imports: only a zygote imports them, and without run.zygote there is none`},
		{"timeout: 5s", "run: {command: [a], zygote: python, imports: [json, a b]}", `f.yaml:6: function "temp": run.imports "a b": must be the name of a module, as json or xml.sax`},
		{"timeout: 5s", `run: {command: [a], zygote: python, imports: [""]}`, `f.yaml:6: function "temp": run.imports "": must be the name of a module, as json or xml.sax`},
		{"timeout: 5s", "run: {command: [a], zygote: python, imports: [.json]}", `f.yaml:6: function "temp": run.imports ".json": must be the name of a module, as json or xml.sax`},
		{"timeout: 5s", "run: {command: [a], zygote: python, imports: [a.b, a.b]}", `f.yaml:6: function "temp": run.imports "a.b" is a duplicate`},
		{"timeout: 5s", "run: {command: [a], zygote: python, imports: [" + strings.Repeat("a", 201) + "]}", `: must be the name of a module, as json or xml.sax`},
		{"timeout: 5s", "run: {command: [a], page_out: 1m}", `f.yaml:6: function "temp": run.page_out: only what is frozen is paged out, and without run.idle nothing is`},
		{"timeout: 5s", "run: {command: [a], idle: 2m, page_out: 1m}", `f.yaml:6: function "temp": run.page_out 1m0s: must be at least run.idle, 2m0s, or never`},
		{"timeout: 5s", "run: {command: [a], idle: 2m, page_out: later}", `f.yaml:6: function "temp": run.page_out: duration "later": must be positive`},
		{"timeout: 5s", "autoscaling: {kubernetes: {}}\n    kubernetes: {service: s}", `f.yaml:6: function "temp": autoscaling.kubernetes: needs deployment or statefulset`},
		{"timeout: 5s", "autoscaling: {kubernetes: {deployment: a, statefulset: b}}\n    kubernetes: {service: s}", `f.yaml:6: function "temp": autoscaling.kubernetes: deployment and statefulset: one of them is too many`},
		{"timeout: 5s", "autoscaling: {kubernetes: {deployment: A_b}}\n    kubernetes: {service: s}", `f.yaml:6: function "temp": autoscaling.kubernetes: "A_b": must be a name as Kubernetes has them`},
		{"timeout: 5s", "autoscaling: {kubernetes: {deployment: a, namespace: a/b}}\n    kubernetes: {service: s}", `f.yaml:6: function "temp": autoscaling.kubernetes.namespace "a/b": must be a name`},
		{"timeout: 5s", "autoscaling: {kubernetes: {deployment: a, min: 3, max: 2}}\n    kubernetes: {service: s}", `f.yaml:6: function "temp": autoscaling.kubernetes: min 3 is more than max 2`},
		{"timeout: 5s", "autoscaling: {kubernetes: {deployment: a, max: 0}}\n    kubernetes: {service: s}", `f.yaml:6: function "temp": autoscaling.kubernetes.max 0: must be 1 to 1000`},
		{"timeout: 5s", "autoscaling: {kubernetes: {deployment: a}}", `f.yaml:6: function "temp": autoscaling.kubernetes: needs kubernetes.service`},
		{"routes:", "runtime: {memory: 2}\nroutes:", `f.yaml:7: runtime.memory "2": must be bytes, at least 1Mi, as 256Mi or 2Gi`},
		{"timeout: 5s", "run: {command: [a]}\nruntime: {memory: 511Mi}", `f.yaml:6: function "temp": run.memory of 512 MiB is more than all instances may have together, the 511 MiB of runtime.memory`},
		{"routes:", "runtime: {addresses: 10.0.0.0/31}\nroutes:", `f.yaml:7: runtime.addresses "10.0.0.0/31": must be an IPv4 prefix of /8 to /30`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nxdp: fast", `f.yaml:2: xdp "fast"`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \"1883\"}]", `f.yaml:2: listeners[0].address: address "1883"`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", tls: {cert: /c}}]", `f.yaml:2: tls: key is missing`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", tls: {cert: /c, key: k}}]", `f.yaml:2: tls: key "k": must be an absolute path`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", tls: {cert: /c, key: /k, crl: /r}}]", `f.yaml:2: tls: crl without client_ca`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", tls: {cert: /c, key: /k, username: dns}}]", `f.yaml:2: tls: username without client_ca`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", tls: {cert: /c, key: /k, client_ca: /a, username: cn}}]", `f.yaml:2: tls: username "cn": must be common_name, subject`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", origins: [\"https://a\"]}]", `f.yaml:2: listeners[0]: origins are those of web pages`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", websocket: true, origins: [\"https://a/\"]}]", `f.yaml:2: origin "https://a/": must be as`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \":1\", proxy_protocol: [10.0.0.0/33]}]", `f.yaml:2: proxy_protocol: address "10.0.0.0/33"`},
		{"interfaces: [eth0]", "interfaces: [eth0", `f.yaml:`},
		{"    timeout: 5s", "\ttimeout: 5s", `f.yaml:6: not YAML: a tab in the indentation, which may only be of blanks`},
		{"    timeout: 5s", "   timeout: 5s", `f.yaml:6: not YAML: did not find expected '-' indicator`},
		{"timeout: 5s", "retry: {backoff: 0s}", `f.yaml:6: function "temp": retry.backoff: duration "0s"`},
		{"routes:", "limits: {pods: 0}\nroutes:", `f.yaml:7: limits.pods 0: must be 1 to`},
		{"routes:", "drain_timeout: -1s\nroutes:", `f.yaml:7: drain_timeout: duration "-1s"`},
		{"routes:", "metrics: {listen: x}\nroutes:", `f.yaml:7: metrics.listen: address "x"`},
		{"routes:", "metrics: {page: true, token_file: /t}\nroutes:", `f.yaml:7: metrics.page: needs metrics.listen`},
		{"routes:", "metrics: {listen: \":1\", page: true}\nroutes:", `f.yaml:7: metrics.page: needs metrics.token_file`},
		{"routes:", "metrics: {listen: \":1\", page: true, token_file: t}\nroutes:", `f.yaml:7: metrics.token_file "t": must be an absolute path`},
		{"routes:", "metrics: {listen: \":1\", token_file: /t}\nroutes:", `f.yaml:7: metrics.token_file: is for the page alone`},
		{"pods: [10", "pod: [10", `f.yaml:5: functions[0].pod: unknown key`},
		{"name: temp", "nam: temp", `f.yaml:3: functions[0].nam: unknown key`},
		{"name: temp", "name: [temp]", `f.yaml:3: functions[0].name: found a list, want text`},
		{"functions:", "function:", `f.yaml:2: function: unknown key`},
	} {
		in := strings.Replace(good, c.replace, c.with, 1)
		_, err := Parse("f.yaml", []byte(in))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %q, want one line with %q", c.with, err, c.want)
		}
	}
}

// TestErrorsOfBothKinds: what cannot be decoded hides nothing else that is wrong, and what only
// follows from it is not said.
func TestErrorsOfBothKinds(t *testing.T) {
	_, err := Parse("f.yaml", []byte(`interfaces: eth0
xdp: fast
functions:
  - name: temp
    url: ftp://temp.local/ingest
    pods: 10.2.0.2:8080
    timeout: soon
    concurency: 5
    retry: {attempts: many, backoff: never}
routes:
  - topic: sensors/#/temp
    function: temp
  - topic: sensors/+/hum
    function: [hum]
  - topic: a
    function: none
`), NeedInterfaces)
	want := []string{
		`f.yaml:1: interfaces: found the text "eth0", want a list`,
		`f.yaml:2: xdp "fast"`,
		`f.yaml:5: function "temp": url "ftp://temp.local/ingest"`,
		`f.yaml:6: functions[0].pods: found the text`,
		`f.yaml:7: function "temp": timeout: duration "soon"`,
		`f.yaml:8: functions[0].concurency: unknown key`,
		`f.yaml:9: functions[0].retry.attempts: found the text "many"`,
		`f.yaml:9: function "temp": retry.backoff: duration "never"`,
		`f.yaml:11: route "sensors/#/temp"`,
		`f.yaml:14: routes[1].function: found a list`,
	}
	if err == nil {
		t.Fatal("accepted")
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d errors, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("error %q, want %q", got[i], want[i])
		}
	}
}

// TestMappedPrefixes: IPv4-mapped addresses and prefixes are those of IPv4, as which clients' addresses are looked up.
func TestMappedPrefixes(t *testing.T) {
	for in, want := range map[string]string{
		"::ffff:10.0.0.0/104": "10.0.0.0/8", "::ffff:10.1.2.3/104": "10.0.0.0/8", "::ffff:10.0.0.1": "10.0.0.1/32", "::ffff:0:0/96": "0.0.0.0/0",
		"10.1.2.3/8": "10.0.0.0/8", "2001:db8::1/32": "2001:db8::/32", "::/0": "::/0",
	} {
		if p, err := parsePrefix(in); err != nil || p.String() != want {
			t.Errorf("%s: %s (%v), want %s", in, p, err, want)
		}
	}
}

func TestPermissionFilters(t *testing.T) {
	a := Auth{Users: []User{{Username: "dev", PasswordHash: "$2a$04$0123456789012345678901uTQ8cE9ZKvK6oD1Gm8bRkOUnsxkYyqm", Publish: []string{"sensors/%c/#"}, Subscribe: []string{"cmd/%c/#", "x/+"}}}}
	u := a.User("dev")
	for name, want := range map[string]bool{"sensors/d1/t": true, "sensors/d1": true, "sensors/d2/t": false} {
		if got := u.MayPublish("d1", name); got != want {
			t.Errorf("publish %s: %v", name, got)
		}
	}
	for f, want := range map[string]bool{"cmd/d1/#": true, "cmd/d1/x": true, "cmd/+/x": false, "#": false, "x/y": true, "x/+": true, "x/#": false} {
		if got := u.MaySubscribe("d1", f); got != want {
			t.Errorf("subscribe %s: %v", f, got)
		}
	}
	if u.MayPublish("+", "sensors/x/t") {
		t.Error("a client id brought a wildcard into a filter")
	}
}

// TestNamesBringNothingIntoFilters: a client id or a user name is a part of a level, whatever it is.
func TestNamesBringNothingIntoFilters(t *testing.T) {
	u := User{Username: "dev", Publish: []string{"in/%c/x", "as-%u/%c"}}
	for _, x := range []struct {
		client, name string
		want         bool
	}{
		{"c", "in/c/x", true}, {"c", "as-dev/c", true}, {"%u", "in/dev/x", false}, {"%u", "in/%u/x", true}, {"a/b", "in/a/b/x", false},
		{"+", "in/any/x", false}, {"", "in//x", false}, {"#", "in/#/x", false},
	} {
		if got := u.MayPublish(x.client, x.name); got != x.want {
			t.Errorf("client %q to %s: %v", x.client, x.name, got)
		}
	}
}

// TestDeniedFilters: what is denied is, whatever is allowed. Names that cannot be put into a filter deny more, not less.
func TestDeniedFilters(t *testing.T) {
	u := User{Username: "dev", Publish: []string{"a/#", "$x/#"}, DenyPublish: []string{"a/secret/#", "a/+/private", "a/own/%c/x", "+/by-%u"},
		DenySubscribe: []string{"secret/#", "own/%c"}}
	for _, x := range []struct {
		client, name string
		want         bool
	}{
		{"c", "a/b", true}, {"c", "a/secret", false}, {"c", "a/secret/x", false}, {"c", "a/b/private", false}, {"c", "a/b/private/x", true}, {"c", "b", false},
		{"c", "a/own/c/x", false}, {"c", "a/own/d/x", true}, {"c", "a/by-dev", false}, {"c", "$x/by-dev", false}, {"c", "a/by-ops", true},
		{"+", "a/own/d/x", false}, {"", "a/own/d/x", false}, {"c/x", "a/own/c/x/x", false}, {"c/x", "a/other", true},
	} {
		if got := u.MayPublish(x.client, x.name); got != x.want {
			t.Errorf("client %q to %s: %v", x.client, x.name, got)
		}
	}
	for _, x := range []struct {
		client, filter string
		want           bool
	}{
		{"c", "#", true}, {"c", "secret/#", false}, {"c", "secret/a", false}, {"c", "secret/+/x", false}, {"c", "$share/g/secret/a", false}, {"c", "+/a", true},
		{"c", "own/c", false}, {"c", "own/d", true}, {"c", "own/+", true}, {"+", "own/d", false},
	} {
		if got := u.MaySubscribe(x.client, x.filter); got != x.want {
			t.Errorf("client %q subscribes to %s: %v", x.client, x.filter, got)
		}
	}
}

// TestFlowStyleNeedsNoQuotes: what may be written without quotes means the same in flow and in
// block style, and numbers are text where text is wanted.
func TestFlowStyleNeedsNoQuotes(t *testing.T) {
	c, err := Parse("f.yaml", []byte(`interfaces: [eth0]
functions:
  - {name: 7, url: "http://temp.local/ingest", pods: [10.2.0.2:8080, 10.2.0.3:8080], headers: {X-Version: 1.10, X-On: yes}}
routes:
  - {topic: sensors/+/temp, function: 7}
`))
	if err != nil {
		t.Fatal(err)
	}
	f := c.Functions[0]
	if f.Name != "7" || len(f.Pods) != 2 || f.Pods[1].String() != "10.2.0.3:8080" || f.Headers["X-Version"] != "1.10" || f.Headers["X-On"] != "yes" {
		t.Errorf("%+v", f)
	}
}

// TestAliasesAreBounded: anchors and merged mappings work, and cannot make much of little.
func TestAliasesAreBounded(t *testing.T) {
	text := strings.Replace(good, "timeout: 5s", "timeout: 5s\n    retry: &r {attempts: 7}\n  - &f {name: two, url: http://x, pods: [10.2.0.2:1], retry: *r}\n  - {<<: *f, name: three}", 1)
	c, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if f := c.Function("three"); f == nil || f.Retry.Attempts != 7 || f.URL.Host != "x" {
		t.Errorf("%+v", f)
	}
	for _, text := range []string{
		"functions: &a [{pods: *a}]",
		"functions: [&a {<<: *a}]",
		"functions: [{pods: &p [" + strings.Repeat("a,", 9999) + "]}" + strings.Repeat(", {pods: *p}", 9999) + "]",
		"functions: [{<<: &a [" + strings.Repeat("{name: a},", 999) + "]}, {<<: &b [" + strings.Repeat("*a,", 999) + "]}, {<<: [" + strings.Repeat("*b,", 999) + "]}]",
	} {
		if _, err := Parse("f.yaml", []byte(text)); err == nil {
			t.Errorf("%.40s: accepted", text)
		}
	}
}

// TestEmptyNamesWhatIsMissing: a configuration of nothing says what is missing.
func TestEmptyNamesWhatIsMissing(t *testing.T) {
	const noInterfaces, noFunctions = ": no interfaces: ", ": no functions: "
	for _, text := range []string{"", "\n", "# nothing\n", "{}", "---\n", "null", "interfaces: []", "functions:\n", "routes: []\nfunctions: []"} {
		_, err := Parse("f.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), noFunctions) || strings.Contains(err.Error(), noInterfaces) {
			t.Errorf("%q: %v, want %q alone", text, err, noFunctions)
		}
		_, err = Parse("f.yaml", []byte(text), NeedInterfaces)
		if err == nil || !strings.Contains(err.Error(), noInterfaces) || !strings.Contains(err.Error(), noFunctions) {
			t.Errorf("%q: %v, want %q and %q", text, err, noInterfaces, noFunctions)
		}
	}
	if _, err := Parse("f.yaml", []byte(strings.Replace(good, "interfaces: [eth0]\n", "", 1))); err != nil {
		t.Error(err)
	}
}

func TestInterfacesThatDoNotExist(t *testing.T) {
	c, err := Parse("f.yaml", []byte(strings.Replace(good, "[eth0]", "\n  - eth0\n  - eth9", 1)))
	if err != nil {
		t.Fatal(err)
	}
	got := c.MissingInterfaces(func(name string) bool { return name == "eth0" })
	if len(got) != 1 || got.Error() != `f.yaml:3: interface "eth9" does not exist on this machine` {
		t.Errorf("%v", got)
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	if _, err := Load("../../docs/example.yaml"); err != nil {
		t.Error(err)
	}
}

// TestInstancesOfRun: a number is both limits; who gives one limit has the other by it.
func TestInstancesOfRun(t *testing.T) {
	for text, want := range map[string][2]int{
		"": {1, 1}, "instances: 3": {3, 3}, "instances: {}": {0, 1}, "instances: {min: 0}": {0, 1}, "instances: {max: 4}": {0, 4},
		"instances: {min: 2}": {2, 2}, "instances: {min: 1, max: 4}": {1, 4}, "instances: ~": {1, 1},
	} {
		c, err := Parse("f.yaml", []byte("functions: [{name: f, url: \"http://f/\", run: {command: [a], "+text+"}}]\n"))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if run := c.Functions[0].Run; run.Min != want[0] || run.Max != want[1] {
			t.Errorf("%q: %d to %d, want %v", text, run.Min, run.Max, want)
		}
	}
}

// TestServiceTwoWays: a Service beside the pods and one to be discovered mean the same, and other sources may stand beside either.
func TestServiceTwoWays(t *testing.T) {
	const service = "{service: temp, namespace: edge, port: http}"
	var read []Discover
	for _, way := range []string{
		"kubernetes: " + service + "\n    discover: {file: /run/pods, dns: temp.edge:80}",
		"discover: {kubernetes: " + service + ", file: /run/pods, dns: temp.edge:80}",
	} {
		cfg, err := Parse("f.yaml", []byte(strings.Replace(good, "timeout: 5s", way, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if len(cfg.Functions[0].Pods) == 0 {
			t.Errorf("%s: the pods that are named are gone", way)
		}
		read = append(read, cfg.Functions[0].Discover)
	}
	if read[0] != read[1] || read[0].Service.Name != "temp" || read[0].File == "" || read[0].DNS.Host == "" {
		t.Errorf("%+v, and %+v", read[0], read[1])
	}
}
