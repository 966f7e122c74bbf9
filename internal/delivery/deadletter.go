package delivery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// Letter is a dead letter: a message, and why its function does not have it.
type Letter struct {
	Time     time.Time `json:"time"`
	Function string    `json:"function"`
	Client   string    `json:"client"`
	Username string    `json:"username,omitempty"` // whose password was checked
	Topic    string    `json:"topic"`
	QoS      byte      `json:"qos"`
	Retain   bool      `json:"retain,omitempty"`
	Dup      bool      `json:"dup,omitempty"`
	Attempts int       `json:"attempts"`
	Status   int       `json:"status,omitempty"` // the last one that the function answered
	Error    string    `json:"error,omitempty"`

	// What came with the message by MQTT 5.
	Version         byte        `json:"version,omitempty"`
	ContentType     string      `json:"content_type,omitempty"`
	PayloadFormat   byte        `json:"payload_format,omitempty"`
	UserProperties  [][2]string `json:"user_properties,omitempty"` // names and values, in their order
	ResponseTopic   string      `json:"response_topic,omitempty"`
	CorrelationData []byte      `json:"correlation_data,omitempty"` // base64
	MessageExpiry   uint32      `json:"message_expiry,omitempty"`   // seconds, from when it came

	Payload []byte `json:"payload"` // base64
}

func newLetter(fn *config.Function, m *request.Message, o Outcome, attempts int) *Letter {
	l := &Letter{Time: time.Now().UTC(), Function: fn.Name, Client: m.ClientID, Username: m.Username, Topic: m.Topic, QoS: m.QoS,
		Retain: m.Retain, Dup: m.Dup, Attempts: attempts, Status: o.Status, Version: m.Version, ContentType: m.ContentType,
		PayloadFormat: m.PayloadFormat, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData,
		MessageExpiry: m.MessageExpiry, Payload: m.Payload}
	for _, p := range m.UserProperties {
		l.UserProperties = append(l.UserProperties, [2]string{p.Name, p.Value})
	}
	if o.Err != nil {
		l.Error = o.Err.Error()
	}
	return l
}

// Message is the message as it came, but for its interval: nobody waits any more.
func (l *Letter) Message() *request.Message {
	m := &request.Message{ClientID: l.Client, Username: l.Username, Topic: l.Topic, QoS: l.QoS, Retain: l.Retain, Dup: l.Dup, Version: l.Version,
		ContentType: l.ContentType, PayloadFormat: l.PayloadFormat, ResponseTopic: l.ResponseTopic, CorrelationData: l.CorrelationData, Payload: l.Payload}
	for _, p := range l.UserProperties {
		m.UserProperties = append(m.UserProperties, request.UserProperty{Name: p[0], Value: p[1]})
	}
	return m
}

// deadLetters are where letters go: files, by path, subscribers, and URLs. Letters that come while others of the same file are
// being written reach the disk together: a function that is down has them by the thousand.
type deadLetters struct {
	mu      sync.Mutex
	files   map[string]*letterFile
	syncDir func(dir string) error // nil: syncDir
	publish atomic.Pointer[func(*request.Message) error]
	post    poster
}

// letterFile is one file, with at most one writer.
type letterFile struct {
	path    string
	syncDir func(dir string) error
	unnamed []string     // directories whose names may not be on disk; nil: nothing was written yet
	disk    sync.Mutex   // held while files are written or renamed
	replay  sync.RWMutex // held while letters are read, delivered again, or removed

	mu      sync.Mutex
	limit   rotation
	next    *letterBatch // nil: nothing waits to be written
	writing bool
}

// letterBatch are lines that are written together.
type letterBatch struct {
	lines []byte
	done  chan struct{} // closed when err says how it went
	err   error
}

// errNoSubscribers is that of a letter to a topic while there is no server that could publish it.
var errNoSubscribers = errors.New("nobody publishes dead letters to topics")

// write returns when a letter is where it is to be: on disk, handed to the subscribers, or accepted by its URL.
func (d *deadLetters) write(to *config.DeadLetter, l *Letter) error {
	line, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	switch {
	case to.URL != nil:
		return d.post.send(to.URL, line)
	case to.Topic != "":
		if p := d.publish.Load(); p != nil {
			return (*p)(&request.Message{Topic: to.Topic, Payload: line, QoS: 1, ContentType: "application/json", PayloadFormat: 1, Version: 5})
		}
		return errNoSubscribers
	}
	b := d.file(to.File).add(append(line, '\n'), rotation{to.MaxSize, to.Keep})
	<-b.done
	return b.err
}

func (d *deadLetters) file(path string) *letterFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	if f == nil {
		f = &letterFile{path: path, syncDir: d.syncDir}
		if f.syncDir == nil {
			f.syncDir = syncDir
		}
		if d.files == nil {
			d.files = make(map[string]*letterFile)
		}
		d.files[path] = f
	}
	return f
}

// add puts a line into the batch that is written next.
func (f *letterFile) add(line []byte, limit rotation) *letterBatch {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = limit
	if f.next == nil {
		f.next = &letterBatch{done: make(chan struct{})}
	}
	f.next.lines = append(f.next.lines, line...)
	if !f.writing {
		f.writing = true
		go f.drain()
	}
	return f.next
}

// drain writes until nothing waits.
func (f *letterFile) drain() {
	for {
		f.mu.Lock()
		b, limit := f.next, f.limit
		f.next, f.writing = nil, b != nil
		f.mu.Unlock()
		if b == nil {
			return
		}
		b.err = f.write(b.lines, limit)
		close(b.done)
	}
}

// write appends lines, and a new file's name to its directory, durably. The file is opened
// each time: it may have been moved away.
func (f *letterFile) write(lines []byte, limit rotation) error {
	f.disk.Lock()
	defer f.disk.Unlock()
	if err := f.rotate(int64(len(lines)), limit); err != nil {
		return fmt.Errorf("begin a new dead letter file: %w", err)
	}
	file, err := f.open()
	if err != nil {
		return fmt.Errorf("open dead letter file: %w", err)
	}
	defer file.Close()
	torn, err := endsTorn(file)
	if err != nil {
		return fmt.Errorf("read the end of dead letter file: %w", err)
	}
	if torn {
		lines = append([]byte{'\n'}, lines...)
	}
	if n, err := file.Write(lines); err != nil {
		return fmt.Errorf("write dead letter: %w", errors.Join(err, takeBack(file, n)))
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync dead letter: %w", err)
	}
	for ; len(f.unnamed) > 0; f.unnamed = f.unnamed[1:] {
		if err := f.syncDir(f.unnamed[0]); err != nil {
			return fmt.Errorf("sync dead letter directory: %w", err)
		}
	}
	return nil
}

// endsTorn says whether the last line has no end, as one that was being written when the machine stopped: what follows would be lost with it.
func endsTorn(file *os.File) (bool, error) {
	st, err := file.Stat()
	if err != nil || st.Size() == 0 || !st.Mode().IsRegular() {
		return false, err
	}
	var last [1]byte
	_, err = file.ReadAt(last[:], st.Size()-1)
	if errors.Is(err, io.EOF) { // it was emptied meanwhile
		return false, nil
	}
	return last[0] != '\n', err
}

// takeBack removes the last n bytes, which are a part of what should have been appended: a
// line that is torn would spoil the next one, too.
func takeBack(file *os.File, n int) error {
	st, err := file.Stat()
	if err != nil || n == 0 || !st.Mode().IsRegular() || st.Size() < int64(n) { // it may have been emptied meanwhile
		return err
	}
	return file.Truncate(st.Size() - int64(n))
}

// open opens the file, and makes it if there is none.
func (f *letterFile) open() (*os.File, error) {
	dir := filepath.Dir(f.path)
	file, err := openLetters(f.path, os.O_APPEND|os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		made, err := makeDirs(dir)
		if err != nil {
			return nil, err
		}
		f.unnamed = append(f.unnamed, append(made, dir)...)
		return openLetters(f.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o640)
	}
	if f.unnamed == nil { // whoever made it may not have got that far
		f.unnamed = []string{dir}
	}
	return file, err
}

// makeDirs makes a directory and those above it, and returns where it made any.
func makeDirs(dir string) (parents []string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) || d == filepath.Dir(d) {
			break
		}
		parents = append(parents, filepath.Dir(d))
	}
	return parents, os.MkdirAll(dir, 0o750)
}

// syncDir waits until a directory's names are on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
