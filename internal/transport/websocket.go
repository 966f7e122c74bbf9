package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// ErrUpgrade is that of a connection that does not become a WebSocket.
var ErrUpgrade = errors.New("WebSocket upgrade")

// errText ends a connection whose client sends text: MQTT packets travel in binary frames [MQTT-6.0.0-1].
var errText = errors.New("WebSocket frame that is not binary [MQTT-6.0.0-1]")

// upgradeSize is how many bytes a client's HTTP request may have.
const upgradeSize = 16 << 10

// websocketServer makes WebSockets of connections. Any path will do.
type websocketServer struct {
	upgrader websocket.Upgrader
	origins  []string
}

// Subprotocols that carry MQTT: [MQTT-6.0.0-4], and what clients of MQTT 3.1 say.
var subprotocols = []string{"mqtt", "mqttv3.1"}

func newWebsocketServer(origins []string) *websocketServer {
	s := &websocketServer{origins: origins}
	s.upgrader = websocket.Upgrader{
		Subprotocols: subprotocols, CheckOrigin: s.mayConnect, ReadBufferSize: 1024, WriteBufferSize: 1024,
		WriteBufferPool: &sync.Pool{}, // idle connections need none
	}
	return s
}

// mayConnect says whether a web page may connect. What is no browser sends no Origin, or what it likes: this
// protects a browser's user, not the server (RFC 6455 section 10.2).
func (s *websocketServer) mayConnect(r *http.Request) bool {
	o := r.Header.Get("Origin")
	return o == "" || len(s.origins) == 0 || slices.Contains(s.origins, strings.ToLower(o))
}

// upgrade reads a client's HTTP request and answers it.
func (s *websocketServer) upgrade(c net.Conn) (Conn, error) {
	br := bufio.NewReaderSize(io.LimitReader(c, upgradeSize), 1024) // the library reads from c behind it
	r, err := http.ReadRequest(br)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUpgrade, err)
	}
	w := &answer{conn: c, in: br, header: make(http.Header)}
	if !slices.ContainsFunc(websocket.Subprotocols(r), func(p string) bool { return slices.Contains(subprotocols, p) }) && websocket.IsWebSocketUpgrade(r) {
		http.Error(w, "Sec-WebSocket-Protocol: mqtt is missing [MQTT-6.0.0-3]", http.StatusBadRequest)
		return nil, fmt.Errorf("%w: subprotocol mqtt is missing", ErrUpgrade)
	}
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUpgrade, err)
	}
	f := &framed{ws: ws}
	f.below, _ = c.(interface{ CloseWrite() error })
	return f, nil
}

// answer is the http.ResponseWriter of a request that was read from a connection without a server: the
// library asks it for the connection, or refuses.
type answer struct {
	conn   net.Conn
	in     *bufio.Reader
	header http.Header
	status int
}

func (a *answer) Header() http.Header { return a.header }

// WriteHeader ends the head of a refusal, after which the connection is closed.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.header.Set("Connection", "close")
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = a.header.Write(&b)
	_, _ = io.WriteString(a.conn, b.String()+"\r\n")
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.conn.Write(p)
}

// Hijack hands the connection over.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return a.conn, bufio.NewReadWriter(a.in, bufio.NewWriterSize(a.conn, 16)), nil
}

// framed is a WebSocket as a stream of bytes: where frames begin and end means nothing to MQTT [MQTT-6.0.0-2].
type framed struct {
	ws    *websocket.Conn
	from  io.Reader // the message that is being read; nil: none
	mu    sync.Mutex
	below interface{ CloseWrite() error } // TLS; nil: none
}

func (f *framed) Read(p []byte) (int, error) {
	for {
		if f.from == nil {
			kind, r, err := f.ws.NextReader()
			if err != nil {
				return 0, ended(err)
			}
			if kind != websocket.BinaryMessage {
				f.say(websocket.CloseUnsupportedData)
				return 0, errText
			}
			f.from = r
		}
		n, err := f.from.Read(p)
		if err == io.EOF {
			f.from, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, ended(err)
		}
	}
}

// ended is io.EOF for a client that has said that it goes.
func ended(err error) error {
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
		return io.EOF
	}
	return err
}

// Write sends one binary message.
func (f *framed) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Finish sends a close frame, and ends TLS.
func (f *framed) Finish() {
	f.say(websocket.CloseNormalClosure)
	if f.below != nil {
		_ = f.below.CloseWrite()
	}
}

// farewell is how long a close frame may wait for a packet that is being written.
const farewell = 100 * time.Millisecond

func (f *framed) say(code int) {
	_ = f.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(farewell))
}
