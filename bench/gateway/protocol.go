package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"eproxy/internal/config"
	"eproxy/internal/mqtt"
	"eproxy/internal/request"
)

// errUnsupported ends a device's connection.
var errUnsupported = errors.New("not a packet that this gateway knows")

var (
	connack  = []byte{0x20, 2, 0, 0}
	pingresp = []byte{0xd0, 0}
)

// wholePacket is the length of the packet at the beginning of b, 0 if it is not there whole.
func wholePacket(b []byte) (int, error) {
	length := 0
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			if total := 1 + i + length; total <= len(b) {
				return total, nil
			}
			return 0, nil
		}
		if i == 4 {
			return 0, errUnsupported
		}
	}
	return 0, nil
}

// clientID is what a CONNECT of MQTT 3.1.1 says.
func clientID(packet []byte) (string, error) {
	at := bytes.Index(packet, []byte("\x00\x04MQTT\x04"))
	if at < 0 || len(packet) < at+12 {
		return "", errUnsupported
	}
	id := packet[at+10:]
	n := int(binary.BigEndian.Uint16(id))
	if len(id) < 2+n {
		return "", errUnsupported
	}
	return string(id[2 : 2+n]), nil
}

// sender is a device's part of its requests.
type sender struct {
	prefix []byte // up to ce-subject's value
	next   uint64 // of ce-id
}

func newSender(fn *config.Function, id string, serial uint64) *sender {
	prefix := request.Sender(request.Prefix(fn), id, "", false)
	return &sender{append(prefix, "\r\nce-subject: "...), serial << 40}
}

// function is what the requests of this URL begin with.
func function(raw string) (*config.Function, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	return &config.Function{URL: u}, nil
}

const zeros = "0000000000000000"

// appendRequest appends the request of a PUBLISH: the bytes of eproxy's.
func (s *sender) appendRequest(dst, packet []byte, p *mqtt.Publish) []byte {
	dst = append(dst, s.prefix...)
	dst = request.EncodeValue(dst, string(p.Topic))
	if p.QoS == 1 {
		dst = append(dst, "\r\nX-Mqtt-Qos: 1"...)
	}
	dst = append(dst, "\r\nce-id: "...)
	s.next++
	var hex [16]byte
	id := strconv.AppendUint(hex[:0], s.next, 16)
	dst = append(append(dst, zeros[len(id):]...), id...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(p.Length-p.Head), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, packet[p.Head:p.Length]...)
}

// appendPuback appends a PUBACK.
func appendPuback(dst []byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, 0x40, 2), id)
}

var (
	errResponse   = errors.New("not a response with Content-Length")
	errRefused    = errors.New("the function did not answer 2xx")
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
	protocol      = []byte("HTTP/1.1 ")
)

// wholeResponse is the length of the response at the beginning of b, 0 if it is not there whole.
func wholeResponse(b []byte) (int, error) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return 0, nil
	}
	head := b[:end+2]
	at := bytes.Index(head, contentLength)
	if at < 0 || !bytes.HasPrefix(head, protocol) {
		return 0, fmt.Errorf("%w: %.60q", errResponse, head)
	}
	if head[len(protocol)] != '2' {
		return 0, fmt.Errorf("%w: %.60q", errRefused, head)
	}
	body := 0
	for _, c := range head[at+len(contentLength):] {
		if c < '0' || c > '9' {
			break
		}
		body = body*10 + int(c-'0')
	}
	if total := end + len(headEnd) + body; total <= len(b) {
		return total, nil
	}
	return 0, nil
}

// message is one that waits for its response.
type message[D any] struct {
	device D
	id     uint16 // 0: QoS 0
}
