package delivery

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// deadLetter is one line of a dead letter file.
type deadLetter struct {
	Time     time.Time `json:"time"`
	Function string    `json:"function"`
	Client   string    `json:"client"`
	Username string    `json:"username,omitempty"` // whose password was checked
	Topic    string    `json:"topic"`
	QoS      byte      `json:"qos"`
	Retain   bool      `json:"retain,omitempty"`
	Dup      bool      `json:"dup,omitempty"`
	Attempts int       `json:"attempts"`
	Status   int       `json:"status,omitempty"`
	Error    string    `json:"error,omitempty"`
	Payload  []byte    `json:"payload"` // base64
}

// deadLetters writes files, one writer at a time.
type deadLetters struct{ mu sync.Mutex }

// write appends one line and returns when it is on disk.
func (d *deadLetters) write(fn *config.Function, m *request.Message, o Outcome, attempts int) error {
	l := deadLetter{Time: time.Now().UTC(), Function: fn.Name, Client: m.ClientID, Username: m.Username, Topic: m.Topic, QoS: m.QoS,
		Retain: m.Retain, Dup: m.Dup, Attempts: attempts, Status: o.Status, Payload: m.Payload}
	if o.Err != nil {
		l.Error = o.Err.Error()
	}
	line, err := json.Marshal(&l)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(fn.DeadLetter.File), 0o750); err != nil {
		return fmt.Errorf("make dead letter directory: %w", err)
	}
	f, err := os.OpenFile(fn.DeadLetter.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open dead letter file: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write dead letter: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync dead letter: %w", err)
	}
	return nil
}
