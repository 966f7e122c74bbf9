//go:build page

package netns

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// browser is a headless Chromium on the node, with one tab. It is told what to do by the DevTools protocol through pipes, so that it
// listens nowhere.
type browser struct {
	t       *testing.T
	to      *os.File
	session string
	calls   int
	answers chan devtools
	wrong   chan string // what it complains of
}

// devtools is one message of the protocol.
type devtools struct {
	ID      int             `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// browse starts one; it ends with the test.
func browse(t *testing.T, l *lab.Lab) *browser {
	t.Helper()
	fromUs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en-US", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // 3 and 4
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := l.Start(lab.Node, cmd); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, to: to, answers: make(chan devtools, 1), wrong: make(chan string, 1000)}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // with all its processes
		_ = cmd.Wait()
		_, _ = to.Close(), from.Close()
	})
	_, _ = fromUs.Close(), toUs.Close()
	go b.read(from)
	var tab struct{ TargetID, SessionID string }
	b.into(&tab, "Target.createTarget", map[string]any{"url": "about:blank"})
	b.into(&tab, "Target.attachToTarget", map[string]any{"targetId": tab.TargetID, "flatten": true})
	b.session = tab.SessionID
	for _, domain := range []string{"Runtime", "Log", "Page"} {
		b.call(domain+".enable", nil)
	}
	return b
}

// read hands on answers, and what the browser complains of by itself.
func (b *browser) read(from *os.File) {
	defer close(b.answers)
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtools
		if err := json.Unmarshal(line[:len(line)-1], &m); err != nil {
			b.wrong <- fmt.Sprintf("%s: %v", line, err)
			continue
		}
		said := string(m.Params)
		switch {
		case m.ID != 0:
			b.answers <- m
		case m.Method == "Runtime.exceptionThrown",
			m.Method == "Runtime.consoleAPICalled" && (strings.Contains(said, `"type":"error"`) || strings.Contains(said, `"type":"warning"`)),
			m.Method == "Log.entryAdded" && (strings.Contains(said, `"level":"error"`) || strings.Contains(said, `"level":"warning"`)):
			b.wrong <- said
		}
	}
}

// call has the browser do something.
func (b *browser) call(method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	b.calls++
	p, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	m, err := json.Marshal(devtools{ID: b.calls, Method: method, Params: p, Session: b.session})
	if err != nil {
		b.t.Fatal(err)
	}
	if params == nil {
		m = []byte(strings.Replace(string(m), `"params":null`, `"params":{}`, 1))
	}
	if _, err := b.to.Write(append(m, 0)); err != nil {
		b.t.Fatal(err)
	}
	select {
	case a, open := <-b.answers:
		if !open || a.Error != nil || a.ID != b.calls {
			b.t.Fatalf("%s: %+v %v", method, a, a.Error)
		}
		return a.Result
	case <-time.After(time.Minute):
		b.t.Fatalf("%s: no answer", method)
	}
	return nil
}

// into is call for its result.
func (b *browser) into(result any, method string, params map[string]any) {
	b.t.Helper()
	if err := json.Unmarshal(b.call(method, params), result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// evaluate is the value of an expression in the page.
func (b *browser) evaluate(expression string, value any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.into(&r, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true})
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s", r.ExceptionDetails)
	}
	if err := json.Unmarshal(r.Result.Value, value); err != nil {
		b.t.Fatalf("%s: %v", r.Result.Value, err)
	}
}

// complaints are what the browser has complained of so far.
func (b *browser) complaints() (out []string) {
	for {
		select {
		case c := <-b.wrong:
			out = append(out, c)
		default:
			return out
		}
	}
}
